"""Label values in files, and the classes that they stand for."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from foveate.errors import DataError

__all__ = ["IGNORED", "as_classes", "as_values", "tally"]

IGNORED = 255  # the class number of voxels that are neither learned nor scored, which no class may have

PART = 2**22  # voxels at once, so that counting a scan takes little memory
ROUNDING = 1e-3  # scaling by a header's float32 slope moves a whole number by less


def tally(array: np.ndarray, path: Path) -> Counter[int]:
    """How many voxels hold each value; a DataError where one is no whole number."""
    counts: Counter[int] = Counter()
    for part in _parts(array):
        whole = _whole(part, path)
        low = int(whole.min())
        if int(whole.max()) - low < 2**16:
            found = np.bincount(whole - low)
            held = np.flatnonzero(found)
            counts.update(dict(zip((held + low).tolist(), found[held].tolist(), strict=True)))
        else:
            held, found = np.unique(whole, return_counts=True)
            counts.update(dict(zip(held.tolist(), found.tolist(), strict=True)))
    return counts


def as_classes(array: np.ndarray, values: Mapping[int, int], path: Path) -> np.ndarray:
    """Replace label values by class numbers, uint8 (int64 for more than 256 classes).

    Raises:
        DataError: If there are values that stand for no class: which, and how many voxels hold them.
    """
    unknown = sorted((value, count) for value, count in tally(array, path).items() if value not in values)
    if unknown:
        told = ", ".join(f"{value} in {count} voxel{'s' * (count > 1)}" for value, count in unknown[:8])
        more = f" and {len(unknown) - 8} more values" if len(unknown) > 8 else ""
        raise DataError(f"{path} holds labels that no class has: {told}{more}; the classes have {_listed(values)}")
    kind = np.uint8 if len(values) <= 256 else np.int64
    if all(value == number for value, number in values.items()):
        return (array if array.dtype.kind in "iub" else np.rint(array)).astype(kind)
    keys = np.array(sorted(values), np.int64)
    numbers = np.array([values[key] for key in sorted(values)], kind)
    parts = [numbers[np.searchsorted(keys, _whole(part, path))] for part in _parts(array)]
    return np.concatenate(parts).reshape(array.shape, order=_order(array))


def as_values(classes: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Replace class numbers by the label values that stand for them: the inverse of as_classes."""
    table = np.zeros(max(values.values()) + 1, np.int64)
    for value, number in values.items():
        table[number] = value
    if classes.size and not 0 <= classes.min() <= classes.max() < len(table):
        raise ValueError(f"labels are classes from 0 to {len(table) - 1}; got {classes.min()} to {classes.max()}")
    return table[classes]


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1, order=_order(array))
    for start in range(0, flat.size, PART):
        yield flat[start : start + PART]


def _order(array: np.ndarray) -> Literal["C", "F"]:
    """As the array lies, so that reading through it copies nothing; scans lie the Fortran way."""
    return "F" if array.flags.f_contiguous else "C"


def _whole(part: np.ndarray, path: Path) -> np.ndarray:
    if part.dtype.kind in "iub":
        return part.astype(np.int64)
    with np.errstate(invalid="ignore"):
        rounded = np.rint(part)
        broken = ~(np.abs(part - rounded) <= ROUNDING)
    if broken.any():
        first, count = float(part[broken][0]), int(broken.sum())
        others = f", as in {count} voxels" if count > 1 else ""
        raise DataError(f"{path} must hold a whole number as label of each voxel; got {first:g}{others}")
    return rounded.astype(np.int64)


def _listed(values: Mapping[int, int]) -> str:
    keys = sorted(values)
    return ", ".join(map(str, keys[:12])) + (f" ... {keys[-1]}" if len(keys) > 12 else "")
