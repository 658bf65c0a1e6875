"""Masks of single objects as COCO json has them: polygons, or run lengths, plain or packed into a string."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import DataError, MissingExtra

__all__ = ["check_extra", "decode_masks", "is_mask"]


def check_extra() -> None:
    """Raise MissingExtra where pycocotools is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise MissingExtra("pycocotools", "detection") from None


def is_mask(segmentation: Any, height: int, width: int) -> bool:
    """Whether an annotation's segmentation has the form of a mask of a picture of that size."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [height, width]:
            return False
        if isinstance(counts, list):
            return all(isinstance(run, int) and run >= 0 for run in counts) and sum(counts) == height * width
        return isinstance(counts, str) and counts.isascii() and bool(counts)
    return isinstance(segmentation, list) and bool(segmentation) and all(map(_is_polygon, segmentation))


def _is_polygon(points: Any) -> bool:
    numbers = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return numbers and all(isinstance(number, int | float) and math.isfinite(number) for number in points)


def decode_masks(segmentations: list[Any], height: int, width: int, name: str) -> Tensor:
    """The masks of a picture's objects, bool (object, height, width), drawn as COCO's own code draws them.

    Raises:
        DataError: If a mask cannot be decoded; names the picture.
    """
    from pycocotools import mask as coco

    found = np.zeros((len(segmentations), height, width), bool)
    for number, segmentation in enumerate(segmentations):
        try:
            runs: Any
            if isinstance(segmentation, list):
                runs = coco.merge(coco.frPyObjects(segmentation, height, width))
            elif isinstance(segmentation["counts"], list):
                runs = coco.frPyObjects(segmentation, height, width)
            else:
                runs = {"size": [height, width], "counts": segmentation["counts"].encode()}
            found[number] = coco.decode(runs)
        except Exception as error:  # compiled code that raises what it likes on damaged runs
            raise DataError(f"the mask of object {number} in {name} cannot be decoded: {error}") from None
    return torch.from_numpy(found)
