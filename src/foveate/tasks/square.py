"""Pictures of any shape in squares of one size, so that they stand beside each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["SIDE", "Square"]

SIDE = 160

Array = np.ndarray[Any, Any]


class Square:
    """Bring arrays of (height, width), or (height, width, 3), into a square, at one scale along both axes.

    Args:
        size: The height and the width of the arrays.
        spacing: The height and the width of a pixel.
    """

    def __init__(self, size: Sequence[int], spacing: Sequence[float] = (1.0, 1.0)) -> None:
        sides = [pixels * step for pixels, step in zip(size, spacing, strict=True)]
        self.height, self.width = (max(1, round(SIDE * side / max(sides))) for side in sides)

    def __call__(self, drawn: Array, resample: Image.Resampling, beyond: float) -> Array:
        image = Image.fromarray(np.ascontiguousarray(drawn)).resize((self.width, self.height), resample)
        kind = np.float16 if drawn.dtype == np.float32 else drawn.dtype
        square = np.full((SIDE, SIDE, *drawn.shape[2:]), beyond, kind)
        top, left = (SIDE - self.height) // 2, (SIDE - self.width) // 2
        square[top : top + self.height, left : left + self.width] = np.asarray(image)
        return square
