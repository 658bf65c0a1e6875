"""Boxes: pictures with the places of objects in them, in three splits, wherever they come from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from foveate.data.findings import Finding
from foveate.data.pictures import SPLITS
from foveate.errors import DataError

__all__ = ["BoxSplit", "Boxes", "Objects", "open_box_split", "open_boxes"]


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """What is to be found in a picture.

    Args:
        boxes_xyxy: In pixels and within the picture, right and lower edge exclusive, float32 (object, 4).
        labels: The class of each, int64 (object).
        crowd: Whether a box holds many objects: not to be learned, and where nothing found is wrong; bool (object).
        areas: In pixels, of the masks where the file gives them, float32 (object).
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class BoxSplit(Protocol):
    """One of train, val and test: pictures by number, read when asked for."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """The picture, uint8 (3, height, width)."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Its (height, width)."""
        ...

    def name(self, index: int) -> str:
        """What to call it: a path below the folder of the pictures, or a number."""
        ...

    def image_id(self, index: int) -> int | str:
        """Its id in the file that describes it."""
        ...

    def objects(self, index: int) -> Objects:
        """What is in it."""
        ...

    def masks(self, index: int) -> Tensor | None:
        """Where each object is, bool (object, height, width); None where masks were not asked for."""
        ...


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Classes and three splits.

    Args:
        source: Where the pictures come from: the path, or "demo".
        classes: Their names; a label is a place in this list.
        category_ids: What the files call each class; ids may have gaps.
        splits: "train", "val" and "test", which alone may be empty.
        rule: How the splits came about, in words.
        findings: What was left out or put right.
        stuff: The category ids that cannot be counted, such as that of sky: those with "isthing": 0.

    Raises:
        DataError: No class, no picture to train or to validate with, no object to learn from.
    """

    source: str
    classes: list[str]
    category_ids: list[int]
    splits: Mapping[str, BoxSplit]
    rule: str
    findings: list[Finding] = dataclasses.field(default_factory=list)
    stuff: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        told = "".join(f"; {finding}" for finding in self.findings)
        if not self.classes:
            raise DataError(f"{self.source} must name a category or more; it names none")
        for name in SPLITS[:2]:
            if not len(self.splits[name]):
                raise DataError(f"{self.source} has no picture in its {name} split{told}")
        train = self.splits["train"]
        if all(train.objects(index).crowd.all() for index in range(len(train))):
            raise DataError(f"{self.source} has no object to learn from in its train split{told}")


def open_box_split(data: str | Path, split: str, *, masks: bool = False, images: str | Path | None = None) -> Boxes:
    """Open data of which only one split is wanted: a COCO json file is that split as a whole, and of a folder the file
    of the split is enough. Else as open_boxes.
    """
    from foveate.data.coco_layout import open_coco_split

    where = None if images is None else Path(images)
    alone = None if data == "demo" else open_coco_split(Path(data), split, masks=masks, images=where)
    return alone or open_boxes(data, masks=masks, images=images)


def open_boxes(data: str | Path, *, masks: bool = False, images: str | Path | None = None) -> Boxes:
    """Open COCO json with its pictures, or "demo"; coco_layout.py says which folders and files are understood.

    Faults of single pictures and objects do not stop it: these are left out, and `findings` says how many.

    Args:
        data: A folder with a file for each split, a file to be divided by picture, or "demo".
        masks: Whether the objects' masks are wanted too; those without are left out.
        images: The folder that file names are relative to. Default: looked for around the file.

    Raises:
        DataError: If nothing is recognised, or files as a whole cannot be used.
        MissingExtra: If masks are asked for and pycocotools is not installed.
    """
    if data == "demo":
        from foveate.data.demo_boxes import open_demo_boxes

        return open_demo_boxes()
    from foveate.data.coco_layout import open_coco

    return open_coco(Path(data), masks=masks, images=None if images is None else Path(images))
