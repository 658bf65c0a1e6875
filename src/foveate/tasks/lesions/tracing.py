"""Lesions of a volume out of what was found in its slices: boxes that follow each other from slice to slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torchvision.ops import box_iou

from foveate.tasks.lesions.found import Found

__all__ = ["Lesion", "trace"]

OVERLAP = 0.3  # the least intersection over union of a box with that of the slice before, to be of one lesion
GAP = 1  # slices without a box that a lesion goes through


@dataclass
class Lesion:
    """A lesion through its slices.

    Args:
        number: From 1, the surest lesion first.
        label: Its class, from 0.
        score: The highest of its boxes.
        surest: The slice with this score.
        box_xyxy: The box there, in pixels of the slice as the network sees it.
        boxes: By slice the number of its box among what was found there.
    """

    number: int
    label: int
    score: float
    surest: int
    box_xyxy: list[float]
    boxes: dict[int, int]

    @property
    def slices(self) -> tuple[int, int]:
        """The first and the last."""
        return min(self.boxes), max(self.boxes)


def trace(found: Mapping[int, Found], least: float) -> list[Lesion]:
    """Join boxes with at least some score to lesions, in the order of the slices; the surest lesion comes first.

    Each box joins the lesion of its class whose last box, at most one slice without any between, it overlaps most; a
    lesion takes one box a slice.
    """
    lesions: list[Lesion] = []
    for index in sorted(found):
        here = found[index]
        open_ = [lesion for lesion in lesions if index - lesion.slices[1] <= GAP + 1]
        taken: set[int] = set()
        for box in range(int((here.scores >= least).sum())):
            best = _follows(here, box, [lesion for lesion in open_ if id(lesion) not in taken], found)
            score, edges = float(here.scores[box]), here.boxes_xyxy[box].tolist()
            if best is None:
                lesions.append(Lesion(0, int(here.labels[box]), score, index, edges, {index: box}))
                continue
            taken.add(id(best))
            best.boxes[index] = box
            if score > best.score:
                best.score, best.surest, best.box_xyxy = score, index, edges
    lesions.sort(key=lambda lesion: -lesion.score)
    for number, lesion in enumerate(lesions, start=1):
        lesion.number = number
    return lesions


def _follows(here: Found, box: int, lesions: Sequence[Lesion], found: Mapping[int, Found]) -> Lesion | None:
    """The lesion that a box goes on with."""
    held = [lesion for lesion in lesions if lesion.label == int(here.labels[box])]
    if not held:
        return None
    last = torch.stack([found[lesion.slices[1]].boxes_xyxy[lesion.boxes[lesion.slices[1]]] for lesion in held])
    overlaps = box_iou(here.boxes_xyxy[box][None], last)[0]
    return held[int(overlaps.argmax())] if float(overlaps.max()) >= OVERLAP else None
