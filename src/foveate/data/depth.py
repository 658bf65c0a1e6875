"""The number of bits that grey pictures of 16 bits really use, as detectors and microscopes of 10 to 14 bits do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveate.data.faults import read_errors
from foveate.data.reading import is_deep, is_deep_colour
from foveate.errors import DataError

__all__ = ["BITS", "Depth", "find_depth", "set_bits", "settle_depth"]

COLOUR = 64  # of 255: what a value of more than 14 bits reaches
BITS = (8, 10, 12, 14, 16)  # what detectors give
DEEP = (".png", ".tif", ".tiff", ".pgm", ".ppm")  # formats that may hold 16 bits


@dataclass(frozen=True)
class Depth:
    """Find the bit depth of the grey images of a training set.

    Args:
        bits: Number of bits from black to white: 2**bits - 1 becomes 255.
        pictures: Number of pictures of more than 8 bits.
        largest: The largest value in them.
        chosen: Whether a setting says the bits.
    """

    bits: int = 16
    pictures: int = 0
    largest: int = 0
    chosen: bool = False

    def notes(self) -> tuple[str, ...]:
        """Return the line to show before training; none if no picture has more than 8 bits."""
        if not self.pictures:
            return ()
        why = "as the setting bits says" if self.chosen else "by the largest value; the setting bits chooses others"
        held = f"{self.pictures} training pictures have 16 bits and values up to {self.largest}"
        return (f"{held}: 0 to {2**self.bits - 1} ({self.bits} bits) becomes 0 to 255, {why}",)


def settle_depth(splits: Mapping[str, Any], bits: int | None) -> Depth:
    """Find the depth of the training split, and have all splits read by it; data in memory stay as they are.

    Args:
        splits: "train" and others; those of files have `paths` and `bits`.
        bits: The number that a setting says.
    """
    depth = find_depth(getattr(splits["train"], "paths", []), bits)
    set_bits(splits, depth.bits)
    return depth


def set_bits(splits: Mapping[str, Any], bits: int) -> None:
    """Have splits of files read pictures of more than 8 bits as so many bits; see `read_picture`."""
    for split in splits.values():
        if hasattr(split, "bits"):
            split.bits = bits


def find_depth(paths: Iterable[Path], bits: int | None = None) -> Depth:
    """Return the smallest usual number of bits that holds every value of the pictures of more than 8 bits.

    Args:
        paths: The training pictures; those of formats without 16 bits are not opened.
        bits: The number that a setting says; the pictures are then looked at for their largest value alone.

    Raises:
        DataError: If a picture cannot be read, or holds larger values than the setting takes.
    """
    paths = list(paths)
    _check_colour(paths)
    values = {path: value for path in paths if path.suffix.lower() in DEEP and (value := _largest(path)) is not None}
    largest = max(values.values(), default=0)
    if bits is not None and largest >= 2**bits:
        path = max(values, key=values.__getitem__)
        raise DataError(f"{path} holds values up to {largest}; the setting bits={bits} reads 0 to {2**bits - 1}")
    found = next((each for each in BITS if largest < 2**each), BITS[-1]) if values else BITS[-1]
    return Depth(bits or found, len(values), largest, bits is not None)


def _check_colour(paths: Iterable[Path]) -> None:
    """Refuse colour pictures of 16 bits of which no value reaches the upper 2: they would be read as nearly black."""
    deep = [path for path in paths if path.suffix.lower() in DEEP and is_deep_colour(path)]
    for path in deep:
        with read_errors(path), Image.open(path) as picture:
            if int(np.asarray(picture)[..., :3].max()) >= COLOUR:
                return
    if deep:
        told = "at most 14 of them, and the upper 8 are all that can be read; save them with 8 bits"
        raise DataError(f"{deep[0]} and {len(deep) - 1} other colour pictures have 16 bits and use {told}")


def _largest(path: Path) -> int | None:
    """Return the largest value of a picture of more than 8 bits; None for any other."""
    if not is_deep(path):
        return None
    with read_errors(path), Image.open(path) as picture:
        return int(np.asarray(picture).max())
