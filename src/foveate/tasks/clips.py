"""Batches of clips: which frames and which part of them are seen, one draw for a whole clip."""

from contextlib import suppress
from typing import Any

from torch import Tensor

from foveate.data import ClipSplit, Split
from foveate.data.clips import clip_numbers, clip_starts
from foveate.errors import DataError
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet, draw_seed

__all__ = ["ClipSet", "looped", "sample_set"]


class ClipSet(PictureSet):
    """A split as batches of uint8 (batch, channel, time, height, width) and labels (batch,).

    In training a clip begins anywhere in its video, decided by the seed, the epoch and the video's number. Else it is
    the middle of the video; in testing there are `views`, `test_clips` clips evenly spread over it, each in
    `test_crops` parts.

    Args:
        split: The videos.
        preprocess: How long clips are, and to which size they are brought.
        augment: A run's `augment`.
        seed: Decides start and augmentation.
        training: Whether clips begin anywhere.
    """

    keeps = False  # other frames are wanted each time

    def __init__(
        self,
        split: Any,
        preprocess: Preprocess,
        augment: str = "none",
        seed: int = 0,
        *,
        training: bool = False,
    ) -> None:
        super().__init__(split, preprocess, augment, seed)
        self.training = training

    @property
    def views(self) -> int:
        return self.preprocess.test_clips * self.preprocess.test_crops

    def view(self, indices: list[int], number: int) -> Tensor:
        clip, crop = divmod(number, self.preprocess.test_crops)
        count = self.preprocess.test_clips
        seen = []
        for index in indices:
            start = clip_starts(self.split.length(index), *self._span, count)[clip]
            seen.append(self.preprocess.fit(self._frames(index, start), crop, self.preprocess.test_crops))
        return self._changed(seen, indices)

    def boxes(self, index: int) -> Tensor | None:
        """The true box in every frame of the clip, (frame, 4); None where it is not known."""
        found = self.split.boxes_xyxy(index)
        if found is None:
            return None
        numbers = clip_numbers(self.split.length(index), *self._span, self._start(index))
        return self.preprocess.carry(found[numbers], *self.split.clip(index, numbers[:1]).shape[2:])

    @property
    def _span(self) -> tuple[int, int]:
        return self.preprocess.frames, self.preprocess.frame_stride

    def _read(self, index: int) -> Tensor:
        seen = self._frames(index, self._start(index))
        return self.preprocess.colour(seen) if self.whole else self.preprocess.fit(seen)

    def _start(self, index: int) -> int:
        """Where the clip of a video begins."""
        length, (frames, stride) = self.split.length(index), self._span
        if not self.training:
            return clip_starts(length, frames, stride, 1)[0]
        starts = max(1, length - (frames - 1) * stride)
        return draw_seed(self.seed, self.epoch, index, frames) % starts

    def _frames(self, index: int, start: int) -> Tensor:
        """The clip that begins there, as frames (time, channel, height, width)."""
        return self.split.clip(index, clip_numbers(self.split.length(index), *self._span, start)).movedim(0, 1)

    def _changed(self, images: Tensor | list[Tensor], indices: list[int]) -> Tensor:
        return super()._changed(images, indices).movedim(1, 2)


def looped(split: Any, preprocess: Preprocess) -> int:
    """How many videos are shorter than a clip, which begins again at their first frame; none that is unreadable."""
    span, lengths = (preprocess.frames - 1) * preprocess.frame_stride, []
    for index in range(len(split)):
        with suppress(DataError):
            lengths.append(split.length(index))
    return sum(length <= span for length in lengths)


def sample_set(split: Split | ClipSplit, preprocess: Preprocess) -> PictureSet:
    """Pictures or clips as they are looked at outside of training."""
    return ClipSet(split, preprocess) if preprocess.frames else PictureSet(split, preprocess)
