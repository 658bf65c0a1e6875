"""Pictures of a scan in three planes, with a label map or a map of numbers over it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from foveate.files import write_atomic

__all__ = ["grey_levels", "planes", "slice_of", "write_overlay"]

SMALLEST_SIDE = 224  # to which small slices are enlarged
COLOURS, LABEL_COLOURS = "inferno", "tab10"
GAP = 8  # pixels between planes


def planes(image: Tensor, over: Tensor, spacing: Sequence[float], *, labels: bool = False) -> Image.Image:
    """The axial, coronal and sagittal slice through the middle of what is marked, side by side; of a picture, itself.

    As radiologists look at them: the patient's right on the left, anterior and superior above.

    Args:
        image: (*space), along right, anterior and superior; or (height, width).
        over: (*space): classes, of which the background stays clear, or numbers from 0 up.
        spacing: Of each axis.
        labels: Whether `over` holds classes.
    """
    grey, marks = grey_levels(image.float().numpy()), over.numpy()
    highest = float(marks.max()) or 1.0
    if grey.ndim == 2:
        return _drawn(grey, marks, highest, _pixels(grey.shape, spacing), labels)
    sides = _pixels(grey.shape, spacing)
    at = middle(marks, labels)
    drawn = []
    for axis in (2, 1, 0):
        across, up = (rest for rest in range(3) if rest != axis)
        cuts = [slice_of(volume, axis, at[axis]) for volume in (grey, marks)]
        drawn.append(_drawn(cuts[0], cuts[1], highest, (sides[up], sides[across]), labels))
    sheet = Image.new("RGB", (sum(each.width + GAP for each in drawn) - GAP, max(each.height for each in drawn)))
    left = 0
    for each in drawn:
        sheet.paste(each, (left, 0))
        left += each.width + GAP
    return sheet


def grey_levels(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers as grey from 0 to 1, but for the hundredth at each end."""
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / max(float(high - low), 1e-8), 0, 1)


def slice_of(volume: np.ndarray[Any, Any], axis: int, at: int) -> np.ndarray[Any, Any]:
    """A slice with superior or anterior above and the patient's right on the left; a picture stays as it is."""
    if volume.ndim == 2:
        return volume
    cut = np.rot90(volume.take(at, axis=axis))
    return cut if axis == 0 else cut[:, ::-1]


def write_overlay(path: Path, image: Tensor, over: Tensor, spacing: Sequence[float], *, labels: bool = False) -> Path:
    """Write planes() as PNG."""
    body = io.BytesIO()
    planes(image, over, spacing, labels=labels).save(body, format="PNG")
    write_atomic(path, body.getvalue())
    return path


def middle(marks: np.ndarray[Any, Any], labels: bool) -> tuple[int, ...]:
    """The voxel in the middle of what is marked most: of all classes, or of the highest hundredth of numbers."""
    chosen = marks > 0 if labels else marks >= np.quantile(marks, 0.99)
    if not chosen.any():
        return tuple(size // 2 for size in marks.shape)
    return tuple(round(float(places.mean())) for places in np.nonzero(chosen))


def _pixels(shape: Sequence[int], spacing: Sequence[float]) -> list[float]:
    """How long a voxel is drawn along each axis, in pixels: one scale for all, and no voxel lost."""
    nearest = min(spacing)
    scale = max(1, -(-SMALLEST_SIDE // round(min(n * mm for n, mm in zip(shape, spacing, strict=True)) / nearest)))
    return [scale * mm / nearest for mm in spacing]


def _drawn(
    grey: np.ndarray[Any, Any], marks: np.ndarray[Any, Any], highest: float, sides: Sequence[float], labels: bool
) -> Image.Image:
    from matplotlib import colormaps

    base = np.repeat(grey[..., None], 3, axis=2)
    if labels:
        colours = colormaps[LABEL_COLOURS]((marks.astype(int) - 1) % 10)[..., :3]
        mixed = np.where(marks[..., None] > 0, 0.5 * base + 0.5 * colours, base)
    else:
        mixed = 0.5 * base + 0.5 * colormaps[COLOURS](marks / highest)[..., :3]
    height, width = (max(1, round(size * side)) for size, side in zip(grey.shape, sides, strict=True))
    picture = Image.fromarray((mixed * 255).round().astype(np.uint8))
    return picture.resize((width, height), Image.Resampling.NEAREST)
