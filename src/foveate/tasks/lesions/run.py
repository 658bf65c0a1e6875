"""Make and use a run that detects in slices of volumes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data.contents import contents_of
from foveate.data.nifti import is_nifti
from foveate.data.stacks import Stack
from foveate.data.volume_stacks import cut_stack
from foveate.data.volumes import Volume
from foveate.data.writing import write_labels
from foveate.errors import DataError
from foveate.files import write_atomic
from foveate.networks import MaskRCNN, catalogue
from foveate.tasks import files
from foveate.tasks.attention import own_taps
from foveate.tasks.detect.drawing import write_sheet
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import finished
from foveate.tasks.inputs import each_input
from foveate.tasks.lesions.attending import Drawn, drawn_on, panels, write_weights
from foveate.tasks.lesions.found import Found, Stitched, find
from foveate.tasks.lesions.froc import write_curve
from foveate.tasks.lesions.job import LesionJob as RunJob
from foveate.tasks.lesions.job import open_data, open_other
from foveate.tasks.lesions.looks import shown
from foveate.tasks.lesions.montage import lesion_panels
from foveate.tasks.lesions.network import input_shape, load_run, mechanism_modules, preparation_of
from foveate.tasks.lesions.preparation import Preparation, Ready
from foveate.tasks.lesions.results import results_of
from foveate.tasks.lesions.scoring import score_split, write_predictions
from foveate.tasks.lesions.tracing import trace
from foveate.tasks.record import Guard
from foveate.tasks.scans import Scans, given_scans, keep_apart, keep_files, read_scan
from foveate.tasks.segment.metrics import write_scores

__all__ = ["RunJob", "attend", "evaluate", "open_name", "open_run", "predict"]

MOST = 12  # lesions of a volume that are drawn


def evaluate(
    run: Path, data: str | None, split: str, *, device: str, rows: Path | None, guard: Guard
) -> dict[str, Any]:
    """Sensitivities, average precision over slices, and the Dice of stitched label maps on a split of some data.

    `rows` takes a row for each volume and class, where masks are known, else one for each box; beside it FROC.csv takes
    the curve.

    Raises:
        DataError: The data has other classes than the run, or no volume in the split.
    """
    network, config, preparation = load_run(run)
    stacks = open_data(config) if data is None else open_other(config, data, split, Path(run) / files.SLICES)
    if stacks.classes != preparation.classes:
        raise DataError(f"{stacks.source} has classes {stacks.classes}; the run knows {preparation.classes}")
    if preparation.masks and not stacks.masks:
        raise DataError(f"{stacks.source} has boxes alone; the run learned masks, and is measured on data with masks")
    if not len(stacks.splits[split]):
        raise DataError(f"{stacks.source} has no volume in its {split} split")
    contents = contents_of(stacks.splits[split])
    if data is None:
        guard.own(split, contents)
    else:
        guard.other(split, contents, stacks.source, whole=False)
    scored = score_split(network.to(pick_device(device)), preparation, stacks.splits[split], config.score)
    if rows is not None:
        with files.world_errors(rows):
            if preparation.masks:
                write_scores(rows, scored.cases)
            else:
                write_predictions(rows, scored.rows)
            write_curve(rows.with_name(f"{rows.stem}.froc.csv"), scored.froc.curve())
    measured = {"samples": {split: len(stacks.splits[split])}, "measured": stacks.rule}
    return {**measured, **scored.metrics(preparation.classes)}


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str, threshold: float | None = None) -> Path:
    """Write for each scan NAME: NAME.nii.gz, the label map in the scan's own space; NAME.boxes.json, the boxes of each
    slice and the lesions that they make up; and NAME.found.png, these lesions. Return `out`.

    Scans that cannot be read are told when all others are done.

    Args:
        run: The run.
        inputs: NIfTI files, folders of DICOM series, or folders of the former.
        out: The folder to write to.
        device: Where to compute.
        threshold: The least score of what is written. Default: that of the run.
    """
    given, out = _given(run, inputs, out), Path(out)
    for name in given:
        keep_files(out, [f"{name}.nii.gz", f"{name}.boxes.json", f"{name}.found.png"])
    network, config, preparation = load_run(run)
    network.to(pick_device(device))
    least = config.score if threshold is None else threshold
    known = {value: number for number, value in enumerate([0, *preparation.values])}
    with files.world_errors(out), each_input() as usable:
        for name, (volume, stack) in usable.each(lambda name: _cut(name, given[name], preparation), given):
            ready = preparation.prepare(stack)
            found = find_above(network, ready, least)
            lesions = trace(found, least)
            if preparation.masks:
                stitched = Stitched(ready, least)
                for index, here in found.items():
                    stitched.add(index, here)
                assert stack.back is not None
                write_labels(out / f"{name}.nii.gz", stack.back(ready.back(stitched.labels)), volume, known)
            told = results_of(name, stack, ready, found, lesions, preparation)
            write_atomic(out / f"{name}.boxes.json", json.dumps(told, indent=1) + "\n")
            if sheet := lesion_panels(ready, found, lesions[:MOST], preparation.classes):
                write_sheet(out / f"{name}.found.png", sheet, f"{name}: {_counted(len(lesions), least)}")
    return out


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str, threshold: float | None = None) -> list[Path]:
    """Write for each scan NAME and each lesion found in it NAME.lesionN.png, the slices of the bag with their weights
    and what was let through where, and slices.csv, the weights of all; their paths.

    Args:
        run: The run.
        inputs: As in predict.
        out: The folder to write to.
        device: Where to compute.
        threshold: The least score of a lesion. Default: that of the run; where none has it, the surest one is taken.

    Raises:
        LookupError: The network has no mechanism, or none whose maps have slices or places.
        DataError: Nothing is found in a scan, whatever the score; told when the others are done.
    """
    given, out = _given(run, inputs, out), Path(out)
    network, config, preparation = load_run(run)
    network.to(pick_device(device))
    new = mechanism_modules([dict(site) for site in finished(run).sites])
    if not new:
        raise LookupError(f"the network of {run} has no mechanism to look at; train one with --mechanism volumetric")
    if not any(map(shown, own_taps(network, new).values())):
        raise LookupError(f"the mechanism of {run} has no maps of slices or places")
    least = config.score if threshold is None else threshold
    written: list[Path] = []
    seen: list[tuple[str, Ready, Drawn]] = []
    bare: list[str] = []
    with files.world_errors(out), each_input() as usable:
        for name, (_, stack) in usable.each(lambda name: _cut(name, given[name], preparation), given):
            ready = preparation.prepare(stack)
            found = find_above(network, ready, 0.0, masks=False)
            lesions = trace(found, least) or trace(found, 0.0)[:1]
            bare += [name] if not lesions else []
            for lesion in lesions[:MOST]:
                drawn = drawn_on(network, new, ready, lesion)
                sheet = panels(drawn, ready)
                title = f"{name}, lesion {lesion.number}: {preparation.classes[lesion.label]} {lesion.score:.2f}"
                path = out / f"{name}.lesion{lesion.number}.png"
                written.append(write_sheet(path, sheet, f"{title}, slice {lesion.surest}, level {drawn.level}", 5))
                seen.append((name, ready, drawn))
        if any(drawn.weights for _, _, drawn in seen):
            written.append(write_weights(out / "slices.csv", seen, preparation.classes))
    if bare:
        raise DataError(f"nothing is found at any score in {', '.join(bare)}, so that there is nothing to look at")
    return written


def find_above(network: MaskRCNN, ready: Ready, least: float, *, masks: bool = True) -> dict[int, Found]:
    """By slice what is found in it with at least some score.

    At a low score the masks of a whole volume take gigabytes: without `masks` they are let go slice by slice.
    """
    held = {}
    for index, found in find(network, ready, range(len(ready))):
        held[index] = (found if masks else dataclasses.replace(found, masks=None)).above(least)
    return held


def _given(run: Path, inputs: Sequence[Path], out: Path) -> Scans:
    preparation = preparation_of(run)
    given = given_scans(inputs, len(preparation.modalities))
    for images in given.values():
        for image in images if isinstance(images, tuple) else ():
            if not is_nifti(image):
                raise DataError(f"{image} is a picture; this takes volumes, NIfTI or the folder of a DICOM series")
    keep_apart(given, out)
    return given


def _cut(name: str, images: tuple[Path, ...] | Path, preparation: Preparation) -> tuple[Volume, Stack]:
    """Read a scan and cut it into slices."""
    volume = read_scan(name, images, preparation.modalities, 3)
    return volume, cut_stack(volume, preparation.modalities.index(preparation.modality), preparation.plane)


def _counted(lesions: int, least: float) -> str:
    return f"{lesions} {'lesion' if lesions == 1 else 'lesions'} with a score of {least:g} or more"


def open_run(run: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a run, and the shape of one picture or bag."""
    network, _, _ = load_run(run)
    side = network.max_size
    return network, input_shape(network, (side, side))


def open_name(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name, for one kind of lesion; its weights are drawn the same each time, for what regions and heads
    compute depends on them.
    """
    volumetric = catalogue.describe(network).input.count("x") == 3
    if len(shape) != 3 + volumetric or shape[-3] != 3:
        wanted = f"{'slices, ' * volumetric}3 channels, height and width"
        raise ValueError(f"{network} takes {wanted}; got {'x'.join(map(str, shape))}")
    options: dict[str, Any] = {} if mechanism == "none" else {"mechanism": mechanism}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return catalogue.build(network, **options).eval(), shape
