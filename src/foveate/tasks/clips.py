"""Batches of clips: which frames and which part of them are seen, one draw for a whole clip."""

from typing import Any

from torch import Tensor

from foveate.data import ClipSplit, Split
from foveate.data.clips import clip_numbers, clip_starts
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet, draw_seed

__all__ = ["ClipSet", "sample_set"]


class ClipSet(PictureSet):
    """A split as batches of uint8 (batch, channel, time, height, width) and labels (batch,).

    In training a clip begins anywhere in its video, decided by the seed, the epoch and the video's number. Else a video
    is seen in `views`: `test_clips` clips evenly spread over it, each in `test_crops` parts.

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

    def boxes(self, index: int) -> Tensor | None:
        """The true box in every frame of the first view, (frame, 4); None where it is not known."""
        found = self.split.boxes_xyxy(index)
        if found is None:
            return None
        numbers = self.numbers(index, 0)
        return self.preprocess.carry(found[numbers], *self.split.clip(index, numbers[:1]).shape[2:])

    def _read(self, index: int, view: int = 0) -> Tensor:
        """Frames (time, channel, height, width) of one clip, not yet changed."""
        clip, crop = divmod(view, self.preprocess.test_crops)
        seen = self.split.clip(index, self.numbers(index, clip)).movedim(0, 1)
        return (
            self.preprocess.colour(seen) if self.whole else self.preprocess.fit(seen, crop, self.preprocess.test_crops)
        )

    def numbers(self, index: int, clip: int) -> list[int]:
        """The frames of a clip of a video."""
        length, frames, stride = self.split.length(index), self.preprocess.frames, self.preprocess.frame_stride
        if self.training:
            starts = max(1, length - (frames - 1) * stride)
            start = draw_seed(self.seed, self.epoch, index, frames) % starts
        else:
            start = clip_starts(length, frames, stride, self.preprocess.test_clips)[clip]
        return clip_numbers(length, frames, stride, start)

    def _changed(self, images: Tensor | list[Tensor], indices: list[int]) -> Tensor:
        return super()._changed(images, indices).movedim(1, 2)


def sample_set(split: Split | ClipSplit, preprocess: Preprocess) -> PictureSet:
    """Pictures or clips as they are looked at outside of training."""
    return ClipSet(split, preprocess) if preprocess.frames else PictureSet(split, preprocess)
