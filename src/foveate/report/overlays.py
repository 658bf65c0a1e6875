"""Attention maps as pictures inside the page: small palette PNGs that the browser lays over the samples."""

import base64
import functools
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from foveate.report.read import Map, Maps, Sample

__all__ = [
    "WIDE",
    "Overlay",
    "Profile",
    "colour_bar_uri",
    "largest_side",
    "outline_uri",
    "overlays",
    "picture_uri",
    "profile",
]

COLOUR_MAP = "viridis"  # perceptually uniform, and readable with every common kind of colour blindness
LEVELS = 64
PICTURE_SIDE = 160
WIDE = 1.5  # width over height from which a picture, such as a sheet of frames, gets twice the room
PROFILE_CHANNELS = 512
PROFILE_CLASSES = 100
MAP_BYTES = 4_000_000  # what all maps together may take, as base64
DENSE = 0.25  # of a picture: wider borders would hide it
FLAT = 1e-4  # a map that varies by less is drawn flat: stretching it would show rounding errors as attention


@dataclass(frozen=True)
class Overlay:
    """One map on one sample. `peak_x`, `peak_y`: the centre of its largest cell, in 0..1; None for a flat map."""

    uri: str
    low: float
    high: float
    peak_x: float | None
    peak_y: float | None
    point: tuple[float, float] | None  # the reference position (y, x) whose row this is, in 0..1
    inside: bool | None  # whether all largest cells lie in the true box


@dataclass(frozen=True)
class Profile:
    """Mean gate of each channel for each class, as one picture of class rows and channel columns."""

    uri: str
    low: float
    high: float
    channels: int
    drawn_classes: int
    spread: float  # the mean over channels of the largest difference between two classes


def picture_uri(picture: np.ndarray) -> str:
    """The sample itself, no larger than the page can use."""
    image = Image.fromarray(picture)
    side = 2 * PICTURE_SIDE if image.width > WIDE * image.height else PICTURE_SIDE
    image.thumbnail((side, side))
    return _png(image)


def outline_uri(classes: np.ndarray, colour: tuple[int, int, int]) -> str:
    """The borders of all classes in one colour, two pixels wide, and nothing between them; those of thin and dense
    structures, such as membranes, one pixel wide.
    """
    border = _border(classes)
    if border.mean() > DENSE:
        border = _border(classes.repeat(2, axis=0).repeat(2, axis=1))
    image = Image.fromarray(border.astype(np.uint8)).convert("P")
    image.putpalette((0, 0, 0, *colour))
    return _png(image, transparency=0)


def overlays(entry: Map, samples: Sequence[Sample], side: int) -> list[Overlay]:
    """The spatial map `entry` on each of the samples, drawn with at most `side` cells a side."""
    return [
        _overlay(values, sample, entry.point_of(i), side)
        for i, (values, sample) in enumerate(zip(entry.values, samples, strict=True))
    ]


def profile(entry: Map) -> Profile:
    """The channel profile `entry` as one picture."""
    values = np.nan_to_num(entry.values)
    drawn = values[:PROFILE_CLASSES]
    if values.shape[1] > PROFILE_CHANNELS:
        edges = np.linspace(0, values.shape[1], PROFILE_CHANNELS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, values.shape[1]))
        drawn = np.add.reduceat(drawn, edges, axis=1) / counts
    low, high = float(drawn.min()), float(drawn.max())
    spread = float((values.max(axis=0) - values.min(axis=0)).mean())
    return Profile(_heat(drawn, low, high), low, high, values.shape[1], len(drawn), spread)


def colour_bar_uri() -> str:
    """The colour map from its low end to its high end."""
    return _heat(np.linspace(0, 1, LEVELS)[None], 0, 1)


def largest_side(collections: Iterable[Maps]) -> int:
    """Cells a side at which all maps of a page stay within MAP_BYTES."""
    sizes = [
        (len(entry.values), *entry.values.shape[1:])
        for maps in collections
        for entry in maps.maps
        if entry.values.ndim == 3
    ]
    for side in (64, 48, 32, 24, 16, 12):
        if (
            sum(count * (min(height, side) * min(width, side) + 300) for count, height, width in sizes) * 4 / 3
            < MAP_BYTES
        ):
            return side
    return 8


def _border(classes: np.ndarray) -> np.ndarray:
    """Where a neighbour in the row or the column is of another class."""
    border = np.zeros(classes.shape, bool)
    down, right = (np.diff(classes.astype(np.int16), axis=axis) != 0 for axis in (0, 1))
    for part, changes in ((np.s_[1:], down), (np.s_[:-1], down), (np.s_[:, 1:], right), (np.s_[:, :-1], right)):
        border[part] |= changes
    return border


def _overlay(values: np.ndarray, sample: Sample, point: tuple[float, float] | None, side: int) -> Overlay:
    values = np.where(np.isnan(values), np.nan, np.nan_to_num(values))
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    height, width = values.shape
    drawn = Image.fromarray(values)
    if max(height, width) > side:
        drawn = drawn.resize((min(width, side), min(height, side)), Image.Resampling.BOX)
    uri = _heat(np.asarray(drawn), low, high)
    largest = values == high
    inside = None if sample.box is None else _points_into(largest, sample.box, sample.image_size)
    if _is_flat(low, high):
        return Overlay(uri, low, high, None, None, point, inside)
    row, column = (int(places[0]) for places in np.nonzero(largest))
    return Overlay(uri, low, high, (column + 0.5) / width, (row + 0.5) / height, point, inside)


def _points_into(largest: np.ndarray, box: tuple[float, float, float, float], image_size: tuple[int, int]) -> bool:
    """As `foveate.capture.pointing_hits`: the centres of all largest cells lie in pixels that the box covers."""
    left, top, right, bottom = box
    inside = np.ones(largest.shape, bool)
    for axis, (start, end) in enumerate(((top, bottom), (left, right))):
        cells, size = largest.shape[axis], image_size[axis]
        pixels = ((np.arange(cells) + 0.5) * size / cells).astype(int)
        covered = (pixels >= math.floor(round(start * size, 9))) & (pixels < math.ceil(round(end * size, 9)))
        inside &= covered[:, None] if axis == 0 else covered[None, :]
    return bool(inside[largest].all())


def _is_flat(low: float, high: float) -> bool:
    return not math.isfinite(high - low) or high - low <= FLAT * max(abs(low), abs(high), 1e-12)


def _heat(values: np.ndarray, low: float, high: float) -> str:
    """Values between low and high in the page's one colour map; a flat map in its middle colour, no number in none."""
    scaled = np.full(values.shape, 0.5) if _is_flat(low, high) else (values - low) / (high - low)
    levels = (np.nan_to_num(scaled) * (LEVELS - 1)).round().clip(0, LEVELS - 1)
    beyond = np.isnan(values)
    image = Image.fromarray(np.where(beyond, LEVELS, levels).astype(np.uint8)).convert("P")
    image.putpalette(_palette() + b"\0\0\0")  # a viewer takes no transparency of a colour that the palette lacks
    return _png(image, **({"transparency": LEVELS} if beyond.any() else {}))


@functools.cache
def _palette() -> bytes:
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, LEVELS))[:, :3]
    return (colours * 255).round().astype(np.uint8).tobytes()


def _png(image: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
