"""Make and use a run that detects."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data.boxes import open_box_split
from foveate.data.contents import contents_of
from foveate.data.depth import set_bits
from foveate.errors import DataError
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.networks import catalogue
from foveate.tasks import files
from foveate.tasks.detect.attending import Attention, Point, attention_in, mask_panels, point_panels, query_panels
from foveate.tasks.detect.drawing import draw_found, write_picture, write_sheet
from foveate.tasks.detect.found import detect
from foveate.tasks.detect.job import DetectJob as RunJob
from foveate.tasks.detect.job import open_data
from foveate.tasks.detect.network import load_run, mechanism_modules, preparation_of
from foveate.tasks.detect.panoptic import panoptic
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.results import PanopticResults, Results
from foveate.tasks.detect.scoring import average_precision, find_all, write_predictions
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import finished
from foveate.tasks.inputs import each_input, given_pictures, keep_apart
from foveate.tasks.overlays import flat_names, overlay
from foveate.tasks.record import Guard

__all__ = ["RunJob", "attend", "evaluate", "open_name", "open_run", "predict", "usual_shape"]

CHANNELS = 3
SHOWN = 0.5  # the least score of what is written and drawn


def evaluate(
    run: Path, data: str | None, split: str, *, device: str, rows: Path | None, guard: Guard
) -> dict[str, Any]:
    """COCO's average precision and recall on a split of some data; `rows` takes a row for each box.

    Of other data than the run's own, a COCO json file is measured as a whole.
    """
    network, config, preparation = load_run(run)
    boxes = open_data(config) if data is None else open_box_split(data, split, masks=config.masks, images=config.images)
    if boxes.classes != preparation.classes:
        raise DataError(f"{boxes.source} has classes {boxes.classes}; the run knows {preparation.classes}")
    set_bits(boxes.splits, preparation.bits)
    chosen = boxes.splits[split]
    if not len(chosen):
        raise DataError(f"{boxes.source} has no picture in its {split} split")
    if data is None:
        guard.own(split, contents_of(chosen))
    else:
        guard.other(split, contents_of(chosen), boxes.source, whole=False)
    found = find_all(network.to(pick_device(device)), preparation, chosen)
    if rows is not None:
        with files.world_errors(rows):
            write_predictions(rows, found, chosen, preparation)
    measured = {"samples": {split: len(chosen)}, "measured": boxes.rule}
    return {**measured, **average_precision(found, chosen, preparation)}


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str, threshold: float = SHOWN) -> Path:
    """Write predictions.json, all that is found with a higher score than the threshold, in COCO's layout, and for each
    picture NAME.found.png; of a run with masks also panoptic.json and for each picture NAME.panoptic.png. Return `out`.
    """
    _check_threshold(threshold)
    keep_apart(inputs, out)
    preparation, out = preparation_of(run), Path(out)
    split, names = given_pictures(inputs, CHANNELS, preparation.bits)
    network, _, _ = load_run(run)
    network.to(pick_device(device))
    flats = list(flat_names(names))
    results, segments = Results(preparation), PanopticResults(preparation, out)
    with files.world_errors(out), each_input() as usable:
        for index, image in usable.each(split.image, range(len(names))):
            name, flat = names[index], flats[index]
            size = (image.shape[1], image.shape[2])
            found, answer = detect(network, preparation, image)
            queries = found.above(threshold).tolist()
            results.add(name, size, found, queries)
            write_picture(out / f"{flat}.found.png", draw_found(image, found, queries, preparation.classes))
            if preparation.masks:
                segments.add(name, flat, *panoptic(answer, preparation, size, preparation.size.of(*size)))
        results.write(out / "predictions.json")
        if preparation.masks:
            segments.write(out / "panoptic.json")
    return out


def attend(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    device: str,
    threshold: float = SHOWN,
    points: Sequence[Point] = (),
    heads: bool = False,
    layer: int | None = None,
) -> list[Path]:
    """Write for each picture NAME.queries.png, where the query of each found box looks, and NAME.points.png, what
    points of it look at and what looks at them; their paths.

    Of a run with masks there is NAME.masks.png too, what each mask begins with; of one with a mechanism NAME.TAP.png
    for each of its maps with places, and gates.csv for gates of channels.

    Args:
        run: The run.
        inputs: Pictures, and folders of them.
        out: The folder to write to.
        device: Where to compute.
        threshold: The least score of a box; of a picture without any the best box is taken.
        points: (x, y) in pixels. Default: the middles of the best boxes.
        heads: Whether every head has a map of its own, or one shows their mean.
        layer: Of encoder and decoder, from 1. Default: the last of each.
    """
    _check_threshold(threshold)
    keep_apart(inputs, out)
    network, config, preparation = load_run(run)
    split, names = given_pictures(inputs, CHANNELS, preparation.bits)
    network.to(pick_device(device))
    new, out = mechanism_modules(config, [dict(site) for site in finished(run).sites]), Path(out)
    flats = list(flat_names(names))
    written: list[Path] = []
    gates: list[tuple[str, Attention]] = []
    with files.world_errors(out), each_input() as usable:
        for index, image in usable.each(split.image, range(len(names))):
            name, flat = names[index], flats[index]
            seen = attention_in(network, preparation, new, image, threshold=threshold, points=points, layer=layer)
            sheets = {
                "queries": query_panels(image, seen, preparation.classes, heads=heads),
                "points": point_panels(image, seen, heads=heads),
                "masks": mask_panels(image, seen, preparation.classes, heads=heads),
            }
            columns = network.num_heads if heads else 4
            for kind, panels in sheets.items():
                if panels:
                    written.append(write_sheet(out / f"{flat}.{kind}.png", panels, f"{name}: {TITLES[kind]}", columns))
            for tap, heat in seen.spatial.items():
                written.append(write_picture(out / f"{flat}.{tap}.png", overlay(image, heat)))
            gates.append((name, seen))
        if any(seen.gates for _, seen in gates):
            written.append(_write_gates(out / "gates.csv", gates))
    return written


TITLES = {
    "queries": "where the query of each box looks",
    "points": "attention of the encoder",
    "masks": "what each mask begins with",
}


def open_run(run: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a run, and the (channels, height, width) of a usual picture."""
    network, _, preparation = load_run(run)
    return network, usual_shape(preparation)


def usual_shape(preparation: Preparation) -> tuple[int, int, int]:
    """(channels, height, width) of a picture of a run's size and of a camera's shape."""
    return CHANNELS, preparation.short, min(preparation.longest, round(preparation.short * 4 / 3))


def open_name(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name, for the 91 classes of COCO; its weights are drawn the same each time, for what some networks
    compute depends on them.
    """
    if len(shape) != 3 or shape[0] != CHANNELS:
        raise ValueError(f"{network} takes 3 channels, height and width; got {'x'.join(map(str, shape))}")
    options = {} if mechanism == "none" else {"mechanism": mechanism}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return catalogue.build(network, num_classes=91, **options).eval(), shape


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1; got {threshold:g}")


def _write_gates(path: Path, seen: Sequence[tuple[str, Attention]]) -> Path:
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["picture", "tap", "channel", "gate"])
    for name, attention in seen:
        for tap, gates in attention.gates.items():
            writer.writerows([name, tap, channel, f"{gate:.6g}"] for channel, gate in enumerate(gates.tolist()))
    write_atomic(path, text.getvalue())
    return path
