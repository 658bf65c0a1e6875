"""Stacks: volumes as slices in their order, with the lesions in them, in three splits, wherever they come from."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from foveate.data.boxes import Objects
from foveate.data.findings import Finding
from foveate.data.pictures import SPLITS
from foveate.data.volumes import Volume
from foveate.errors import DataError

__all__ = ["Stack", "StackSplit", "Stacks", "boxes_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """One volume as slices.

    Args:
        name: What to call it.
        slices: float32 (slice, height, width), in the file's unit: of CT Hounsfield units.
        spacing: From one to the next along each of these axes, in mm.
        instances: Which lesion is where: 0 for none, or its number from 1, int32 (slice, height, width); None where
            masks are not known.
        labels: The class of each lesion by its number less one, from 0, int64 (lesion); empty without masks.
        boxes: Where only boxes are known, those of each slice that has any.
        annotated: Whether the lesions of a slice are known, bool (slice).
        volume: What the slices were cut from; None where the files are slices.
        back: From (slice, height, width) to the voxels of `volume` in their order; None with it.
    """

    name: str
    slices: Tensor
    spacing: tuple[float, float, float]
    instances: Tensor | None
    labels: Tensor
    boxes: Mapping[int, Objects]
    annotated: Tensor
    volume: Volume | None = None
    back: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.slices)

    def objects(self, index: int) -> tuple[Objects, Tensor | None]:
        """What is in a slice, and the mask of each, bool (object, height, width), where masks are known.

        A lesion that falls into several parts in a slice is one object with one box.
        """
        if self.instances is None:
            return self.boxes.get(index, _nothing()), None
        held = self.instances[index]
        numbers = held.unique()
        numbers = numbers[numbers > 0].long()
        masks = held == numbers[:, None, None]
        crowd = torch.zeros(len(numbers), dtype=torch.bool)
        areas = masks.flatten(1).sum(dim=1).float()
        return Objects(boxes_of(masks), self.labels[numbers - 1], crowd, areas), masks


class StackSplit(Protocol):
    """One of train, val and test: stacks by number, read when asked for."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call it, without reading it."""
        ...

    def stack(self, index: int) -> Stack:
        """Read it.

        Raises:
            DataError: If its files cannot be read or do not fit each other.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Stacks:
    """Classes and three splits.

    Args:
        source: Where the volumes come from.
        classes: Their names, without a background; a label is a place in this list.
        values: What the label maps of the files call each class.
        modality: The name of the channel, such as "CT".
        splits: "train", "val" and "test", which alone may be empty.
        rule: How the splits came about, in words.
        masks: Whether masks are known.
        findings: What was left out or put right.

    Raises:
        DataError: No class, or no volume to train or to validate with.
    """

    source: str
    classes: list[str]
    values: list[int]
    modality: str
    splits: Mapping[str, StackSplit]
    rule: str
    masks: bool = True
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.classes:
            raise DataError(f"{self.source} must name a class beside the background; it names none")
        for split in SPLITS[:2]:
            if not len(self.splits[split]):
                raise DataError(f"{self.source} has no volume in its {split} split")


def boxes_of(masks: Tensor) -> Tensor:
    """The box of each mask, bool (object, height, width) -> x1, y1, x2, y2 in pixels, float32 (object, 4).

    Right and lower edge are exclusive, so that a mask of one pixel has a box of one by one.
    """
    found = []
    for mask in masks:
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        found.append([int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1])
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)


def _nothing() -> Objects:
    empty = torch.zeros(0)
    return Objects(empty.reshape(0, 4), empty.long(), empty.bool(), empty)
