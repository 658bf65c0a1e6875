"""Two embedded sets of clips that only motion decides: which way a digit travels, and which of three digits moves.

The same handwriting as in demo.py, in the same splits: no handwritten digit is in two. A clip is decided by the seed,
its split and its number alone, and is drawn anew each time it is asked for.

"direction": one digit travels over the canvas at one to three pixels a frame. Clips come in pairs of the same frames,
in one order "right" and in the other "left": to whoever does not see the order, the two are one, and half right is the
most there is. Who knows which frame is the first sees much in it alone: what will travel right begins at the left.

"mover": three digits of three classes stand apart; one of them moves, and its class is that of the clip. Of all ways to
choose three classes and one of these each comes equally often, and in the first frame each of the three could be the
one that will move: a third right is the most that a single frame gives. Diagonal ways are rarer than straight ones, for
they need more room.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from foveate.data.clips import Clips
from foveate.data.demo import INK, enlarge, handwriting

__all__ = ["FRAMES", "DigitClips", "open_direction", "open_mover"]

FRAMES = 8
DIGIT = 16
DIRECTION_SIDE = 40
SPEEDS = 3  # 1, 2, 3 pixels a frame
MOVER_SIDE = 48
WAYS = np.array([(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)])
MOTIONS = np.concatenate([WAYS, 2 * WAYS])  # pixels down and right a frame
OTHERS = list(itertools.combinations(range(1, 10), 2))  # how far the classes at rest are from the class that moves
ROUND = 10 * len(OTHERS)  # every three classes with every one of them as the one that moves
ROUNDS = {"train": 7, "val": 1, "test": 2}


class DigitClips:
    """Clips of digits on black, the first of which is meant.

    Args:
        side: Of the canvas.
        digits: uint8 (digit, 16, 16).
        chosen: Which digits are in each clip, (clip, place).
        corners: The row and the column of the upper left corner of each in each frame, (clip, place, frame, 2).
        labels: The class of each clip.
        names: What to call each clip.
    """

    def __init__(
        self,
        side: int,
        digits: np.ndarray,
        chosen: np.ndarray,
        corners: np.ndarray,
        labels: np.ndarray,
        names: Sequence[str],
    ) -> None:
        self.side, self.digits, self.chosen, self.labels, self.names = side, digits, chosen, labels, names
        self.corners = corners.astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def length(self, index: int) -> int:
        return self.corners.shape[2]

    def clip(self, index: int, frames: Sequence[int]) -> Tensor:
        if not frames or min(frames) < 0 or max(frames) >= self.length(index):
            raise ValueError(f"frames must be one number or more in 0..{self.length(index) - 1}; got {list(frames)}")
        clip = np.zeros((1, len(frames), self.side, self.side), np.uint8)
        for digit, path in zip(self.digits[self.chosen[index]], self.corners[index], strict=True):
            for canvas, (top, left) in zip(clip[0], path[list(frames)].tolist(), strict=True):
                canvas[top : top + DIGIT, left : left + DIGIT] = digit
        return torch.from_numpy(clip)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name(self, index: int) -> str:
        return self.names[index]

    def boxes_xyxy(self, index: int) -> Tensor:
        rows, columns = (self.digits[self.chosen[index, 0]] >= INK).nonzero()
        box = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32)
        tops, lefts = torch.from_numpy(self.corners[index, 0].astype(np.float32)).unbind(dim=1)
        return box + torch.stack([lefts, tops, lefts, tops], dim=1)


@functools.cache
def open_direction(seed: int = 0) -> Clips:
    """One digit that travels: 2 classes, grey, 40x40, 8 frames; every handwritten digit once to either side."""
    digits, _, members = handwriting(seed)
    splits = {
        name: _direction(enlarge(digits[members[name]], DIGIT), RandomState([seed, number]))
        for number, name in enumerate(members)
    }
    return Clips("direction", ["left", "right"], 1, (DIRECTION_SIDE, DIRECTION_SIDE), splits)


def _direction(digits: np.ndarray, random: RandomState) -> DigitClips:
    room = DIRECTION_SIDE - DIGIT
    speed = random.randint(1, SPEEDS + 1, size=len(digits))
    top = random.randint(room + 1, size=len(digits))
    first = (random.random_sample(len(digits)) * (room - (FRAMES - 1) * speed + 1)).astype(int)
    lefts = first[:, None] + speed[:, None] * np.arange(FRAMES)
    rightward = np.stack([np.broadcast_to(top[:, None], lefts.shape), lefts], axis=-1)
    corners = np.stack([rightward[:, ::-1], rightward], axis=1).reshape(-1, 1, FRAMES, 2)
    chosen, labels = np.divmod(np.arange(2 * len(digits)), 2)
    sides = ("left", "right")
    names = [f"digit {digit} to the {sides[label]}" for digit, label in zip(chosen, labels, strict=True)]
    return DigitClips(DIRECTION_SIDE, digits, chosen[:, None], corners, labels, names)


@functools.cache
def open_mover(seed: int = 0) -> Clips:
    """Three digits of which one moves: 10 classes, grey, 48x48, 8 frames; the class is that of the one that moves."""
    digits, kinds, members = handwriting(seed)
    splits = {
        name: _mover(digits[members[name]], kinds[members[name]], ROUNDS[name] * ROUND, RandomState([seed, 3 + number]))
        for number, name in enumerate(members)
    }
    return Clips("mover", [str(kind) for kind in range(10)], 1, (MOVER_SIDE, MOVER_SIDE), splits)


def _mover(digits: np.ndarray, kinds: np.ndarray, count: int, random: RandomState) -> DigitClips:
    numbers = np.arange(count)
    others = np.array(OTHERS)[numbers // 10 % len(OTHERS)]
    classes = np.column_stack([numbers, numbers + others[:, 0], numbers + others[:, 1]]) % 10
    of_class = [np.flatnonzero(kinds == kind) for kind in range(10)]
    chances = random.random_sample(classes.shape)
    chosen = np.array(
        [
            [of_class[kind][int(chance * len(of_class[kind]))] for kind, chance in zip(*row, strict=True)]
            for row in zip(classes, chances, strict=True)
        ]
    )
    names = ["{}, beside {} and {}, number {}".format(*row, number) for number, row in enumerate(classes)]
    paths = _paths(count, random)
    return DigitClips(MOVER_SIDE, enlarge(digits, DIGIT), chosen, paths, classes[:, 0], names)


def _paths(count: int, random: RandomState) -> np.ndarray:
    """Corners of three squares that never touch, of which the first moves, (count, 3, frame, 2).

    Only where each of the three could be the one that moves are they kept, so that their places do not tell it.
    """
    room = MOVER_SIDE - DIGIT
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        starts = random.randint(room + 1, size=(20 * count, 3, 2))
        starts = starts[_apart(starts, np.roll(starts, 1, axis=1)).all(axis=1)]
        paths = starts[:, :, None, None] + MOTIONS[:, None] * np.arange(FRAMES)[:, None]  # (n, 3, motion, frame, 2)
        free = np.all((paths >= 0) & (paths <= room), axis=(-2, -1))
        for shift in (1, 2):
            free &= _apart(paths, np.roll(starts, shift, axis=1)[:, :, None, None]).all(axis=-1)
        kept = free.any(axis=-1).all(axis=-1)
        free = free[kept, 0]
        # A motion is the likelier chosen where it can be, the more seldom it can be.
        chances = random.random_sample(free.shape) ** free.mean(axis=0)
        motion = np.where(free, chances, -1).argmax(axis=1)
        resting = np.broadcast_to(starts[kept][:, :, None], (len(motion), 3, FRAMES, 2)).copy()
        resting[:, 0] = paths[kept, 0][np.arange(len(motion)), motion]
        found.append(resting)
    return np.concatenate(found)[:count]


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether a line of pixels or more is free between two squares."""
    return np.abs(one - other).max(axis=-1) > DIGIT
