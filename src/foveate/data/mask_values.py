"""The values in masks that nothing describes: which are classes, which are void, and which come from smoothed edges."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from foveate.data.labels import tally
from foveate.data.nifti import is_nifti, read_nifti
from foveate.data.planes import read_mask
from foveate.data.volumes import Case
from foveate.errors import DataError

__all__ = ["MaskRule", "Seen", "classes_seen", "read_values"]

MOST = 256  # values that may all be classes; more are grey values
VOID = (255, 65535)  # by custom of PASCAL VOC and Cityscapes
SMALL = 64  # void values stand beside classes that count from 0, below this
RARE = 0.05  # of all voxels: a value that may come from smoothing
LOOKED_AT = 16  # masks, and planes of each, in which places of rare values are looked at
FEWEST = 3  # values that have no area: fewer may be classes
INSIDE = 0.05  # of the voxels of a value with an area, at least, have nothing else beside them


@dataclass(frozen=True)
class MaskRule:
    """Settings of a run for the values in masks.

    Args:
        ignore: Values that are neither learned nor scored; None if nothing is said, so that void values are asked for.
        threshold: The lowest value of the foreground, for masks of two classes whose edges are grey.
    """

    ignore: Sequence[int] | None = None
    threshold: int | None = None


@dataclass(frozen=True)
class Seen:
    """The classes and values of masks.

    Args:
        names: Of the classes, the background first.
        values: The class of each value.
        voxels: Of each class, by name.
        notes: Oddities, a sentence each.
    """

    names: list[str]
    values: dict[int, int]
    voxels: dict[str, int]
    notes: list[str] = field(default_factory=list)


def read_values(path: Path) -> np.ndarray:
    """Read the number of each voxel of a label file."""
    return read_nifti(path).array if is_nifti(path) else read_mask(path)


def classes_seen(cases: Sequence[Case], rule: MaskRule) -> Seen:
    """Take a class for 0 and for every value in the masks, all of which are read.

    Raises:
        DataError: There are too many values, values that lie on edges alone, or a value that is void by custom.
    """
    labels = [case.label for case in cases if case.label is not None]
    counts = _counts(labels, rule)
    if rule.threshold is not None:
        low = sum(count for value, count in counts.items() if value < rule.threshold)
        voxels = {"background": low, "foreground": counts.total() - low}
        if not low or low == counts.total():
            held = f"{min(counts)} to {max(counts)}"
            raise DataError(f"threshold must part the values of the masks, which are {held}; got {rule.threshold}")
        return Seen(list(voxels), {0: 0, 255: 1}, voxels)
    for value in rule.ignore or ():
        counts.pop(value, None)
    if rule.ignore is None:
        _ask_for_void(labels[0], counts)
    notes = _edges(labels, counts)
    values = sorted({0, *counts})
    if len(values) < 2:
        raise DataError("no label holds anything but 0, the background")
    names = ["background", "foreground"] if len(values) == 2 else ["background", *map(str, values[1:])]
    voxels = {name: counts[value] for name, value in zip(names, values, strict=True)}
    return Seen(names, {value: number for number, value in enumerate(values)}, voxels, notes)


def _counts(labels: Sequence[Path], rule: MaskRule) -> Counter[int]:
    counts: Counter[int] = Counter()
    for path in labels:
        counts += tally(read_values(path), path)
        held = counts.keys() - set(rule.ignore or ())
        if held and (min(held) < 0 or len(held) > MOST) and rule.threshold is None:
            found = f"{min(held)}" if min(held) < 0 else f"{len(held)} values up to here"
            raise DataError(f"{path} must hold classes, 0 and up, {MOST} at most; it has {found}")
    return counts


def _ask_for_void(example: Path, counts: Counter[int]) -> None:
    """Raise a DataError if a value is void by custom, which must be said and not guessed."""
    classes = [value for value in counts if value not in VOID]
    void = [value for value in VOID if value in counts]
    if void and max(classes, default=0) > 0 and max(classes) < SMALL:
        share = sum(counts[value] for value in void) / counts.total()
        raise DataError(
            f"masks such as {example} hold {void[0]} in {share:.2%} of all voxels beside the classes "
            f"{', '.join(map(str, sorted(classes)[:12]))}: give ignore=[{void[0]}] if it is void, neither to be "
            "learned nor scored, or ignore=[] if it is a class"
        )


def _edges(labels: Sequence[Path], counts: Counter[int]) -> list[str]:
    """Return notes on rare values that lie between others and have no area, as those on smoothed edges.

    Raises:
        DataError: There are so many that the masks were smoothed.
    """
    inner, total = sorted(counts)[1:-1], counts.total()
    rare = [value for value in inner if counts[value] < RARE * total]
    if not rare:
        return []
    inside, seen = _places(labels, rare)
    soft = [value for value in rare if seen[value] and inside[value] < INSIDE * seen[value]]
    if not soft:
        return []
    solid = [value for value in sorted(counts) if value not in soft]
    share = sum(counts[value] for value in soft) / total
    held = f"{len(soft)} values from {soft[0]} to {soft[-1]}" if len(soft) > 1 else f"1 value, {soft[0]}"
    told = f"{held}, in {share:.2%} of all voxels, with no area, on edges alone"
    counted = len(counts) < SMALL and max(counts) == len(counts) - 1  # classes without a gap may all be thin
    if len(soft) >= FEWEST and len(soft) > len(solid) and not counted:
        middle = (solid[0] + solid[-1] + 1) // 2
        raise DataError(
            f"masks such as {labels[0]} are smoothed: they hold {told}; give threshold={middle} for background below "
            "and foreground from there on, save masks of more classes without smoothing, or name the labels in a "
            "dataset.json if all of these values are classes"
        )
    return [f"masks such as {labels[0]} hold {told}, as masks that were smoothed do"]


def _places(labels: Sequence[Path], rare: Sequence[int]) -> tuple[Counter[int], Counter[int]]:
    """Count voxels of rare values that have nothing else beside them, and all voxels of these values."""
    inside: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for path in labels[:: -(-len(labels) // LOOKED_AT)]:
        for plane in _planes(read_values(path)):
            chosen = np.isin(plane, rare)
            if chosen.any():
                low, high = ndimage.minimum_filter(plane, 3), ndimage.maximum_filter(plane, 3)
                seen.update(plane[chosen].tolist())
                inside.update(plane[chosen & (low == high)].tolist())
    return inside, seen


def _planes(array: np.ndarray) -> Iterator[np.ndarray]:
    whole = np.rint(array).astype(np.int64)
    if whole.ndim == 2:
        yield whole
        return
    for number in range(0, whole.shape[2], -(-whole.shape[2] // LOOKED_AT)):
        yield whole[:, :, number]
