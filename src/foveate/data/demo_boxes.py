"""The embedded pictures with boxes: one to four handwritten digits of several sizes among clutter cut from others.

The same handwriting as in demo.py, in the same splits. Digits stand in different cells of a grid, so that their boxes
do not overlap. A picture is decided by the seed, its split and its number alone.
"""

import functools

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from foveate.data.boxes import Boxes, Objects
from foveate.data.demo import INK, enlarge, handwriting

__all__ = ["SIDE", "DigitScenes", "open_demo_boxes"]

CELL = 24
GRID = 3  # cells in a row, and in a column
SIDE = CELL * GRID
SIZES = (12, 16, 20, 24)  # of a digit
MOST = 4  # digits in a picture
PATCH = 6
PATCHES = 8
PICTURES = {"train": 800, "val": 200, "test": 200}


class DigitScenes:
    """Pictures of several digits, drawn when they are first asked for, and then remembered.

    Args:
        digits: float (digit, 8, 8) in 0..16.
        labels: The class of each.
        count: How many pictures there are.
        seed: Decides everything, with the picture's number.
    """

    def __init__(self, digits: np.ndarray, labels: np.ndarray, count: int, seed: int) -> None:
        self.digits = {size: enlarge(digits, size) for size in SIZES}
        self.labels, self.count, self.seed = labels, count, seed
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self._scene(index)[0])[None].repeat(3, 1, 1)

    def size(self, index: int) -> tuple[int, int]:
        return SIDE, SIDE

    def name(self, index: int) -> str:
        return f"digits {index}"

    def image_id(self, index: int) -> int:
        return index

    def objects(self, index: int) -> Objects:
        _, masks, chosen = self._scene(index)
        boxes = np.array([_box(mask) for mask in masks], np.float32)
        areas = torch.from_numpy(masks.sum(axis=(1, 2))).float()
        labels = torch.from_numpy(self.labels[chosen]).long()
        return Objects(torch.from_numpy(boxes), labels, torch.zeros(len(labels), dtype=torch.bool), areas)

    def masks(self, index: int) -> Tensor:
        return torch.from_numpy(self._scene(index)[1].copy())

    def _scene(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The canvas, the mask of each digit, and which digits they are."""
        if index not in self._drawn:
            self._drawn[index] = self._draw(index)
        return self._drawn[index]

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = RandomState([self.seed, index])
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        for other in random.randint(len(self.labels), size=PATCHES):
            size = int(random.choice(SIZES))
            top, left = random.randint(size - PATCH + 1, size=2)
            _brighten(canvas, random, self.digits[size][other, top : top + PATCH, left : left + PATCH], (0, 0), SIDE)
        chosen = random.randint(len(self.labels), size=random.randint(1, MOST + 1))
        masks = np.zeros((len(chosen), SIDE, SIDE), bool)
        for mask, digit, cell in zip(masks, chosen, random.permutation(GRID * GRID), strict=False):
            drawn = self.digits[int(random.choice(SIZES))][digit]
            corner = (cell // GRID * CELL, cell % GRID * CELL)
            part = _brighten(canvas, random, drawn, corner, CELL)
            mask[part] = drawn >= INK
        return canvas, masks, chosen


def _brighten(
    canvas: np.ndarray, random: RandomState, patch: np.ndarray, corner: tuple[int, int], room: int
) -> tuple[slice, slice]:
    """Draw a square patch somewhere in the square of side `room` at a corner, and say where."""
    size = len(patch)
    top, left = corner + random.randint(room - size + 1, size=2)
    part = (slice(top, top + size), slice(left, left + size))
    canvas[part] = np.maximum(canvas[part], patch)
    return part


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = mask.nonzero()
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@functools.cache
def open_demo_boxes(seed: int = 0) -> Boxes:
    """The embedded pictures with boxes: 10 classes, 72x72; the same object each time, for it remembers what it drew."""
    digits, labels, members = handwriting(seed)
    splits = {
        name: DigitScenes(digits[members[name]], labels[members[name]], count, 3 * seed + number)
        for number, (name, count) in enumerate(PICTURES.items())
    }
    classes = [str(kind) for kind in range(10)]
    return Boxes("demo", classes, list(range(10)), splits, "no handwritten digit is in two splits")
