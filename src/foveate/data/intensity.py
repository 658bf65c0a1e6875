"""Bring the values of scans and pictures to the range of a network, by numbers that are chosen once and kept.

CT is in Hounsfield units, so numbers that fit the training cases fit every case. MR has no unit: every volume is
brought to its own mean and deviation. A picture goes from black to white.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, https://doi.org/10.1038/s41592-020-01008-z, for CT.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from foveate.data.dicom import is_scan
from foveate.data.labels import IGNORED
from foveate.data.scans import read_case
from foveate.data.volumes import Volumes, modality_of
from foveate.errors import DataError

__all__ = [
    "WINDOWS",
    "Intensity",
    "clip_and_standardise",
    "foreground_statistics",
    "foreground_values",
    "scale_window",
    "standardise_nonzero",
    "suggest_intensity",
]

WINDOWS = {
    "abdomen": (-150.0, 250.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
    "lung": (-1350.0, 150.0),
    "mediastinum": (-125.0, 225.0),
}
"""What radiologists set a screen to, in HU."""

PERCENTILES = (0.5, 99.5)
VOXELS = 10_000  # of the foreground of each case, which its statistics are drawn from
SMALLEST = 1e-8  # deviation that is divided by


def scale_window(x: Tensor, low: float, high: float) -> Tensor:
    """Bring low to 0 and high to 1, and what lies beyond to these."""
    return ((x - low) / (high - low)).clamp(0, 1)


def clip_and_standardise(x: Tensor, low: float, high: float, mean: float, std: float) -> Tensor:
    """Clip to low and high, subtract the mean and divide by the deviation."""
    return (x.clamp(low, high) - mean) / max(std, SMALLEST)


def standardise_nonzero(x: Tensor) -> Tensor:
    """Bring the values that are not 0 to mean 0 and deviation 1; what is 0, outside the body, stays so."""
    outside = x == 0
    count = max(1, x.numel() - int(outside.sum()))
    # In float64, for a mean that is large beside the deviation would take its digits.
    centred = x.double()
    centred = (centred - centred.sum() / count).masked_fill_(outside, 0)
    std = (centred.square().sum() / count).sqrt()
    return (centred / std.clamp(min=SMALLEST)).to(x.dtype)


def foreground_values(x: Tensor, label: Tensor, most: int = VOXELS) -> Tensor:
    """Return the values where a label is neither 0 nor ignored, in their order; of more than `most`, that many evenly
    spread.
    """
    values = x[(label > 0) & (label != IGNORED)] if label.dtype == torch.uint8 else x[label > 0]
    if len(values) <= most:
        return values
    return values[torch.linspace(0, len(values) - 1, most, dtype=torch.float64).round().long()]


def foreground_statistics(values: Tensor) -> tuple[float, float, float, float]:
    """The percentiles 0.5 and 99.5, interpolated, the mean and the deviation (of the population)."""
    array = values.double().numpy()
    low, high = np.percentile(array, PERCENTILES)
    return float(low), float(high), float(array.mean()), float(array.std())


@dataclass(frozen=True)
class Intensity:
    """What is done to one channel; its fields are the numbers to show and to store.

    Args:
        rule: "window" is scale_window, "foreground" is clip_and_standardise, "nonzero" is standardise_nonzero.
        low: Of "window" and "foreground".
        high: Likewise.
        mean: Of "foreground".
        std: Likewise.

    Raises:
        ValueError: If a number is missing, has no use or makes no sense for the rule.
    """

    rule: Literal["window", "foreground", "nonzero"]
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        taken = {"window": ("low", "high"), "foreground": ("low", "high", "mean", "std"), "nonzero": ()}
        if self.rule not in taken:
            raise ValueError(f"rule must be one of {', '.join(taken)}; got {self.rule!r}")
        given = tuple(name for name in ("low", "high", "mean", "std") if getattr(self, name) is not None)
        if given != taken[self.rule]:
            wanted = ", ".join(taken[self.rule]) or "no number"
            raise ValueError(f"the rule {self.rule!r} takes {wanted}; got {', '.join(given) or 'none'}")
        numbers = {name: value for name in given if (value := getattr(self, name)) is not None}
        odd = {name: value for name, value in numbers.items() if not math.isfinite(value)}
        if odd or (self.std is not None and self.std <= 0):
            raise ValueError(f"the rule {self.rule!r} takes finite numbers and a std above 0; got {numbers}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low:g} and {self.high:g}")

    def apply(self, x: Tensor) -> Tensor:
        """Apply the rule to one channel, of any shape."""
        if self.rule == "nonzero":
            return standardise_nonzero(x)
        numbers = [number for number in (self.low, self.high, self.mean, self.std) if number is not None]
        return scale_window(x, *numbers) if self.rule == "window" else clip_and_standardise(x, *numbers)

    def __str__(self) -> str:
        if self.rule == "nonzero":
            return "mean 0 and deviation 1 over the nonzero voxels of each volume"
        if self.rule == "window":
            return f"{self.low:g} to {self.high:g} becomes 0 to 1"
        return f"clip to {self.low:g} ... {self.high:g}, subtract {self.mean:g}, divide by {self.std:g}"


def suggest_intensity(
    volumes: Volumes,
    *,
    window: str | tuple[float, float] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Intensity]:
    """Choose a rule for each channel by its modality, and its numbers from the train split.

    CT takes the statistics of the foreground, or `window`. MR and scans of no known modality take the nonzero voxels of
    each volume. A picture is scaled from 0 to 255, or to 1 or its largest value where this holds no value above 1 or
    some above 255.

    Args:
        volumes: The data.
        window: Of CT channels: a name of WINDOWS, or low and high in HU. Default: from the foreground. Of pictures the
            values that become black and white.
        progress: Called after each case that is read with how many are done, and of how many.

    Raises:
        LookupError: If there is no window of that name.
        ValueError: If a window is given and there is no CT and no picture, or a named one and no CT.
        DataError: If a case cannot be read, or CT has no foreground.
    """
    cases = volumes.splits["train"]
    unnamed = "MR" if is_scan(cases[0].images[0]) else "picture"
    kinds = [known if (known := modality_of(name)) != "other" else unnamed for name in volumes.modalities]
    windowed = {"CT"} if isinstance(window, str) else {"CT", "picture"}
    if window is not None and windowed.isdisjoint(kinds):
        wanted = "is for CT" if isinstance(window, str) else "is for CT and pictures"
        raise ValueError(f"window {wanted}; {volumes.source} has {', '.join(volumes.modalities)}")
    known = {"MR": Intensity("nonzero")}
    if window is not None:
        known |= dict.fromkeys(windowed, Intensity("window", *_window(window)))
    values: list[list[Tensor]] = [[] for _ in kinds]
    if not known.keys() >= set(kinds):
        for done, case in enumerate(cases, start=1):
            volume = read_case(case, volumes)
            for kind, x, held in zip(kinds, volume.image, values, strict=True):
                if kind == "CT" and volume.label is not None:
                    held.append(foreground_values(x, volume.label))
                elif kind == "picture":
                    held.append(torch.stack(x.aminmax()))
            if progress is not None:
                progress(done, len(cases))
    if "picture" in kinds and "picture" not in known:
        shown = [value for kind, held in zip(kinds, values, strict=True) if kind == "picture" for value in held]
        known["picture"] = _black_to_white(torch.cat(shown))
    return [known.get(kind) or _of_foreground(volumes, held) for kind, held in zip(kinds, values, strict=True)]


def _window(window: str | Sequence[float]) -> tuple[float, float]:
    if not isinstance(window, str):
        low, high = window
        return float(low), float(high)
    if window not in WINDOWS:
        raise LookupError(f"no window {window!r}; there are {', '.join(WINDOWS)}, or give low and high in HU")
    return WINDOWS[window]


def _black_to_white(values: Tensor) -> Intensity:
    low, largest = min(0.0, float(values.min())), float(values.max())
    high = next((limit for limit in (1.0, 255.0) if largest <= limit), largest)
    return Intensity("window", low, high)


def _of_foreground(volumes: Volumes, values: Sequence[Tensor]) -> Intensity:
    joined = torch.cat(list(values))
    if not len(joined):
        raise DataError(f"{volumes.source} has nothing but background in the labels of its train split")
    return Intensity("foreground", *foreground_statistics(joined))
