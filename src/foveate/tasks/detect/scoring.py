"""How good boxes and masks are: COCO's average precision, and what was found as a table."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.boxes import BoxSplit
from foveate.data.masks import check_extra
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.networks import DETR
from foveate.tasks.detect.found import Found, detect
from foveate.tasks.detect.preparation import Preparation

__all__ = ["average_precision", "find_all", "precision_metric", "summarise", "update", "write_predictions"]

# torchmetrics' names, which follow COCO's, and ours.
NAMES = {
    "map": "map",
    "map_50": "map50",
    "map_75": "map75",
    "map_small": "map_small",
    "map_medium": "map_medium",
    "map_large": "map_large",
    "mar_1": "recall_1",
    "mar_10": "recall_10",
    "mar_100": "recall_100",
}
KINDS = {"bbox": "", "segm": "mask_"}


def find_all(
    network: DETR, preparation: Preparation, split: BoxSplit, told: Callable[[int], object] | None = None
) -> list[Found]:
    """What is found in every picture of a split, in evaluation mode; `told` takes how many are done."""
    network.eval()
    found = []
    for index in range(len(split)):
        found.append(detect(network, preparation, split.image(index))[0])
        if told is not None:
            told(index + 1)
    return found


def average_precision(found: Sequence[Found], split: BoxSplit, preparation: Preparation) -> dict[str, float | None]:
    """COCO's measures of what was found in each picture of a split; see summarise."""
    metric = precision_metric(preparation.masks, by_class=True)
    metric.update([], [])  # a split may have no picture, which is no mistake
    for index, each in enumerate(found):
        update(metric, each, split, index)
    return summarise(metric.compute(), preparation.classes)


def precision_metric(masks: bool, *, by_class: bool = False) -> Any:
    """The metric that counts boxes, and masks where there are any."""
    check_extra()
    from torchmetrics.detection import MeanAveragePrecision

    kinds = ("bbox", "segm") if masks else "bbox"
    metric = MeanAveragePrecision(iou_type=kinds, class_metrics=by_class, backend="pycocotools", sync_on_compute=False)
    metric.warn_on_many_detections = False  # COCO counts the best hundred
    return metric


def update(metric: Any, found: Found, split: BoxSplit, index: int) -> None:
    """Take what was found in a picture of a split, and what is there."""
    objects = split.objects(index)
    said = {"boxes": found.boxes_xyxy, "scores": found.scores, "labels": found.labels}
    there = {
        "boxes": objects.boxes_xyxy,
        "labels": objects.labels,
        "iscrowd": objects.crowd.long(),
        "area": objects.areas,
    }
    if "segm" in metric.iou_type:
        masks = split.masks(index)
        assert found.masks is not None
        assert masks is not None
        said["masks"], there["masks"] = found.masks, masks
    metric.update([said], [there])


def summarise(computed: dict[str, Tensor], classes: Sequence[str]) -> dict[str, float | None]:
    """Average precision over the thresholds 0.50 to 0.95 (map), at 0.50 and 0.75, of small, medium and large objects
    (below 32 x 32 and 96 x 96 pixels), recall with 1, 10 and 100 boxes a picture, and map.CLASS; of masks the same
    under mask_map and so on. None where there is no such object.
    """
    several, found = "segm_map" in computed, {}
    for kind, ours in KINDS.items():
        prefix = f"{kind}_" if several else ""
        if not several and kind == "segm":
            continue
        found |= {f"{ours}{name}": _known(computed[f"{prefix}{theirs}"]) for theirs, name in NAMES.items()}
        values: dict[str, float | None] = dict.fromkeys(classes)
        each = computed.get(f"{prefix}map_per_class", torch.zeros(0))  # left out where there is no picture
        if each.numel() == len(computed["classes"].reshape(-1)) and each.numel():
            seen = zip(computed["classes"].reshape(-1).tolist(), each.reshape(-1), strict=True)
            values |= {classes[int(label)]: _known(value) for label, value in seen}
        found |= {f"{ours}map.{name}": value for name, value in values.items()}
    return found


def _known(value: Tensor) -> float | None:
    """None for the -1 of COCO, where there is nothing to be found."""
    return None if value < 0 else float(value)


def write_predictions(path: Path, found: Sequence[Found], split: BoxSplit, preparation: Preparation) -> None:
    """A row for each box of each picture: the picture, the class, the score, and the box as COCO has it."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(["index", "name", "image_id", "prediction", "score", "x", "y", "width", "height"])
    for index, each in enumerate(found):
        picture = [index, split.name(index), split.image_id(index)]
        for query in each.above(0.0).tolist():
            left, top, right, bottom = each.boxes_xyxy[query].tolist()
            box = [f"{number:.2f}" for number in (left, top, right - left, bottom - top)]
            kind = preparation.classes[int(each.labels[query])]
            writer.writerow([*picture, kind, f"{float(each.scores[query]):.6g}", *box])
    write_atomic(path, text.getvalue())
