"""Lesions of a volume out of what was found in its slices: boxes that follow each other from slice to slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
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
    going: list[Lesion] = []  # those that a box may still join
    for index in sorted(found):
        here = found[index]
        going = [lesion for lesion in going if index - lesion.slices[1] <= GAP + 1]
        overlaps, fresh = _overlaps(here, going, found), []
        for box in range(int((here.scores >= least).sum())):
            best = int(overlaps[box].argmax()) if going else 0
            score, edges = float(here.scores[box]), here.boxes_xyxy[box].tolist()
            if not going or float(overlaps[box, best]) < OVERLAP:
                fresh.append(Lesion(0, int(here.labels[box]), score, index, edges, {index: box}))
                continue
            overlaps[:, best] = 0  # it has its box of this slice
            lesion = going[best]
            lesion.boxes[index] = box
            if score > lesion.score:
                lesion.score, lesion.surest, lesion.box_xyxy = score, index, edges
        lesions += fresh
        going += fresh
    lesions.sort(key=lambda lesion: -lesion.score)
    for number, lesion in enumerate(lesions, start=1):
        lesion.number = number
    return lesions


def _overlaps(here: Found, lesions: Sequence[Lesion], found: Mapping[int, Found]) -> Tensor:
    """Of each box with the last one of each lesion, intersection over union, 0 for another class: (box, lesion)."""
    places = [(lesion.slices[1], lesion) for lesion in lesions]
    last = torch.stack([torch.zeros(4), *(found[index].boxes_xyxy[lesion.boxes[index]] for index, lesion in places)])
    labels = torch.tensor([lesion.label for lesion in lesions], dtype=torch.long)
    return box_iou(here.boxes_xyxy, last[1:]) * (here.labels[:, None] == labels)
