"""Make and use a run that segments."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor, nn

from foveate.capture import taps
from foveate.data import SUFFIXES
from foveate.data.dicom import SLICES, is_slice, read_series
from foveate.data.nifti import NIFTI, is_nifti
from foveate.data.scans import read_image
from foveate.data.volumes import Volume
from foveate.data.writing import write_labels, write_map
from foveate.errors import DataError
from foveate.tasks import files
from foveate.tasks.environment import pick_device
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import slide
from foveate.tasks.segment.job import SegmentJob as RunJob
from foveate.tasks.segment.looks import looker, placed_taps
from foveate.tasks.segment.metrics import summarise, write_scores
from foveate.tasks.segment.network import build_network, load_run, preparation_of
from foveate.tasks.segment.overlays import write_overlay
from foveate.tasks.segment.preparation import Preparation, Prepared
from foveate.tasks.segment.scoring import infer, open_begun, open_other, score_cases

__all__ = ["RunJob", "attend", "evaluate", "open_name", "open_run", "predict"]

CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's number of a channel, at the end of a name

Inputs = dict[str, tuple[Path, ...] | Path]  # the files of each, a folder of a DICOM series


def evaluate(run: Path, data: str | None, split: str, *, device: str, rows: Path | None) -> dict[str, float | None]:
    """Means over the cases of a split, with intervals, and the counts of missed and absent structures.

    A row for each case and class is written to `rows`.
    """
    network, config, preparation = load_run(run)
    splits = Path(run) / files.SPLITS
    if data is None:
        volumes = open_begun(config, splits)
        cases = volumes.splits[split]
    else:
        volumes, cases = open_other(data, splits, split)
    if volumes.classes != preparation.classes:
        raise DataError(f"{volumes.source} has classes {volumes.classes}; the run knows {preparation.classes}")
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
    preparation, out = preparation_of(run), Path(out)
    given = given_inputs(inputs, preparation)
    _keep_apart(given, out)
    _keep_files(given, out, preparation.classes[1:])
    network, config, preparation = load_run(run)
    where = pick_device(device)
    network.to(where)
    known = {value: number for number, value in enumerate(preparation.values)}
    with files.world_errors(out):
        for volume in read_inputs(given, preparation):
            label, found, ready = infer(network, preparation, config, volume, where)
            ending = _ending(given[volume.name])
            write_labels(out / _called(volume.name, ending), label, volume, known)
            for number, name in enumerate(preparation.classes[1:], start=1):
                write_map(out / _called(volume.name, ending, name), found.probability(number).clamp(0, 1), volume)
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
    network, config, preparation = load_run(run)
    where, out = pick_device(device), Path(out)
    axes = placed_taps(taps(network))
    if not axes:
        raise LookupError(f"{type(network).__name__} of {run} has no gate or map with places to look at")
    look = looker(network.to(where), axes, len(preparation.patch_size))
    written: list[Path] = []
    with files.world_errors(out):
        for volume in read_inputs(given, preparation):
            ready = preparation.prepare(volume)
            found = slide(look, ready.image[None], preparation.patch_size, overlap=config.overlap, device=where)[0]
            for name, seen in zip(axes, found, strict=True):
                own = ready.grid.back(seen[None])[0]
                path = out / _called(volume.name, _ending(given[volume.name]), name)
                write_map(path, own.clamp(0, 1) if path.suffix == ".png" else own, volume)
                written.append(path)
                written.append(_overlay(out / f"{volume.name}.{name}.overlay.png", ready, own, volume))
    return written


def open_run(run: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a run, and the (channels, *space) of its patches."""
    network, _, preparation = load_run(run)
    return network, (len(preparation.modalities), *preparation.patch_size)


def open_name(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name, for 2 classes."""
    channels = [str(number) for number in range(shape[0])]
    prepared = Preparation(["background", "foreground"], [0, 1], channels, len(shape) - 1, None, [], shape[1:])
    built, _ = build_network(SegmentConfig(data="none", network=network, mechanism=mechanism), prepared)
    return built.eval(), shape


def _overlay(path: Path, ready: Prepared, over: Tensor, volume: Volume, *, labels: bool = False) -> Path:
    """Over the first channel of what the network saw, on its grid."""
    shown = ready.grid.there(over[None], labels=labels)[0]
    own = [volume.spacing[axis] for axis in ready.grid.order]
    sizes = zip(own, ready.grid.shape, ready.grid.size, strict=True)
    return write_overlay(path, ready.image[0], shown, [mm * n / to for mm, n, to in sizes], labels=labels)


def _called(name: str, ending: str, part: str | None = None) -> str:
    """The file of a result."""
    return f"{name}{ending}" if part is None else f"{name}.{part.replace('/', '_')}{ending}"


def _ending(images: tuple[Path, ...] | Path) -> str:
    """Of the results for an input: .png for pictures, .nii.gz for scans."""
    return ".png" if isinstance(images, tuple) and not is_nifti(images[0]) else ".nii.gz"


def given_inputs(inputs: Sequence[Path], preparation: Preparation) -> Inputs:
    """What was named on the command line, by name: NIfTI files, pictures, DICOM series, or folders of the former.

    Several channels come in one file, or in files NAME_0000, NAME_0001 as nnU-Net names them.

    Raises:
        DataError: An input does not exist, or two would have results of one name.
    """
    files: list[Path] = []
    series: list[Path] = []
    given: Inputs = {}
    for path in map(Path, inputs):
        if not path.exists():
            raise DataError(f"{path} does not exist")
        inside = _files(path) if path.is_dir() else [path]
        files += inside
        if not inside:
            series.append(path)
    found: list[tuple[str, tuple[Path, ...] | Path]] = [(folder.resolve().name, folder) for folder in series]
    for name, images in [*_cases(files, len(preparation.modalities)), *found]:
        if name in given:
            raise DataError(f"two inputs are both called {name}; give them in two calls")
        given[name] = images
    if not given:
        raise DataError("at least one scan or picture is needed; none was given")
    return given


def _keep_apart(given: Inputs, out: Path) -> None:
    """Refuse to write among the scans, of which a label map would replace the one that it is called after."""
    for images in given.values():
        held = {each: each.parent for each in images} if isinstance(images, tuple) else {images: images}
        for scan, folder in held.items():
            if folder.resolve() == Path(out).resolve():
                raise ValueError(f"results must not replace the scans that they are called after; {out} holds {scan}")


def _keep_files(given: Inputs, out: Path, classes: Sequence[str]) -> None:
    """Refuse to replace a file, which may be a truth drawn by hand under the name of its scan."""
    for name, images in given.items():
        parts = [_called(name, _ending(images), part) for part in (None, *classes)]
        for file in (*parts, f"{name}.overlay.png"):
            if (out / file).exists():
                raise ValueError(f"results must not replace a file; {out / file} exists")


def read_inputs(given: Inputs, preparation: Preparation) -> Iterator[Volume]:
    """Read one after the other what given_inputs() found; a folder is a DICOM series."""
    for name, images in given.items():
        if isinstance(images, tuple):
            yield read_image(images, preparation.modalities, preparation.spatial_dims, name)
        else:
            yield dataclasses.replace(read_series(images), name=name)


def _files(folder: Path) -> list[Path]:
    """The scans and pictures in a folder; none of a DICOM series, which is read as one."""
    held = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    scans = [path for path in held if is_nifti(path) or path.suffix.lower() in SUFFIXES]
    slices = [path for path in held if path not in scans and is_slice(path)] if scans else []
    if slices:
        raise DataError(
            f"{folder} holds {scans[0].name} beside slices of a DICOM series, such as {slices[0].name}; give a folder "
            "for each"
        )
    return scans


def _cases(paths: Sequence[Path], channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    """Files by the name of their case; of a case in several, sorted by channel."""
    found: list[tuple[str, tuple[Path, ...]]] = []
    parts: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        if path.suffix.lower() in SLICES:
            raise DataError(f"{path} is a slice of a DICOM series; give the folder of the series")
        name = next((path.name[: -len(end)] for end in NIFTI if path.name.lower().endswith(end)), path.stem)
        match = CHANNEL.fullmatch(name) if channels > 1 else None
        if match is None:
            found.append((name, (path,)))
        else:
            parts.setdefault(match[1], []).append((int(match[2]), path))
    for name, numbered in parts.items():
        numbers, images = zip(*sorted(numbered), strict=True)
        if len(images) > 1 and numbers != tuple(range(channels)):  # one file may hold all channels
            wanted = f"{name}_0000 to {name}_{channels - 1:04}, a file a channel"
            raise DataError(f"{name} takes {wanted}; got {', '.join(image.name for image in images)}")
        found.append((name, images))
    return found
