"""How good a detector of lesions is: FROC, average precision over slices, and the Dice of stitched label maps."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.stacks import Stack, StackSplit
from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.networks import MaskRCNN
from foveate.tasks.detect.scoring import precision_metric
from foveate.tasks.detect.scoring import summarise as summarise_precision
from foveate.tasks.lesions.found import Found, Stitched, find
from foveate.tasks.lesions.froc import RATES, Froc
from foveate.tasks.lesions.preparation import Preparation, Ready
from foveate.tasks.segment.metrics import Score, score_case
from foveate.tasks.segment.metrics import summarise as summarise_cases

__all__ = ["Scored", "annotated_slices", "score_split", "truth_of", "write_predictions"]

BOXES = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "recall_100")
KEPT = (*BOXES, *(f"mask_{name}" for name in BOXES))
COLUMNS = ("volume", "slice", "prediction", "score", "x", "y", "width", "height")


@dataclasses.dataclass
class Scored:
    """What a split came to.

    Args:
        froc: Counts of lesions found and of false positives.
        of_class: The same of each class alone.
        precision: The metric of average precision.
        cases: The Dice and more of each volume and class; empty where masks are not known.
        rows: Every box: see COLUMNS.
    """

    froc: Froc
    of_class: list[Froc]
    precision: Any
    cases: list[Score] = dataclasses.field(default_factory=list)
    rows: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def metrics(self, classes: list[str]) -> dict[str, float | None]:
        """Sensitivities, average precision, and means over cases."""
        precision = summarise_precision(self.precision.compute(), classes)
        kept = {name: value for name, value in precision.items() if name in KEPT}
        cases = summarise_cases(self.cases) if self.cases else {}
        known = {
            f"sensitivity.{name}": of.sensitivity(RATES[0]) for name, of in zip(classes, self.of_class, strict=True)
        }
        return self.froc.summary() | known | kept | cases | {"slices": self.froc.slices, "lesions": len(self.froc.best)}


def score_split(
    network: MaskRCNN,
    preparation: Preparation,
    split: StackSplit,
    score: float,
    told: Callable[[int], object] | None = None,
) -> Scored:
    """Find everything in every volume of a split, and hold it against what is there.

    Args:
        network: On its device.
        preparation: What it takes.
        split: The volumes.
        score: The least score of what is stitched.
        told: Takes how many volumes are done.
    """
    network.eval()
    scored = Scored(Froc(), [Froc() for _ in preparation.classes], precision_metric(preparation.masks, by_class=True))
    scored.precision.update([], [])  # a split may have no volume, which is no mistake
    for number in range(len(split)):
        stack = split.stack(number)
        _score(scored, network, preparation, stack, score)
        if told is not None:
            told(number + 1)
    return scored


def _score(scored: Scored, network: MaskRCNN, preparation: Preparation, stack: Stack, score: float) -> None:
    ready = preparation.prepare(stack)
    stitched = Stitched(ready, score) if preparation.masks else None
    for index, found in find(network, ready, annotated_slices(ready)):
        count(scored.froc, found, ready, index)
        for label, froc in enumerate(scored.of_class):
            count(froc, found, ready, index, label)
        _count_precision(scored.precision, found, ready, index)
        scored.rows += _rows(stack.name, index, found, preparation)
        if stitched is not None:
            stitched.add(index, found)
    if stitched is not None:
        predicted, truth = ready.back(stitched.labels), truth_of(stack)
        names = ["background", *preparation.classes]
        scored.cases += score_case(stack.name, predicted.numpy(), truth.numpy(), names, stack.spacing)


def annotated_slices(ready: Ready) -> list[int]:
    """The slices whose lesions are known."""
    return ready.stack.annotated.nonzero()[:, 0].tolist()


def truth_of(stack: Stack) -> Tensor:
    """The class of each voxel from 1, 0 where there is no lesion, int64 (slice, height, width)."""
    assert stack.instances is not None
    return torch.cat([torch.zeros(1, dtype=torch.long), stack.labels + 1])[stack.instances.long()]


def count(froc: Froc, found: Found, ready: Ready, index: int, label: int | None = None) -> None:
    """Take a slice into the counts, of a class or of all."""
    objects, _ = ready.stack.objects(index)
    mine, true = (torch.ones_like(held, dtype=torch.bool) for held in (found.labels, objects.labels))
    if label is not None:
        mine, true = found.labels == label, objects.labels == label
    boxes, scores, labels = found.boxes_xyxy[mine], found.scores[mine], found.labels[mine]
    froc.update(boxes, scores, labels, objects.boxes_xyxy[true], objects.labels[true], objects.crowd[true])


def _count_precision(metric: Any, found: Found, ready: Ready, index: int) -> None:
    objects, masks = ready.stack.objects(index)
    said = {"boxes": found.boxes_xyxy, "scores": found.scores, "labels": found.labels}
    there = {"boxes": objects.boxes_xyxy, "labels": objects.labels, "area": objects.areas}
    there["iscrowd"] = objects.crowd.long()
    if found.masks is not None and masks is not None:
        said["masks"], there["masks"] = found.masks, masks
    metric.update([said], [there])


def _rows(name: str, index: int, found: Found, preparation: Preparation) -> list[tuple[Any, ...]]:
    rows = []
    for box, score, label in zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
        edges = (box[0], box[1], box[2] - box[0], box[3] - box[1])
        rows.append((name, index, preparation.classes[label], f"{score:.6g}", *(f"{edge:.2f}" for edge in edges)))
    return rows


def write_predictions(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """Write a row for each box of each slice, the box in pixels of the slice as the network sees it."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
