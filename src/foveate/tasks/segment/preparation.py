"""Preparation: what happens to a case before the network sees it; kept in one file with the weights."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.data.intensity import Intensity, suggest_intensity
from foveate.data.volumes import Volume, Volumes
from foveate.errors import DataError
from foveate.tasks.kinds import check_fields
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.grid import Grid, grid_for

__all__ = ["KEY", "Preparation", "Prepared", "describe", "prepare_for"]

KEY = "foveate.segment"  # under which it is kept in model.safetensors
LOOKED_AT = 64  # training cases from which spacing, intensities and size of patches are taken
STEP = 16  # sizes of patches are multiples of it where the case is not smaller
LARGEST = {2: 512**2, 3: 96**3}  # voxels of a patch that is not asked for


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A case on the network's grid.

    Args:
        name: Of the case.
        image: float32 (channel, *space).
        label: The class of each voxel, or None.
        grid: The way back to the file.
        places: Voxels of each class but the background, by their place in the flat label.
    """

    name: str
    image: Tensor
    label: Tensor | None
    grid: Grid
    places: tuple[np.ndarray[Any, Any], ...] = ()

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return self.image.nbytes + (0 if self.label is None else self.label.nbytes)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a trained network takes and gives.

    Args:
        classes: Their names, the background first.
        values: The label value in files that stands for each class.
        modalities: The name of each channel.
        spatial_dims: 2 or 3.
        spacing: Of the network's grid along right, anterior and superior, in mm; None for that of the file.
        intensities: What is done with the values of each channel.
        patch_size: Of the windows.
        ignored: Label values in files that are neither learned nor scored.

    Raises:
        ValueError: If a number makes no sense, as in a file that was edited.
    """

    classes: list[str]
    values: list[int]
    modalities: list[str]
    spatial_dims: int
    spacing: tuple[float, ...] | None
    intensities: list[Intensity]
    patch_size: tuple[int, ...]
    ignored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.spatial_dims not in (2, 3) or len(self.patch_size) != self.spatial_dims or min(self.patch_size) < 1:
            held = f"{self.spatial_dims} axes and {self.patch_size}"
            raise ValueError(f"patch_size must be a number of voxels for each of 2 or 3 axes; got {held}")
        steps = self.spacing
        if steps is not None and (len(steps) != self.spatial_dims or not all(0 < step < math.inf for step in steps)):
            raise ValueError(f"spacing must be positive and finite along each axis; got {steps}")
        if len(self.values) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"each of two classes or more needs a value; got {self.classes} and {self.values}")
        if self.intensities and len(self.intensities) != len(self.modalities):
            held = f"{len(self.intensities)} rules and {len(self.modalities)} channels"
            raise ValueError(f"each channel needs a rule for its intensities; got {held}")

    def prepare(self, volume: Volume) -> Prepared:
        """Bring a case to the network's grid and intensities; raise what `check` raises."""
        self.check(volume)
        grid = grid_for(volume, self.spacing)
        image = torch.stack([rule.apply(channel) for rule, channel in zip(self.intensities, volume.image, strict=True)])
        label, places = None, ()
        if volume.label is not None:
            from foveate.tasks.segment.patches import places_of

            label = grid.there(volume.label[None], labels=True)[0]
            places = places_of(label, len(self.classes))
        return Prepared(volume.name, grid.there(image), label, grid, places)

    def check(self, volume: Volume) -> None:
        """Raise a DataError if a case has another number of channels, or of axes, than the network takes."""
        if tuple(volume.image.shape[:1]) != (len(self.modalities),) or volume.image.ndim != 1 + self.spatial_dims:
            raise DataError(
                f"{volume.name} is {tuple(volume.image.shape)}; the network takes {len(self.modalities)} channels and "
                f"{self.spatial_dims} axes of space"
            )

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preparation":
        """Read what to_json wrote."""
        held: dict[str, Any] = json.loads(text)
        held |= {
            "intensities": [Intensity(**rule) for rule in held["intensities"]],
            "spacing": None if held["spacing"] is None else tuple(held["spacing"]),
            "patch_size": tuple(held["patch_size"]),
            "ignored": tuple(held.get("ignored", ())),
        }
        return cls(**held)


def prepare_for(config: SegmentConfig, volumes: Volumes, read: Callable[[int], Volume], count: int) -> Preparation:
    """The preparation of a run: what its configuration asks for, else what the training cases suggest.

    Args:
        config: The run.
        volumes: Names, classes and modalities.
        read: One of the training cases, by number.
        count: Training cases.
    """
    dims = volumes.spatial_dims
    for name in ("spacing", "patch_size"):
        value = getattr(config, name)
        if value is not None and len(value) != dims:
            raise ValueError(f"{name} takes a number for each of {dims} axes; got {value}")
    if dims == 2 and config.spacing is not None:
        raise ValueError(f"pictures have no spacing; got {config.spacing}")
    window = (config.window[0], config.window[1]) if isinstance(config.window, list) else config.window
    intensities = suggest_intensity(volumes, window=window)
    spacings, shapes = [], []
    for index in range(0, count, max(1, count // LOOKED_AT)):
        volume = read(index)
        grid = grid_for(volume, None)
        spacings.append([volume.spacing[axis] for axis in grid.order])
        shapes.append(grid.shape)
    spacing = None if dims == 2 else [round(step, 6) for step in config.spacing or _median(spacings)]
    if spacing is not None:
        shapes = [np.multiply(shape, own) / spacing for shape, own in zip(shapes, spacings, strict=True)]
    patch = config.patch_size or _patch(_median(shapes), LARGEST[dims])
    values = {number: value for value, number in sorted(volumes.values.items(), reverse=True)}
    return Preparation(
        volumes.classes,
        [values[number] for number in range(len(volumes.classes))],
        volumes.modalities,
        dims,
        None if spacing is None else tuple(spacing),
        intensities,
        tuple(patch),
        tuple(volumes.ignored_values),
    )


def describe(preparation: Preparation) -> tuple[str, ...]:
    """What was chosen, in lines to show before training begins."""
    space = f"patches of {' x '.join(map(str, preparation.patch_size))}"
    if preparation.spacing is not None:
        steps = " x ".join(f"{step:g}" for step in preparation.spacing)
        space = f"axes to right, anterior, superior; voxels of {steps} mm; {space}"
    channels = zip(preparation.modalities, preparation.intensities, strict=True)
    return space, *(f"{name}: {_rule(each)}" for name, each in channels)


def _rule(rule: Intensity) -> str:
    if rule.rule == "window":
        return f"{rule.low:g} to {rule.high:g} becomes 0 to 1"
    if rule.rule == "foreground":
        return f"clipped to {rule.low:g} to {rule.high:g}, less {rule.mean:g}, divided by {rule.std:g}"
    return "mean 0 and deviation 1 over the nonzero voxels of each case"


def _median(rows: Sequence[Sequence[float]]) -> list[float]:
    return [float(value) for value in np.median(np.array(rows, np.float64), axis=0)]


def _patch(shape: Sequence[float], largest: int) -> list[int]:
    """The median case, to the nearest multiple of STEP, its longest sides halved until it is small enough."""
    size = [max(STEP, round(length / STEP) * STEP) for length in shape]
    while math.prod(size) > largest:
        longest = size.index(max(size))
        size[longest] = max(STEP, size[longest] // 2 // STEP * STEP)
    return size
