"""The embedded pictures: one handwritten digit somewhere on a larger canvas, among clutter cut from other digits.

Mnih, Heess, Graves and Kavukcuoglu, "Recurrent Models of Visual Attention", NeurIPS 2014,
https://arxiv.org/abs/1406.6247, introduced such pictures ("cluttered translated MNIST"). Here the handwriting is the
1,797 digits of 8x8 pixels that scikit-learn carries (Alpaydin and Kaynak 1998), drawn at twice their size.

The digit's place is known, so that one can measure whether a network looks there. A picture is decided by the seed, its
split and its number alone. Each handwritten digit belongs to one split, and clutter is cut from digits of that split.
"""

import functools

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from foveate.data.pictures import Pictures

__all__ = ["CANVAS", "INK", "DigitSplit", "enlarge", "handwriting", "open_demo"]

CANVAS = 40
DIGIT = 16
PATCH = 7
PATCHES = 6
INK = 64  # of 255: from here on a pixel belongs to the digit
SPLITS = {"train": 2, "val": 2, "test": 2}  # how often each handwritten digit is drawn
SHARES = (0.7, 0.85)  # of the digits of a class: where training ends, where validation ends


class DigitSplit:
    """Cluttered digits, drawn when they are first asked for.

    Args:
        digits: uint8 (digit, 16, 16).
        labels: The class of each.
        repeats: How often each digit is drawn, each time at another place among other clutter.
        seed: Decides places and clutter: each picture has its own row of chances.
    """

    def __init__(self, digits: np.ndarray, labels: np.ndarray, repeats: int, seed: int) -> None:
        self.digits, self.labels = digits, labels
        self._chances = RandomState(seed).random_sample((repeats * len(digits), PATCHES + 1, 5))
        self._images = np.zeros((repeats * len(digits), CANVAS, CANVAS), np.uint8)
        self._masks = np.zeros((repeats * len(digits), CANVAS, CANVAS), bool)
        self._drawn = np.zeros(repeats * len(digits), bool)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Tensor:
        self._draw(index)
        return torch.from_numpy(self._images[index])[None].clone()

    def label(self, index: int) -> int:
        return int(self.labels[index % len(self.digits)])

    def name(self, index: int) -> str:
        return f"digit {index % len(self.digits)}, drawing {index // len(self.digits)}"

    def boxes_xyxy(self, index: int) -> Tensor:
        rows, columns = self.mask(index).nonzero(as_tuple=True)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return torch.tensor([[float(edge) for edge in box]])

    def mask(self, index: int) -> Tensor:
        self._draw(index)
        return torch.from_numpy(self._masks[index]).clone()

    def _draw(self, index: int) -> None:
        if self._drawn[index]:
            return
        chances = self._chances[index]
        canvas, own = self._images[index], index % len(self.digits)
        for chance in chances[:-1]:
            other = (own + 1 + int(chance[0] * (len(self.digits) - 1))) % len(self.digits)
            top, left = (int(part * (DIGIT - PATCH + 1)) for part in chance[1:3])
            patch = self.digits[other, top : top + PATCH, left : left + PATCH]
            top, left = (int(part * (CANVAS - PATCH + 1)) for part in chance[3:5])
            _brighten(canvas[top : top + PATCH, left : left + PATCH], patch)
        top, left = (int(part * (CANVAS - DIGIT + 1)) for part in chances[-1, :2])
        _brighten(canvas[top : top + DIGIT, left : left + DIGIT], self.digits[own])
        self._masks[index, top : top + DIGIT, left : left + DIGIT] = self.digits[own] >= INK
        self._drawn[index] = True


def _brighten(part: np.ndarray, patch: np.ndarray) -> None:
    np.maximum(part, patch, out=part)


@functools.cache
def open_demo(seed: int = 0) -> Pictures:
    """The embedded pictures: 10 classes, grey, 40x40; the same object each time, for it remembers what it has drawn."""
    digits, labels, members = handwriting(seed)
    splits = {}
    for number, (name, repeats) in enumerate(SPLITS.items()):
        chosen = members[name]
        drawn = enlarge(digits[chosen], DIGIT)
        splits[name] = DigitSplit(drawn, labels[chosen], repeats, 3 * seed + number)
    return Pictures("demo", [str(kind) for kind in range(10)], 1, (CANVAS, CANVAS), splits)


def handwriting(seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Digits of 8x8 pixels in 0..16, the class of each, and the numbers of those in each split."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = RandomState(seed).permutation(len(labels))
    members: dict[str, list[int]] = {name: [] for name in SPLITS}
    for kind in range(10):
        of_kind = order[labels[order] == kind]
        first, second = (int(len(of_kind) * share) for share in SHARES)
        for name, part in zip(SPLITS, (of_kind[:first], of_kind[first:second], of_kind[second:]), strict=True):
            members[name].extend(part.tolist())
    return pixels.reshape(-1, 8, 8), labels, {name: np.sort(np.array(part)) for name, part in members.items()}


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """From 8x8 in 0..16 to size x size in 0..255, bilinear."""
    small = torch.from_numpy(images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return large[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()
