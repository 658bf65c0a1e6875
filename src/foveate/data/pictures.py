"""Pictures: labelled pictures in three splits, wherever they come from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

__all__ = ["Pictures", "Split", "open_pictures"]


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
        """The true places in pixels, float (box, 4), upper edges exclusive; None where they are not known."""
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
    """

    source: str
    classes: list[str]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, Split]


def open_pictures(data: str | Path) -> Pictures:
    """Open class folders, a MedMNIST npz file, or "demo"; a fault is a DataError that names the file."""
    raise NotImplementedError
