"""Stacks: volumes as slices in their order, with the lesions in them, in three splits, wherever they come from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from foveate.data.boxes import Objects
from foveate.data.findings import Finding
from foveate.data.orientation import Plane
from foveate.data.pictures import SPLITS
from foveate.data.volumes import Volume
from foveate.errors import DataError

__all__ = ["Stack", "StackSplit", "Stacks", "boxes_of", "holds_stacks", "open_stack_split", "open_stacks"]


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
        modalities: The name of each channel of the files, of which `modality` is one; empty where files are slices.

    Raises:
        DataError: No class, or no volume at all.
    """

    source: str
    classes: list[str]
    values: list[int]
    modality: str
    splits: Mapping[str, StackSplit]
    rule: str
    masks: bool = True
    findings: list[Finding] = dataclasses.field(default_factory=list)
    modalities: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        told = "".join(f"; {finding}" for finding in self.findings)
        if not self.classes:
            raise DataError(f"{self.source} must name a class beside the background; it names none")
        if not any(len(self.splits[split]) for split in SPLITS):
            raise DataError(f"{self.source} has no volume{told}")


def open_stacks(
    data: str | Path,
    *,
    channel: str | None = None,
    labels: Literal["classes", "instances"] = "classes",
    classes: Sequence[str] | None = None,
    plane: Plane = "axial",
    fold: int | None = None,
    folds: int = 5,
    split_file: str | Path | None = None,
) -> Stacks:
    """Open volumes, DeepLesion, slices that COCO json describes, or "lesions", which are embedded.

    Args:
        data: What open_volumes takes; a folder with DL_info.csv, or such a file; a COCO json file whose images have
            "volume" and "slice", or a folder with one for each split; or "lesions".
        channel: The name of that which is shown, where volumes have several.
        labels: What the numbers in the label maps of volumes are: classes, of which each connected part is a lesion;
            or lesions, each with a number of its own.
        classes: The names of those that are lesions; what else is labelled counts as background. Default: all.
        plane: That of the slices which volumes are cut into; cut_along() says how they are shown.
        fold: As in open_volumes, as are `folds` and `split_file`.

    Raises:
        DataError: If nothing is recognised, or files as a whole cannot be used.
        ValueError: If an option makes no sense, or is given for data other than volumes.
    """
    found = _open(data, channel, labels, classes, plane, fold, folds, split_file)
    for split in SPLITS[:2]:
        if not len(found.splits[split]):
            told = "".join(f"; {finding}" for finding in found.findings)
            raise DataError(f"{found.source} has no volume in its {split} split{told}")
    return found


def _open(
    data: str | Path,
    channel: str | None,
    labels: str,
    classes: Sequence[str] | None,
    plane: Plane,
    fold: int | None,
    folds: int,
    split_file: str | Path | None,
) -> Stacks:
    from foveate.data.stack_kinds import stack_kind

    if labels not in ("classes", "instances"):
        raise ValueError(f'labels are "classes" or "instances"; got {labels!r}')
    kind = stack_kind(data) or "volumes"
    if kind == "volumes":
        from foveate.data.volume_stacks import open_volume_stacks

        return open_volume_stacks(data, channel, labels == "instances", classes, plane, fold, folds, split_file)
    given = {"channel": channel, "classes": classes, "fold": fold, "split_file": split_file}
    given |= {"labels": labels if labels != "classes" else None, "plane": plane if plane != "axial" else None}
    asked = [name for name, value in given.items() if value is not None]
    if asked:
        raise ValueError(f"{' and '.join(asked)} cannot be chosen for {data}, which holds slices; they are for volumes")
    if kind == "lesions":
        from foveate.data.demo_lesions import open_demo_lesions

        return open_demo_lesions()
    if kind == "DeepLesion":
        from foveate.data.deep_lesion import open_deep_lesion

        return open_deep_lesion(Path(data))
    from foveate.data.coco_stacks import open_coco_stacks

    return open_coco_stacks(Path(data))


def open_stack_split(
    data: str | Path,
    split: str,
    held: Mapping[str, Sequence[str]],
    *,
    channel: str | None = None,
    labels: Literal["classes", "instances"] = "classes",
    classes: Sequence[str] | None = None,
    plane: Plane = "axial",
) -> Stacks:
    """Open data to measure a run on: scans as open_volume_split, of COCO json a file as a whole, else as open_stacks.

    Args:
        data: As in open_stacks.
        split: Which split.
        held: The names of the volumes of each split of the run.
        channel: As in open_stacks, as are `labels`, `classes` and `plane`.
    """
    from foveate.data.stack_kinds import stack_kind

    kind = stack_kind(data) or "volumes"
    if kind == "volumes":
        from foveate.data.volume_stacks import stacks_of
        from foveate.data.volumes import open_volume_split

        instances = labels == "instances"
        volumes = open_volume_split(data, split, held, instances=instances, ignore=[])
        return stacks_of(volumes, channel, instances, classes, plane)
    if kind == "slices":
        from foveate.data.coco_stacks import open_coco_stacks

        return open_coco_stacks(Path(data), split)
    return open_stacks(data)


def holds_stacks(data: str | Path) -> bool:
    """Whether data are what open_stacks() takes, as far as names and keys in json files tell; raises nothing."""
    from foveate.data.stack_kinds import stack_kind

    return stack_kind(data) is not None


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
