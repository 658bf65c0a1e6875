"""Which frames of a video, and which part of them, are seen: decided by few numbers, alike for a whole clip."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.data.clips import clip_numbers, clip_starts
from foveate.tasks.attention import true_places
from foveate.tasks.clips import ClipSet, sample_set
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet


class Counting:
    """Videos of 12x20 whose frames hold their number in every pixel, and a box that moves a pixel a frame."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.lengths)

    def length(self, index: int) -> int:
        return self.lengths[index]

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        assert all(0 <= number < self.lengths[index] for number in frames)
        self.asked.append(list(frames))
        return torch.tensor(frames, dtype=torch.uint8)[None, :, None, None].repeat(1, 1, 12, 20)

    def label(self, index: int) -> int:
        return index % 2

    def name(self, index: int) -> str:
        return f"video {index}"

    def boxes_xyxy(self, index: int) -> Tensor | None:
        steps = torch.arange(self.lengths[index])[:, None]
        return torch.tensor([[2.0, 3.0, 5.0, 7.0]]) + steps * torch.tensor([1.0, 0.0, 1.0, 0.0])


class Striped(Counting):
    """The same, with another pattern in every pixel and the same one in every frame."""

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        still = torch.arange(240, dtype=torch.uint8).reshape(1, 1, 12, 20) + index
        return still.repeat(1, len(frames), 1, 1)


def preprocess(frames: int = 4, stride: int = 3, size: tuple[int, int] = (12, 20), **views: int) -> Preprocess:
    return Preprocess(["a", "b"], 1, size, (0.0,), (1.0,), frames=frames, frame_stride=stride, **views)


def numbers(clips: Tensor) -> list[list[int]]:
    return clips[:, 0, :, 0, 0].tolist()


def test_a_batch_has_time_before_height():
    clips, labels = ClipSet(Counting([30, 30, 30]), preprocess()).__getitems__([1, 2])
    assert (clips.shape, clips.dtype) == ((2, 1, 4, 12, 20), torch.uint8)
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize("length", [1, 3, 9, 10, 11, 31])
def test_a_training_clip_begins_anywhere_and_lies_whole_in_its_video_if_that_is_long_enough(length: int):
    clips = ClipSet(Counting([length]), preprocess(), training=True)
    starts = set()
    for epoch in range(300):
        clips.epoch = epoch
        (found,) = numbers(clips.__getitems__([0])[0])
        assert found == clip_numbers(length, 4, 3, found[0])
        starts.add(found[0])
    assert starts == set(range(max(1, length - 9)))  # of a shorter one the beginning, looped


def test_the_start_depends_on_seed_epoch_and_number_alone():
    def fetch(seed: int, epoch: int, indices: list[int]) -> Tensor:
        torch.manual_seed(int(np.random.default_rng().integers(1000)))
        clips = ClipSet(Counting([200] * 9), preprocess(), "none", seed, training=True)
        clips.epoch = epoch
        return clips.__getitems__(indices)[0]

    seen = fetch(0, 0, [3, 5, 7])
    assert len({row[0] for row in numbers(seen)}) > 1
    assert torch.equal(fetch(0, 0, [7, 2])[0], seen[2])
    assert not torch.equal(fetch(0, 1, [3, 5, 7]), seen)
    assert not torch.equal(fetch(1, 0, [3, 5, 7]), seen)


@pytest.mark.parametrize("augment", ["digits", "standard", "crops", "trivial", "jitter"])
def test_one_draw_changes_all_frames_of_a_clip_alike(augment: str):
    clips = ClipSet(Striped([30] * 12), preprocess(size=(8, 12)), augment, seed=3, training=True)
    seen = clips.__getitems__(list(range(12)))[0]
    assert seen.shape == (12, 1, 4, 8, 12)
    assert all(torch.equal(clip[:, frame], clip[:, 0]) for clip in seen for frame in range(4))
    assert len({clip[0, 0].numpy().tobytes() for clip in seen}) == 12
    clips.epoch = 1
    assert not torch.equal(clips.__getitems__(list(range(12)))[0], seen)


def test_augmentation_leaves_the_random_numbers_of_others_alone():
    clips = ClipSet(Striped([30]), preprocess(), "trivial", training=True)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    clips.__getitems__([0])
    assert torch.equal(torch.rand(3), expected)


def test_outside_of_training_a_video_is_seen_in_its_middle_and_always_alike():
    clips = sample_set(Counting([30, 5]), preprocess())
    assert clips.views == 1
    assert numbers(clips.view([0, 1], 0)) == [[10, 13, 16, 19], [0, 3, 1, 4]]
    clips.epoch = 5
    assert numbers(clips.__getitems__([0, 1])[0]) == [[10, 13, 16, 19], [0, 3, 1, 4]]


def test_views_are_clips_from_start_to_end_and_each_of_them_in_parts():
    clips = ClipSet(Counting([31, 4]), preprocess(test_clips=3, test_crops=3))
    assert clips.views == 9
    starts = [row[0] for view in range(9) for row in numbers(clips.view([0], view))]
    assert starts == [0, 0, 0, 10, 10, 10, 21, 21, 21] == [start for start in clip_starts(31, 4, 3, 3) for _ in "abc"]
    assert {tuple(row) for view in range(9) for row in numbers(clips.view([1], view))} == {(0, 3, 2, 1)}


@pytest.mark.parametrize(
    ("shape", "corners"),
    [((12, 20), [(0, 0), (0, 4), (0, 8)]), ((20, 12), [(0, 0), (4, 0), (8, 0)]), ((12, 12), [(0, 0)] * 3)],
)
def test_parts_lie_along_the_longer_side(shape: tuple[int, int], corners: list[tuple[int, int]]):
    pixels = torch.randint(0, 255, (1, 1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    class Other(Counting):
        def clip(self, index: int, frames: Sequence[int]) -> Tensor:
            return pixels.repeat(1, len(frames), 1, 1)

    clips = ClipSet(Other([30]), preprocess(size=(12, 12), test_crops=3))
    for crop, (top, left) in enumerate(corners):
        seen = clips.view([0], crop)
        assert torch.equal(seen[0, 0, 2], pixels[0, 0, top : top + 12, left : left + 12])
    assert torch.equal(ClipSet(Other([30]), preprocess(size=(12, 12))).view([0], 0), clips.view([0], 1))


def test_boxes_are_those_of_the_frames_that_are_seen_in_the_pixels_that_are_seen():
    # Twice as large, then cut from 40 to 24 columns: eight of them on each side.
    clips = ClipSet(Counting([11]), preprocess(frames=3, stride=2, size=(24, 24)))
    assert numbers(clips.view([0], 0)) == [[3, 5, 7]]
    found = clips.boxes(0)
    assert found is not None
    assert found.tolist() == [[2.0, 6, 8, 14], [6.0, 6, 12, 14], [10.0, 6, 16, 14]]
    masks, boxes = true_places(clips, [0])
    assert masks is not None
    assert boxes == [[6.0, 6, 12, 14]]  # in the middle frame
    for frame, (x0, y0, x1, y1) in enumerate(found.int().tolist()):
        expected = torch.zeros(24, 24, dtype=torch.bool)
        expected[y0:y1, x0:x1] = True
        assert torch.equal(masks[0, frame], expected)


def test_a_video_without_boxes_has_no_true_place():
    split = Counting([11])
    split.boxes_xyxy = lambda index: None
    assert true_places(ClipSet(split, preprocess()), [0]) == (None, [None])


def test_clips_are_not_remembered():
    split = Counting([30])
    clips = ClipSet(split, preprocess(), training=True)
    for epoch in range(3):
        clips.epoch = epoch
        clips.__getitems__([0])
    assert len(split.asked) == 3


def test_without_frames_pictures_are_meant():
    pictures = sample_set(Counting([30]), Preprocess(["a", "b"], 1, (12, 20), (0.0,), (1.0,)))
    assert type(pictures) is PictureSet
