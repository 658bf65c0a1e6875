"""Patches for training: cut where there is something to learn, changed at random, and the same whenever asked again.

Where a patch is cut and how it is changed are functions of the seed, the epoch and the patch's number alone, as the
pictures of samples.py are.
"""

import importlib
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from foveate.errors import MissingExtra
from foveate.tasks.cases import CaseStore
from foveate.tasks.samples import draw_seed
from foveate.tasks.segment.preparation import Prepared

__all__ = ["PatchSet", "augmentation", "cut", "places_of"]

LISTED = 4096  # voxels of each class that are remembered as places for patches
TURN = math.pi / 12  # at most, about each axis
SCALE = 0.15
RARELY = 0.15  # the chance of each change of the intensities


class PatchSet(Dataset[tuple[Tensor, Tensor]]):
    """The patches of an epoch: float32 (batch, channel, *patch) and classes (batch, *patch), a batch at a time.

    Args:
        cases: With their labels.
        patch_size: Along each axis.
        count: Patches in an epoch; the cases take turns.
        foreground: The share of patches around a voxel that is not background.
        change: What augmentation() makes; None for none.
        seed: Decides the patches, with the epoch and the patch's number.
    """

    def __init__(
        self,
        cases: CaseStore[Prepared],
        patch_size: Sequence[int],
        count: int,
        foreground: float,
        change: Any = None,
        seed: int = 0,
    ) -> None:
        self.cases, self.patch_size, self.count, self.foreground = cases, tuple(patch_size), count, foreground
        self.change, self.seed = change, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        patches = [self._patch(index) for index in indices]
        return torch.stack([image for image, _ in patches]), torch.stack([label for _, label in patches])

    def _patch(self, index: int) -> tuple[Tensor, Tensor]:
        case = self.cases[(index + self.epoch * self.count) % len(self.cases)]
        seed = draw_seed(self.seed, self.epoch, index)
        image, label = cut(case, self.patch_size, self.foreground, np.random.default_rng(seed))
        if self.change is None:
            return image, label
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            changed = self.change.set_random_state(seed % 2**32)({"image": image, "label": label[None]})
        return _plain(changed["image"]).contiguous(), _plain(changed["label"])[0].to(label.dtype)


def cut(case: Prepared, size: Sequence[int], foreground: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A patch of a case and of its label, with zeros where the case is smaller.

    Args:
        case: With a label.
        size: Of the patch.
        foreground: The chance that a voxel of some class but the background is in it, every class as likely as another.
        random: Decides.
    """
    assert case.label is not None
    space = case.label.shape
    spare = [max(0, n - length) for n, length in zip(space, size, strict=True)]
    start = [int(random.integers(n + 1)) for n in spare]
    if case.places and random.random() < foreground:
        places = case.places[int(random.integers(len(case.places)))]
        chosen = np.unravel_index(int(places[int(random.integers(len(places)))]), space)
        # Anywhere in the patch, not only in its middle: else edges of a volume were seen less.
        start = [
            min(max(int(at) - int(random.integers(length)), 0), n)
            for at, n, length in zip(chosen, spare, size, strict=True)
        ]
    window = tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))
    image, label = case.image[(slice(None), *window)], case.label[window]
    lack = [length - n for n, length in zip(label.shape, size, strict=True)]
    pads = [part for n in reversed(lack) for part in (n // 2, n - n // 2)]
    return F.pad(image, pads), F.pad(label, pads)


def places_of(label: Tensor, num_classes: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Where the voxels of each class but the background are, those of classes that are there, evenly thinned."""
    flat, found = label.reshape(-1), []
    for index in range(1, num_classes):
        places = torch.nonzero(flat == index)[:, 0]
        if len(places):
            found.append(places[:: -(-len(places) // LISTED)].numpy().copy())
    return tuple(found)


def augmentation(name: str, spatial_dims: int, flip_axes: Sequence[int] | None = None) -> Any:
    """What changes a patch at random as `augment` of a run names it, of MONAI; None for "none"."""
    axes = range(spatial_dims) if flip_axes is None else flip_axes
    if any(axis not in range(spatial_dims) for axis in axes):
        raise ValueError(f"flip_axes are 0 to {spatial_dims - 1}; got {list(axes)}")
    if name == "none":
        return None
    transforms = _monai()
    both, modes = ("image", "label"), ("bilinear", "nearest")
    parts: list[Any] = [transforms.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in axes]
    if name != "flips":
        turn = (TURN,) * (3 if spatial_dims == 3 else 1)
        scale = (SCALE,) * spatial_dims
        parts.append(
            transforms.RandAffined(
                both, prob=0.5, rotate_range=turn, scale_range=scale, mode=modes, padding_mode="zeros"
            )
        )
        if name == "elastic":
            parts.append(_elastic(transforms, spatial_dims, both, modes))
        parts += [
            transforms.RandGaussianNoised("image", RARELY, std=0.1),
            transforms.RandScaleIntensityd("image", 0.25, RARELY),
            transforms.RandScaleIntensityFixedMeand("image", prob=RARELY, factors=0.25, preserve_range=True),
            transforms.RandAdjustContrastd("image", RARELY, gamma=(0.7, 1.5)),
        ]
    return transforms.Compose(parts)


def _monai() -> Any:
    try:
        return importlib.import_module("monai.transforms")
    except ImportError:
        raise MissingExtra("monai", "medical") from None


def _elastic(transforms: Any, spatial_dims: int, keys: Any, modes: Any) -> Any:
    if spatial_dims == 3:
        return transforms.Rand3DElasticd(keys, (5, 7), (50, 150), prob=0.2, mode=modes, padding_mode="zeros")
    return transforms.Rand2DElasticd(keys, (32, 32), (1, 3), prob=0.2, mode=modes, padding_mode="zeros")


def _plain(value: Any) -> Tensor:
    return value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)
