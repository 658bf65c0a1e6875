"""Pictures: labelled pictures in three splits, wherever they come from."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from foveate.errors import DataError

__all__ = ["SPLITS", "Labelled", "OneSplit", "Pictures", "Split", "check_classes", "open_picture_split"]
__all__ += ["open_pictures"]

SPLITS = ("train", "val", "test")


class Split(Protocol):
    """One of train, val and test: pictures by number, read when asked for."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """The picture, uint8 (channel, height, width)."""
        ...

    def label(self, index: int) -> int:
        """The number of its class."""
        ...

    def name(self, index: int) -> str:
        """What to call it: a path below the data's root, or a number."""
        ...

    def boxes_xyxy(self, index: int) -> Tensor | None:
        """The true places in pixels, float (box, 4), right and lower edge exclusive; None where they are not known."""
        ...

    def mask(self, index: int) -> Tensor | None:
        """The true place, bool (height, width); None where it is not known."""
        ...


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Classes and three splits.

    Args:
        source: Where the pictures come from: the path, or "demo".
        classes: Their names; a label is a place in this list.
        channels: 1 (grey) or 3 (RGB).
        size: (height, width) of every picture, None where they differ.
        splits: "train", "val" and "test".
        rule: How the splits came about, in words.
        notes: Oddities of the data, and parts that were left out, a sentence each.
        sizes: (height, width) of samples evenly spread over all, whose headers were read.

    Raises:
        DataError: Fewer than two classes, or a class without a picture in one of the splits.
    """

    source: str
    classes: list[str]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, Split]
    rule: str = "as the data say"
    notes: Sequence[str] = ()
    sizes: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        check_classes(self.source, self.classes, self.splits, "picture")


@dataclasses.dataclass(frozen=True)
class OneSplit:
    """One split, to be measured: its classes may be fewer than those of a run.

    Args:
        source: The path of the data.
        classes: Their names; a label is a place in this list.
        split: The pictures or clips.
        rule: Which part of the data it is, in words.
        notes: Oddities of the data, and parts that were left out, a sentence each.
    """

    source: str
    classes: list[str]
    split: Any
    rule: str
    notes: Sequence[str] = ()


class Labelled(Protocol):
    """Samples by number, each of one class."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> int:
        """The number of its class."""
        ...


def check_classes(source: str, classes: Sequence[str], splits: Mapping[str, Labelled], noun: str) -> None:
    """Raise a DataError unless there are two classes or more, each with a sample (a `noun`) in every split."""
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise DataError(f"{source} must hold two classes or more to tell apart; got {found}")
    for name in SPLITS:
        split = splits[name]
        held = {split.label(index) for index in range(len(split))}
        for label, kind in enumerate(classes):
            if label not in held:
                raise DataError(f"{source} has no {noun} of class {kind!r} in its {name} split")


def open_pictures(data: str | Path) -> Pictures:
    """Open class folders, a MedMNIST npz file, or "demo"; a fault is a DataError that names the file."""
    if data == "demo":
        from foveate.data.demo import open_demo

        return open_demo()
    path = Path(data)
    if path.is_dir():
        from foveate.data.folders import open_folders

        return open_folders(path)
    if path.suffix == ".npz" and path.is_file():
        from foveate.data.medmnist import open_npz

        return open_npz(path)
    found = "that is no folder and no .npz file" if path.exists() else "there is no such file"
    raise DataError(f'data takes a folder of class folders, a MedMNIST .npz file, or "demo"; got {data}: {found}')


def open_picture_split(data: str | Path, split: str) -> OneSplit:
    """Open one split of class folders or of an npz file; without folders for splits all pictures are that split."""
    path = Path(data)
    if path.is_dir():
        from foveate.data.folders import open_folder_split

        return open_folder_split(path, split)
    if path.suffix == ".npz" and path.is_file():
        from foveate.data.medmnist import open_npz_split

        return open_npz_split(path, split)
    held = open_pictures(data)
    return OneSplit(held.source, held.classes, held.splits[split], held.rule, held.notes)
