"""Make and use a run that segments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.capture import taps
from foveate.data.contents import contents_of
from foveate.data.mask_values import MaskRule
from foveate.data.volumes import Volume
from foveate.data.writing import write_labels, write_map
from foveate.errors import DataError
from foveate.tasks import files
from foveate.tasks.environment import pick_device
from foveate.tasks.inputs import each_input
from foveate.tasks.record import Guard
from foveate.tasks.scans import ending, given_scans, keep_apart, keep_files, named, read_scan
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


def evaluate(
    run: Path, data: str | None, split: str, *, device: str, rows: Path | None, guard: Guard
) -> dict[str, Any]:
    """Means over the cases of a split, with intervals, and the counts of missed and absent structures.

    A row for each case and class is written to `rows`.
    """
    network, config, preparation = load_run(run)
    splits = Path(run) / files.SPLITS
    if data is None:
        volumes = open_begun(config, splits)
        cases = volumes.splits[split]
        guard.own(split, contents_of(cases))
    else:
        volumes, cases = open_other(data, splits, split, MaskRule(config.ignore, config.threshold))
    if volumes.classes != preparation.classes:
        raise DataError(f"{volumes.source} has classes {volumes.classes}; the run knows {preparation.classes}")
    if not cases:
        raise DataError(f"{volumes.source} has no case in its {split} split")
    scores = score_cases(network, preparation, config, volumes, cases, pick_device(device))
    if rows is not None:
        with files.world_errors(rows):
            write_scores(rows, scores)
    return {"samples": {split: len(cases)}, "measured": volumes.rule, **summarise(scores)}


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> Path:
    """Write for each input NAME, its label map, NAME.CLASS, the probability of each class but the background, and
    NAME.overlay.png, the label map over the scan; return `out`. Scans that cannot be read are told when all others are
    done.
    """
    preparation, out = preparation_of(run), Path(out)
    given = given_scans(inputs, len(preparation.modalities))
    keep_apart(given, out)
    for name, images in given.items():
        parts = [named(name, ending(images), part) for part in (None, *preparation.classes[1:])]
        keep_files(out, [*parts, f"{name}.overlay.png"])
    network, config, preparation = load_run(run)
    where = pick_device(device)
    network.to(where)
    known = {value: number for number, value in enumerate(preparation.values)}
    with files.world_errors(out), each_input() as usable:
        for name, volume in usable.each(lambda name: _readable(name, given[name], preparation), given):
            images = given[name]
            label, found, ready = infer(network, preparation, config, volume, where)
            write_labels(out / named(name, ending(images)), label, volume, known)
            for number, kind in enumerate(preparation.classes[1:], start=1):
                write_map(out / named(name, ending(images), kind), found.probability(number).clamp(0, 1), volume)
            _overlay(out / f"{name}.overlay.png", ready, label, volume, labels=True)
    return out


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> list[Path]:
    """Write for each input and each map of the network NAME.TAP, in the input's space, and NAME.TAP.png, the map over
    the scan; their paths.

    Windows are blended as they are for predictions. The channels of a map are averaged. Scans that cannot be read are
    told when all others are done.

    Raises:
        LookupError: The network has no map with places.
    """
    given = given_scans(inputs, len(preparation_of(run).modalities))
    keep_apart(given, out)
    network, config, preparation = load_run(run)
    where, out = pick_device(device), Path(out)
    axes = placed_taps(taps(network))
    if not axes:
        raise LookupError(f"{type(network).__name__} of {run} has no gate or map with places to look at")
    look = looker(network.to(where), axes, len(preparation.patch_size))
    written: list[Path] = []
    with files.world_errors(out), each_input() as usable:
        for name, volume in usable.each(lambda name: _readable(name, given[name], preparation), given):
            images, ready = given[name], preparation.prepare(volume)
            found = slide(look, ready.image[None], preparation.patch_size, overlap=config.overlap, device=where)[0]
            for tap, seen in zip(axes, found, strict=True):
                own = ready.grid.back(seen[None])[0]
                path = out / named(name, ending(images), tap)
                write_map(path, own.clamp(0, 1) if path.suffix == ".png" else own, volume)
                written.append(path)
                written.append(_overlay(out / f"{name}.{tap}.overlay.png", ready, own, volume))
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


def _readable(name: str, images: tuple[Path, ...] | Path, preparation: Preparation) -> Volume:
    """Read a scan that the network can take."""
    volume = read_scan(name, images, preparation.modalities, preparation.spatial_dims)
    preparation.check(volume)
    return volume


def _overlay(path: Path, ready: Prepared, over: Tensor, volume: Volume, *, labels: bool = False) -> Path:
    """Over the first channel of what the network saw, on its grid."""
    shown = ready.grid.there(over[None], labels=labels)[0]
    own = [volume.spacing[axis] for axis in ready.grid.order]
    sizes = zip(own, ready.grid.shape, ready.grid.size, strict=True)
    return write_overlay(path, ready.image[0], shown, [mm * n / to for mm, n, to in sizes], labels=labels)
