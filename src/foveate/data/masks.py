"""Masks of single objects as COCO json has them: polygons, or run lengths, plain or packed into a string."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import MissingExtra

__all__ = ["check_extra", "decode_masks", "is_mask"]

FAR = 1e5  # pixels; what draws polygons takes memory for every pixel of an outline
OUTLINE = 16  # times the pixels of a picture and of its edge: how long the outlines of an object may be together
BITS = 60  # of a packed number, more than any run has


def check_extra() -> None:
    """Raise MissingExtra where pycocotools is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise MissingExtra("pycocotools", "detection") from None


def is_mask(segmentation: Any, height: int, width: int) -> bool:
    """Return whether an annotation's segmentation is a mask of a picture of that size, without drawing it.

    Outlines that are much longer than a picture has pixels are none: drawing them would take memory and minutes.
    """
    if isinstance(segmentation, dict):
        runs = _runs(segmentation.get("counts"), height * width)
        return segmentation.get("size") == [height, width] and bool(runs) and sum(runs) == height * width
    if not isinstance(segmentation, list) or not segmentation or not all(map(_is_polygon, segmentation)):
        return False
    return sum(map(_length, segmentation)) <= OUTLINE * (height * width + height + width)


def decode_masks(segmentations: list[Any], height: int, width: int) -> Tensor:
    """The masks of a picture's objects, bool (object, height, width); polygons are drawn by COCO's own code."""
    found = np.zeros((len(segmentations), height, width), bool)
    for mask, segmentation in zip(found, segmentations, strict=True):
        if isinstance(segmentation, list):
            from pycocotools import mask as coco

            drawn: Any = coco.merge(coco.frPyObjects(segmentation, height, width))
            runs = _runs(drawn["counts"].decode(), height * width)
        else:
            runs = _runs(segmentation["counts"], height * width)
        mask[:] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    return torch.from_numpy(found)


def _is_polygon(points: Any) -> bool:
    numbers = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return numbers and all(isinstance(number, int | float) and abs(number) < FAR for number in points)


def _length(points: list[float]) -> float:
    """Return the length of a closed outline as it is drawn, by its longer sides, and a pixel for each point."""
    places = np.array(points, np.float64).reshape(-1, 2)
    return float(np.abs(places - np.roll(places, 1, axis=0)).max(axis=1).sum()) + len(places)


def _runs(counts: Any, most: int) -> list[int]:
    """Return the lengths of the runs without and with the object, in turns, down the columns.

    A string holds six bits a character, from "0" on: five of a number, the lowest first, and whether more follow.
    Numbers have a sign; from the fourth on they are what has to be added to the run before the last. The list is empty
    if runs cannot be told or exceed `most` pixels together; reading stops there.
    """
    if isinstance(counts, list):
        sensible = all(isinstance(run, int) and 0 <= run <= most for run in counts)
        return counts if sensible else []
    runs: list[int] = []
    number = shift = total = 0
    for bits in (ord(character) - ord("0") for character in str(counts)):
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4)
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            total += runs[-1]
            if runs[-1] < 0 or total > most:
                return []
            number = shift = 0
        elif shift > BITS:
            return []
    return runs
