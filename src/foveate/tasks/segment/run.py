"""Evaluate, predict and attend with a finished run that segments."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from foveate.capture import taps
from foveate.data import SUFFIXES
from foveate.data.nifti import NIFTI, is_nifti
from foveate.data.scans import read_image
from foveate.data.volumes import Volume
from foveate.data.writing import write_labels, write_map
from foveate.errors import DataError
from foveate.tasks import files
from foveate.tasks.environment import pick_device
from foveate.tasks.segment.inference import slide
from foveate.tasks.segment.looks import looker, placed_taps
from foveate.tasks.segment.metrics import summarise, write_scores
from foveate.tasks.segment.network import load_run, preparation_of
from foveate.tasks.segment.overlays import write_overlay
from foveate.tasks.segment.preparation import Preparation, Prepared
from foveate.tasks.segment.scoring import infer, open_data, open_other, score_cases

__all__ = ["attend", "evaluate", "predict"]

CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's number of a channel, at the end of a name
DICOM = (".dcm", ".dicom", ".ima")

Inputs = dict[str, tuple[Path, ...] | Path]  # the files of each, a folder of a DICOM series


def evaluate(run: Path, data: str | None, split: str, *, device: str, rows: Path | None) -> dict[str, float | None]:
    """Means over the cases of a split, with intervals, and the counts of missed and absent structures.

    A row for each case and class is written to `rows`.
    """
    network, config, preparation = load_run(run)
    volumes = open_data(config) if data is None else open_other(data, Path(run) / files.SPLITS)
    if volumes.classes != preparation.classes:
        raise DataError(f"{volumes.source} has classes {volumes.classes}; the run knows {preparation.classes}")
    cases = volumes.splits[split]
    if not cases:
        raise DataError(f"{volumes.source} has no case in its {split} split")
    scores = score_cases(network, preparation, config, volumes, cases, pick_device(device))
    if rows is not None:
        with files.world_errors(rows):
            write_scores(rows, scores)
    return summarise(scores)


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> Path:
    """Write for each input NAME, its label map, NAME.CLASS, the probability of each class but the background, and
    NAME.overlay.png, the label map over the scan; return `out`.
    """
    given = given_inputs(inputs, preparation_of(run))
    _keep_apart(given, out)
    network, config, preparation = load_run(run)
    where, out = pick_device(device), Path(out)
    network.to(where)
    known = {value: number for number, value in enumerate(preparation.values)}
    with files.world_errors(out):
        for volume in read_inputs(given, preparation):
            label, found, ready = infer(network, preparation, config, volume, where)
            write_labels(named(out, volume), label, volume, known)
            for number, name in enumerate(preparation.classes[1:], start=1):
                write_map(named(out, volume, name), found.probability(number).clamp(0, 1), volume)
            _overlay(out / f"{volume.name}.overlay.png", ready, label, volume, labels=True)
    return out


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> list[Path]:
    """Write for each input and each map of the network NAME.TAP, in the input's space, and NAME.TAP.png, the map over
    the scan; their paths.

    Windows are blended as they are for predictions. The channels of a map are averaged.

    Raises:
        LookupError: The network has no map with places.
    """
    given = given_inputs(inputs, preparation_of(run))
    _keep_apart(given, out)
    network, _, preparation = load_run(run)
    where, out = pick_device(device), Path(out)
    axes = placed_taps(taps(network))
    if not axes:
        raise LookupError(f"{type(network).__name__} of {run} has no gate or map with places to look at")
    look = looker(network.to(where), axes, len(preparation.patch_size))
    written: list[Path] = []
    with files.world_errors(out):
        for volume in read_inputs(given, preparation):
            ready = preparation.prepare(volume)
            found = slide(look, ready.image[None], preparation.patch_size, overlap=0.5, device=where)[0]
            for name, seen in zip(axes, found, strict=True):
                own = ready.grid.back(seen[None])[0]
                path = named(out, volume, name)
                write_map(path, own.clamp(0, 1) if path.suffix == ".png" else own, volume)
                written.append(path)
                written.append(_overlay(out / f"{volume.name}.{name}.overlay.png", ready, own, volume))
    return written


def _overlay(path: Path, ready: Prepared, over: Tensor, volume: Volume, *, labels: bool = False) -> Path:
    """Over the first channel of what the network saw, on its grid."""
    shown = ready.grid.there(over[None], labels=labels)[0]
    own = [volume.spacing[axis] for axis in ready.grid.order]
    sizes = zip(own, ready.grid.shape, ready.grid.size, strict=True)
    return write_overlay(path, ready.image[0], shown, [mm * n / to for mm, n, to in sizes], labels=labels)


def named(out: Path, volume: Volume, part: str | None = None) -> Path:
    """Where a result for a volume goes: .png for pictures, .nii.gz for scans."""
    ending = ".png" if volume.header is None and len(volume.spacing) == 2 else ".nii.gz"
    return out / (f"{volume.name}{ending}" if part is None else f"{volume.name}.{part.replace('/', '_')}{ending}")


def given_inputs(inputs: Sequence[Path], preparation: Preparation) -> Inputs:
    """What was named on the command line, by name: NIfTI files, pictures, DICOM series, or folders of the former.

    Several channels come in one file, or in files NAME_0000, NAME_0001 as nnU-Net names them.

    Raises:
        DataError: An input does not exist, or two would have results of one name.
    """
    given: Inputs = {}
    for path in map(Path, inputs):
        if not path.exists():
            raise DataError(f"{path} does not exist")
        inside = _files(path) if path.is_dir() else [path]
        found = _cases(inside, len(preparation.modalities)) if inside else {path.resolve().name: path}
        for name, images in found.items():
            if name in given:
                raise DataError(f"{path} and another input are both called {name}; give them in two calls")
            given[name] = images
    if not given:
        raise DataError("at least one scan or picture is needed; none was given")
    return given


def _keep_apart(given: Inputs, out: Path) -> None:
    """Refuse to write among the scans, of which a label map would replace the one that it is called after."""
    for images in given.values():
        if isinstance(images, tuple) and any(image.resolve().parent == Path(out).resolve() for image in images):
            raise ValueError(f"results must not replace the scans that they are called after; {out} holds {images[0]}")


def read_inputs(given: Inputs, preparation: Preparation) -> Iterator[Volume]:
    """Read one after the other what given_inputs() found; a folder is a DICOM series."""
    for name, images in given.items():
        if isinstance(images, tuple):
            yield read_image(images, preparation.modalities, preparation.spatial_dims, name)
        else:
            from foveate.data.dicom import read_series

            yield dataclasses.replace(read_series(images), name=name)


def _files(folder: Path) -> list[Path]:
    """The scans and pictures in a folder; none of a DICOM series, which is read as one."""
    held = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for path in held if is_nifti(path) or path.suffix.lower() in SUFFIXES]


def _cases(paths: Sequence[Path], channels: int) -> Inputs:
    parts: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() in DICOM:
            raise DataError(f"{path} is a slice of a DICOM series; give the folder of the series")
        name = next((path.name[: -len(end)] for end in NIFTI if path.name.lower().endswith(end)), path.stem)
        parts.setdefault(CHANNEL.sub("", name) if channels > 1 else name, []).append(path)
    return {name: tuple(images) for name, images in parts.items()}
