"""What a picture's boxes should be, and batches of pictures of several sizes with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch", "Target", "collate"]


@dataclass(frozen=True, eq=False)
class Target:
    """The objects of one picture.

    Args:
        labels: The class of each, int64 (object).
        boxes: cx, cy, w, h in 0..1 of the unpadded picture, float (object, 4).
        masks: bool (object, height, width) of the unpadded picture; None where they are not asked for.
        numbers: Which of the picture's objects each is, int64 (object), for some are cropped away; None: all, in order.
    """

    labels: Tensor
    boxes: Tensor
    masks: Tensor | None = None
    numbers: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Target":
        """The same on a device."""
        fields = (self.labels, self.boxes, self.masks, self.numbers)
        return Target(*(None if field is None else field.to(device, non_blocking=non_blocking) for field in fields))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures of several sizes in one tensor, each in the upper left corner.

    Args:
        images: float (batch, channel, height, width), zero where there is no picture: the mean of ImageNet.
        padding: bool (batch, height, width), true where there is no picture.
        targets: Of each picture.
        indices: The number of each picture in its split.
    """

    images: Tensor
    padding: Tensor
    targets: list[Target]
    indices: list[int]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same on a device."""
        targets = [target.to(device, non_blocking) for target in self.targets]
        images, padding = (each.to(device, non_blocking=non_blocking) for each in (self.images, self.padding))
        return Batch(images, padding, targets, self.indices)


def collate(samples: Sequence[tuple[Tensor, Target, int]]) -> Batch:
    """Pad normalised pictures (channel, height, width) to the right and below, to the largest height and width."""
    pictures, targets, indices = zip(*samples, strict=True)
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    images = pictures[0].new_zeros(len(pictures), pictures[0].shape[0], height, width)
    padding = torch.ones(len(pictures), height, width, dtype=torch.bool)
    for picture, image, padded in zip(pictures, images, padding, strict=True):
        image[:, : picture.shape[1], : picture.shape[2]] = picture
        padded[: picture.shape[1], : picture.shape[2]] = False
    return Batch(images, padding, list(targets), list(indices))
