"""Clips: labelled videos in three splits, wherever they come from, and which frames of a video make a clip."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from foveate.data.pictures import OneSplit, check_classes
from foveate.errors import DataError

__all__ = ["EMBEDDED", "ClipSplit", "Clips", "clip_numbers", "clip_starts", "open_clip_split", "open_clips"]

EMBEDDED = ("direction", "mover")


class ClipSplit(Protocol):
    """One of train, val and test: videos by number, read when asked for."""

    def __len__(self) -> int: ...

    def length(self, index: int) -> int:
        """How many frames the video has; a file may have to be decoded for it, once."""
        ...

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        """Those frames of the video, in that order, uint8 (channel, time, height, width); a number may come again."""
        ...

    def label(self, index: int) -> int:
        """The number of its class."""
        ...

    def name(self, index: int) -> str:
        """What to call it: a path below the data's root, or a number."""
        ...

    def boxes_xyxy(self, index: int) -> Tensor | None:
        """The true place in every frame, in pixels, float (frame, 4), right and lower edge exclusive; None where it is
        not known.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Clips:
    """Classes and three splits.

    Args:
        source: Where the videos come from: the path, "direction" or "mover".
        classes: Their names; a label is a place in this list.
        channels: 1 (grey) or 3 (RGB).
        size: (height, width) of every video, None where they differ.
        splits: "train", "val" and "test".
        rule: How the splits came about, in words.
        notes: Oddities of the data, and parts that were left out, a sentence each.
        sizes: (height, width) of samples evenly spread over all, whose headers were read.

    Raises:
        DataError: Fewer than two classes, or a class without a video in one of the splits.
    """

    source: str
    classes: list[str]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, ClipSplit]
    rule: str = "as the data say"
    notes: Sequence[str] = ()
    sizes: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        check_classes(self.source, self.classes, self.splits, "video")


def open_clips(data: str | Path) -> Clips:
    """Open class folders of video files and of folders of frames, "direction" or "mover"; a fault is a DataError that
    names the file.
    """
    if data == "direction":
        from foveate.data.demo_clips import open_direction

        return open_direction()
    if data == "mover":
        from foveate.data.demo_clips import open_mover

        return open_mover()
    path = Path(data)
    if path.is_dir():
        from foveate.data.clip_folders import open_clip_folders

        return open_clip_folders(path)
    found = "that is no folder" if path.exists() else "there is no such folder"
    raise DataError(f'data takes a folder of class folders of videos, "direction", or "mover"; got {data}: {found}')


def open_clip_split(data: str | Path, split: str) -> OneSplit:
    """Open one split of class folders of videos; without folders for splits all videos are that split."""
    path = Path(data)
    if path.is_dir():
        from foveate.data.clip_folders import open_clip_split as open_folders

        return open_folders(path, split)
    held = open_clips(data)
    return OneSplit(held.source, held.classes, held.splits[split], held.rule, held.notes)


def clip_numbers(length: int, frames: int, stride: int, start: int) -> list[int]:
    """The frames of one clip: `frames` of them, every `stride`-th from `start` on.

    After the last frame of the video comes its first again, so that a video shorter than the clip is looped.
    """
    _check(length=length, frames=frames, stride=stride)
    if not 0 <= start < length:
        raise ValueError(f"start must be in 0..{length - 1}, a frame of the video; got {start}")
    return [(start + number * stride) % length for number in range(frames)]


def clip_starts(length: int, frames: int, stride: int, count: int) -> list[int]:
    """Where `count` clips begin that are evenly spread over a video: one in its middle, more from its start to its end.

    All begin at 0 in a video that is no longer than a clip.
    """
    _check(length=length, frames=frames, stride=stride, count=count)
    room = max(0, length - (frames - 1) * stride - 1)
    if count == 1:
        return [room // 2]
    return [number * room // (count - 1) for number in range(count)]


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more; got {value}")
