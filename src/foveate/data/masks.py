"""Masks of single objects as COCO json has them: polygons, or run lengths, plain or packed into a string."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import MissingExtra

__all__ = ["check_extra", "decode_masks", "is_mask"]

FAR = 1e5  # pixels; what draws polygons would take memory for any distance


def check_extra() -> None:
    """Raise MissingExtra where pycocotools is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise MissingExtra("pycocotools", "detection") from None


def is_mask(segmentation: Any, height: int, width: int) -> bool:
    """Whether an annotation's segmentation is a mask of a picture of that size."""
    if isinstance(segmentation, dict):
        runs = _runs(segmentation.get("counts"))
        return (
            segmentation.get("size") == [height, width] and min(runs, default=-1) >= 0 and sum(runs) == height * width
        )
    return isinstance(segmentation, list) and bool(segmentation) and all(map(_is_polygon, segmentation))


def decode_masks(segmentations: list[Any], height: int, width: int) -> Tensor:
    """The masks of a picture's objects, bool (object, height, width); polygons are drawn by COCO's own code."""
    found = np.zeros((len(segmentations), height, width), bool)
    for mask, segmentation in zip(found, segmentations, strict=True):
        if isinstance(segmentation, list):
            from pycocotools import mask as coco

            drawn: Any = coco.merge(coco.frPyObjects(segmentation, height, width))
            runs = _runs(drawn["counts"].decode())
        else:
            runs = _runs(segmentation["counts"])
        mask[:] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    return torch.from_numpy(found)


def _is_polygon(points: Any) -> bool:
    numbers = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return numbers and all(isinstance(number, int | float) and abs(number) < FAR for number in points)


def _runs(counts: Any) -> list[int]:
    """Lengths of the runs without and with the object, in turns, down the columns; none where they cannot be told.

    A string holds six bits a character, from "0" on: five of a number, the lowest first, and whether more follow.
    Numbers have a sign; from the fourth on they are what has to be added to the run before the last.
    """
    if isinstance(counts, list):
        return counts if all(isinstance(run, int) for run in counts) else []
    runs: list[int] = []
    number = shift = 0
    for bits in (ord(character) - ord("0") for character in str(counts)):
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4)
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return runs
