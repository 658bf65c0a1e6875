"""Pictures as a detector learns from them: flipped, resized and cropped with their boxes, by chance.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872, section 4,
with the sizes of its release: half of all pictures are resized so that their shorter side is one of many lengths; the
others are resized to one of few, a part is cut out, and it is resized like the rest. What happens to a picture is a
function of the seed, the epoch and the picture's number alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2

from foveate.data.boxes import BoxSplit, Objects
from foveate.tasks.detect.geometry import cxcywh
from foveate.tasks.detect.targets import Target
from foveate.tasks.samples import draw_seed

__all__ = ["MEAN", "STD", "Augmentation", "BoxSet", "Size", "normalised", "resized", "target_of"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


NO_LIMIT = 2**31
Parts = tuple[Tensor, ...]  # the picture, the boxes and, where they are asked for, the masks, each of its own class


@dataclass(frozen=True)
class Size:
    """The length that the shorter side gets, less where the longer would pass its limit by more than rounding.

    Args:
        short: In pixels.
        longest: In pixels.
    """

    short: int = 800
    longest: int = 1333

    def __post_init__(self) -> None:
        if not 0 < self.short <= self.longest:
            raise ValueError(f"short must be from 1 to longest; got short {self.short} and longest {self.longest}")

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a picture after resizing."""
        short, long = min(height, width), max(height, width)
        side = max(1, min(self.short, round(self.longest * short / long)))
        other = side * long // short
        return (other, side) if width < height else (side, other)


@dataclass(frozen=True)
class Augmentation:
    """The release's changes by chance; for smaller pictures, `Augmentation.around` scales its lengths.

    Args:
        shorts: Lengths of the shorter side, one of which is drawn.
        longest: Limit of the longer side.
        before: Lengths of the shorter side before a part is cut out.
        crop: Least and largest side of that part.
        flip: How often left and right are exchanged.
        cropped: How often a part is cut out.
    """

    shorts: tuple[int, ...] = tuple(range(480, 801, 32))
    longest: int = 1333
    before: tuple[int, ...] = (400, 500, 600)
    crop: tuple[int, int] = (384, 600)
    flip: float = 0.5
    cropped: float = 0.5

    def __post_init__(self) -> None:
        lengths = (*self.shorts, *self.before, *self.crop)
        if not self.shorts or not self.before or min(lengths) < 1 or self.crop[0] > self.crop[1]:
            raise ValueError(f"lengths must be above zero, and those of crop in order; got {self}")
        for name in ("flip", "cropped"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1; got {getattr(self, name)}")

    @classmethod
    def around(cls, size: Size) -> "Augmentation":
        """The release's lengths, in proportion for pictures that are evaluated at another size than its 800."""
        plain = cls()

        def scaled(lengths: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(1, round(length * size.short / 800)) for length in lengths)

        low, high = scaled(plain.crop)
        return cls(scaled(plain.shorts), size.longest, scaled(plain.before), (low, high))

    def __call__(self, parts: Parts, generator: torch.Generator) -> Parts:
        """Flip, resize and crop a picture with its boxes and masks, by this generator's chances."""
        if torch.rand((), generator=generator) < self.flip:
            parts = _each(v2.horizontal_flip, parts)
        if torch.rand((), generator=generator) < self.cropped:
            parts = resized(parts, Size(_one_of(self.before, generator), NO_LIMIT))
            sides = parts[0].shape[-2:]
            height, width = (_between(min(self.crop[0], side), min(self.crop[1], side), generator) for side in sides)
            top, left = (_between(0, side - kept, generator) for side, kept in zip(sides, (height, width), strict=True))
            parts = _each(v2.crop, parts, top, left, height, width)
        short = _one_of(self.shorts, generator)
        return resized(parts, Size(short, max(short, self.longest)))


def resized(parts: Parts, size: Size) -> Parts:
    """Bring a picture with its boxes and masks to a size."""
    return _each(v2.resize, parts, list(size.of(*parts[0].shape[-2:])))


def _each(change: Callable[..., Any], parts: Parts, *how: Any) -> Parts:
    return tuple(change(part, *how) for part in parts)


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _one_of(lengths: tuple[int, ...], generator: torch.Generator) -> int:
    return lengths[_between(0, len(lengths) - 1, generator)]


class BoxSet(Dataset[tuple[Tensor, Target, int]]):
    """A split as normalised pictures float (3, height, width), their targets and their numbers; crowds are left out.

    Args:
        split: The pictures.
        size: What they are brought to where nothing is left to chance.
        augmentation: The changes by chance; None for none.
        seed: Decides them, with the epoch and the picture's number.
        masks: Whether targets have masks.
    """

    def __init__(
        self,
        split: BoxSplit,
        size: Size | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        masks: bool = False,
    ) -> None:
        self.split, self.size, self.augmentation = split, size or Size(), augmentation
        self.seed, self.masks = seed, masks
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Target, int]:
        objects, image = self.split.objects(index), self.split.image(index)
        height, width = image.shape[-2:]
        numbers = (~objects.crowd).nonzero()[:, 0]
        parts: Parts = (
            tv_tensors.Image(image),
            tv_tensors.BoundingBoxes(objects.boxes_xyxy[numbers], format="XYXY", canvas_size=(height, width)),  # pyright: ignore[reportCallIssue]
        )
        if self.masks:
            masks = self.split.masks(index)
            if masks is None:
                raise ValueError(f"{self.split.name(index)} has no masks; open the data with masks=True")
            parts = (*parts, tv_tensors.Mask(masks[numbers]))
        if self.augmentation is None:
            parts = resized(parts, self.size)
        else:
            parts = self.augmentation(parts, torch.Generator().manual_seed(draw_seed(self.seed, self.epoch, index)))
        return normalised(parts[0]), _target(parts, objects.labels[numbers], numbers), index


def normalised(image: Tensor) -> Tensor:
    """From uint8 to float32, less ImageNet's mean and divided by its deviation."""
    return v2.normalize(v2.to_dtype(image, torch.float32, scale=True), list(MEAN), list(STD)).as_subclass(Tensor)


def target_of(objects: Objects, size: tuple[int, int]) -> Target:
    """The objects of a picture of (height, width) as a target, without crowds."""
    numbers = (~objects.crowd).nonzero()[:, 0]
    relative = cxcywh(objects.boxes_xyxy[numbers]) / _sides(size)
    return Target(objects.labels[numbers], relative, None, numbers)


def _target(parts: Parts, labels: Tensor, numbers: Tensor) -> Target:
    """Without the objects of which nothing is left."""
    image, boxes, *masks = (part.as_subclass(Tensor) for part in parts)
    left = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    relative = cxcywh(boxes[left]) / _sides(image.shape[-2:])
    return Target(labels[left], relative, masks[0][left] if masks else None, numbers[left])


def _sides(size: Sequence[int]) -> Tensor:
    height, width = size
    return torch.tensor([width, height, width, height])
