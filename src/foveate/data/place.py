"""The one check of where the voxels of a scan are, whatever the format of its files."""

from pathlib import Path

import numpy as np

from foveate.errors import DataError

__all__ = ["check_finite", "check_place"]

FARTHEST = 1e6  # mm from the origin; no scanner is a kilometre wide
SMALLEST, LARGEST = 1e-6, 1e4  # mm: sides of a voxel, from electron microscopes to maps


def check_place(path: Path, affine: np.ndarray, unit: float = 1.0) -> None:
    """Raise a DataError unless an affine is finite, near its origin, and gives voxels of a sensible size.

    Args:
        path: The file or folder.
        affine: From voxels to RAS, (4, 4).
        unit: Millimetres of the unit of the affine.
    """
    if not np.isfinite(affine).all():
        raise DataError(f"{path} must have an affine of finite numbers; it is {affine[:3].tolist()}")
    sides = np.linalg.norm(affine[:3, :3], axis=0) * unit
    if not ((sides >= SMALLEST) & (sides <= LARGEST)).all():
        wanted = f"voxels with sides from {SMALLEST:g} to {LARGEST:g} mm"
        raise DataError(f"{path} must have {wanted}; got {' x '.join(f'{side:g}' for side in sides)}")
    if np.abs(affine[:3, 3] * unit).max() > FARTHEST:
        raise DataError(f"{path} must lie within {FARTHEST:g} mm of the origin; got {affine[:3, 3].tolist()}")


def check_finite(path: Path, array: np.ndarray) -> None:
    """Raise a DataError if a voxel is not a number or infinite."""
    if not np.isfinite(array).all():
        nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        told = [f"{count} that are {what}" for count, what in ((nan, "not a number"), (infinite, "infinite")) if count]
        raise DataError(f"{path} must hold finite values; of its {array.size} voxels it has {' and '.join(told)}")
