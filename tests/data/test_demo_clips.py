import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from foveate.data import SPLITS, open_clips
from foveate.data.demo import INK, handwriting
from foveate.data.demo_clips import DIGIT, FRAMES, WAYS, open_direction, open_mover

OPENERS = [open_direction, open_mover]


def digits(clips, split: str) -> set[bytes]:
    part = clips.splits[split]
    return {part.digits[number].tobytes() for number in np.unique(part.chosen)}


def kinds(split) -> np.ndarray:
    """The classes of the three digits of every clip, that of the one that moves first."""
    names = [split.name(index).split(", number ")[0] for index in range(len(split))]
    return np.array([[int(word) for word in name.replace(",", "").split() if word.isdigit()] for name in names])


def test_direction_has_two_classes_in_three_splits():
    clips = open_clips("direction")
    assert clips is open_direction()
    assert (clips.source, clips.classes, clips.channels, clips.size) == ("direction", ["left", "right"], 1, (40, 40))
    assert [len(clips.splits[name]) for name in SPLITS] == [2504, 540, 550]
    clip = clips.splits["val"].clip(3, range(FRAMES))
    assert (clip.dtype, clip.shape) == (torch.uint8, (1, 8, 40, 40))
    assert clips.splits["val"].length(3) == FRAMES
    assert clips.splits["val"].name(3) == "digit 1 to the right"


def test_mover_has_ten_classes_in_three_splits():
    clips = open_clips("mover")
    assert clips is open_mover()
    assert (clips.source, clips.classes) == ("mover", [str(kind) for kind in range(10)])
    assert (clips.channels, clips.size) == (1, (48, 48))
    assert [len(clips.splits[name]) for name in SPLITS] == [2520, 360, 720]
    assert clips.splits["val"].clip(3, range(FRAMES)).shape == (1, 8, 48, 48)


@pytest.mark.parametrize("opened", OPENERS)
def test_no_handwritten_digit_is_in_two_splits(opened):
    for one, other in itertools.combinations(SPLITS, 2):
        assert not digits(opened(), one) & digits(opened(), other)


@pytest.mark.parametrize("opened", [open_direction, pytest.param(open_mover, marks=pytest.mark.slow)])
def test_a_clip_is_decided_by_its_number_whatever_was_asked_before(opened):
    one, other = opened.__wrapped__(), opened.__wrapped__()
    for index in (17, 3, 5):
        one.splits["val"].clip(index, [0])
    assert torch.equal(one.splits["val"].clip(5, range(8)), other.splits["val"].clip(5, range(8)))
    changed = opened.__wrapped__(seed=1).splits["val"]
    assert not torch.equal(changed.clip(5, range(8)), other.splits["val"].clip(5, range(8)))


@pytest.mark.parametrize("opened", OPENERS)
def test_frames_come_in_the_order_asked_for(opened):
    split = opened().splits["val"]
    whole = split.clip(7, range(FRAMES))
    assert torch.equal(split.clip(7, [5, 0, 5]), whole[:, [5, 0, 5]])
    for frames in ([], [8], [-1]):
        with pytest.raises(ValueError, match=r"frames must be one number or more in 0\.\.7; got \["):
            split.clip(7, frames)


def test_splits_do_not_share_their_chances():
    speeds = [np.diff(open_direction().splits[name].corners[:99, 0, :, 1].astype(int)) for name in SPLITS]
    places = [open_mover().splits[name].corners[:99, 1, 0] for name in SPLITS]
    for told in (speeds, places):
        assert all((one != other).any() for one, other in itertools.combinations(told, 2))


def test_left_is_right_backwards_and_nothing_else_differs():
    for name in SPLITS:
        split = open_direction().splits[name]
        for index in range(0, len(split), 2):
            assert (split.label(index), split.label(index + 1)) == (0, 1)
            left, right = (split.clip(number, range(FRAMES)) for number in (index, index + 1))
            assert torch.equal(left.flip(1), right)


def test_a_digit_travels_its_way_at_one_to_three_pixels_a_frame_and_is_whole():
    split = open_direction().splits["test"]
    speeds = Counter()
    for index in range(len(split)):
        moved = split.boxes_xyxy(index).diff(dim=0)
        speed = int(moved[0, 0])
        assert torch.equal(moved, torch.tensor([[speed, 0, speed, 0]]).expand(FRAMES - 1, 4))
        assert (speed > 0) == (split.label(index) == 1)
        speeds[speed] += 1
        ink = split.clip(index, range(FRAMES)).sum(dim=(0, 2, 3))
        assert (ink == split.digits[split.chosen[index, 0]].sum()).all()
    assert sorted(speeds) == [-3, -2, -1, 1, 2, 3]
    assert min(speeds.values()) > len(split) / 8


@pytest.mark.parametrize("opened", OPENERS)
def test_the_true_place_is_where_the_digit_is(opened):
    split = opened().splits["test"]
    for index in (0, 7, len(split) - 1):
        boxes, clip = split.boxes_xyxy(index), split.clip(index, range(FRAMES))[0]
        digit = torch.from_numpy(split.digits[split.chosen[index, 0]])
        assert (boxes.dtype, boxes.shape) == (torch.float32, (FRAMES, 4))
        for frame, (left, top, right, bottom) in zip(clip, boxes.int().tolist(), strict=True):
            inside = frame[top:bottom, left:right] >= INK
            assert inside.sum() == (digit >= INK).sum()
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_exactly_one_of_three_moves_straight_and_touches_nothing():
    split = open_mover().splits["test"]
    ways = Counter()
    for index in range(len(split)):
        corners = split.corners[index].astype(int)
        steps = np.diff(corners, axis=1)
        assert not steps[1:].any()
        assert (steps[0] == steps[0, 0]).all()
        speed = np.abs(steps[0, 0]).max()
        assert speed in (1, 2)
        ways[tuple(steps[0, 0] // speed)] += 1
        assert corners.min() >= 0
        assert corners.max() <= 48 - DIGIT
        for one, other in itertools.combinations(corners, 2):
            assert (np.abs(one - other).max(axis=1) > DIGIT).all()
        clip = split.clip(index, range(FRAMES))
        assert (clip.sum(dim=(0, 2, 3)) == split.digits[split.chosen[index]].sum()).all()
    assert len(ways) == len(WAYS) == 8
    assert min(ways.values()) > len(split) / 24


def test_the_class_is_that_of_the_digit_that_moves():
    split, (_, labels, members) = open_mover().splits["val"], handwriting(0)
    for index, row in enumerate(kinds(split)):
        assert row[0] == split.label(index)
        assert (labels[members["val"]][split.chosen[index]] == row).all()


def test_of_all_three_classes_each_moves_equally_often():
    for name, times in (("train", 7), ("val", 1), ("test", 2)):
        moved = Counter((row[0], tuple(sorted(row))) for row in kinds(open_mover().splits[name]).tolist())
        assert len(moved) == 10 * 36
        assert set(moved.values()) == {times}
        assert all(len(set(three)) == 3 for _, three in moved)


def test_where_digits_stand_at_first_does_not_tell_which_will_move():
    steps = [speed * way for speed in (1, 2) for way in WAYS]
    for starts in open_mover().splits["val"].corners[:, :, 0].astype(int):
        for one, others in zip(starts, (starts[[1, 2]], starts[[0, 2]], starts[[0, 1]]), strict=True):
            paths = [one + step * np.arange(FRAMES)[:, None] for step in steps]
            inside = [path for path in paths if path.min() >= 0 and path.max() <= 48 - DIGIT]
            assert any((np.abs(path[:, None] - others).max(axis=-1) > DIGIT).all() for path in inside)
