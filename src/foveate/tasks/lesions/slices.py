"""Slices for training: each with its bag and its targets, changed at random, and the same whenever asked again.

Which slices an epoch has and how they are changed are functions of the seed, the epoch and the slice's number alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as v2

from foveate.data.stacks import boxes_of
from foveate.tasks.cases import CaseStore
from foveate.tasks.lesions.preparation import Ready
from foveate.tasks.samples import draw_seed

__all__ = ["Place", "SliceSet", "changed", "grouped", "per_epoch"]

Place = tuple[int, int]  # the number of a volume, and of a slice in it
Sample = tuple[Tensor, dict[str, Tensor]]
SIZES = 0.8, 1.25
SHIFT = 0.1  # of the side, at most


def per_epoch(lesions: int, others: int, empty: float) -> int:
    """Slices in an epoch: all with a lesion, and of the others `empty` for each of these, as far as there are."""
    return lesions + min(others, round(empty * lesions))


def grouped(sizes: Sequence[int], room: int) -> list[int]:
    """The group of each volume, such that the volumes of a group, of so many bytes each, have room together."""
    groups, group, left = [], 0, room
    for size in sizes:
        if size > left and left < room:
            group, left = group + 1, room
        left -= size
        groups.append(group)
    return groups


class SliceSet(Dataset[Sample]):
    """Slices with their bags and targets, as MaskRCNN takes them; see LesionConfig for which and how.

    Args:
        volumes: Made ready.
        with_lesion: The slices that hold one.
        without: The annotated slices that hold none.
        empty: How many of these an epoch has for each of those.
        groups: Of each volume: the slices of one group come together, so that each volume is read once an epoch.
        bag: Pictures in a bag.
        augment: "none", "flips" or "standard".
        seed: Decides what is drawn, with the epoch and the slice's number.
    """

    def __init__(
        self,
        volumes: CaseStore[Ready],
        with_lesion: Sequence[Place],
        without: Sequence[Place],
        *,
        empty: float,
        groups: Sequence[int],
        bag: int,
        augment: str,
        seed: int,
    ) -> None:
        self.volumes, self.with_lesion, self.without = volumes, list(with_lesion), list(without)
        self.bag, self.augment, self.seed = bag, augment, seed
        self.volume_groups = list(groups)
        self.count = per_epoch(len(with_lesion), len(without), empty)
        self.epoch = 0
        self._drawn: tuple[int, list[int]] = (-1, [])  # an epoch, and the order of the slices without a lesion in it

    def __len__(self) -> int:
        return self.count

    def place(self, index: int) -> Place:
        """The slice of a number: those with a lesion come first, and the others are drawn anew in each epoch."""
        if index < len(self.with_lesion):
            return self.with_lesion[index]
        if self._drawn[0] != self.epoch:
            generator = torch.Generator().manual_seed(draw_seed(self.seed, self.epoch))
            self._drawn = self.epoch, torch.randperm(len(self.without), generator=generator).tolist()
        return self.without[self._drawn[1][index - len(self.with_lesion)]]

    def groups(self) -> list[int]:
        """The group of each slice of the epoch."""
        return [self.volume_groups[self.place(index)[0]] for index in range(self.count)]

    def __getitem__(self, index: int) -> Sample:
        case, at = self.place(index)
        ready = self.volumes[case]
        image, target = ready.bag(at, self.bag), target_of(ready, at)
        if self.augment == "none":
            return image, target
        generator = torch.Generator().manual_seed(draw_seed(self.seed, self.epoch, index, 1))
        return changed(image, target, generator, moved=self.augment == "standard")


def target_of(ready: Ready, index: int) -> dict[str, Tensor]:
    """What is to be found in a slice: boxes, labels from 1 and, where they are known, masks; a crowd is no lesion."""
    objects, masks = ready.stack.objects(index)  # among masks there are no crowds
    target = {"boxes": objects.boxes_xyxy[~objects.crowd], "labels": objects.labels[~objects.crowd] + 1}
    return target if masks is None else target | {"masks": masks.to(torch.uint8)}


def changed(image: Tensor, target: dict[str, Tensor], generator: torch.Generator, *, moved: bool) -> Sample:
    """Flip at random, and where `moved` change size and place: a whole bag alike, and what is to be found in it.

    An object that leaves the picture is left out.
    """
    draws = torch.rand(5, generator=generator).tolist()
    size = (image.shape[-2], image.shape[-1])
    for axis, draw in ((-1, draws[0]), (-2, draws[1])):
        if draw < 0.5:
            image = image.flip(axis)
            target = _flipped(target, axis, size[axis])
    if not moved:
        return image, target
    scale = SIZES[0] * (SIZES[1] / SIZES[0]) ** draws[2]
    shift = [round((2 * draw - 1) * SHIFT * side) for draw, side in zip(draws[3:], reversed(size), strict=True)]
    how: dict[str, Any] = {"angle": 0.0, "translate": shift, "scale": scale, "shear": [0.0, 0.0]}
    image = v2.affine(image, interpolation=v2.InterpolationMode.BILINEAR, **how)
    if "masks" in target:
        masks = v2.affine(target["masks"], interpolation=v2.InterpolationMode.NEAREST, **how)
        kept = (masks > 0).flatten(1).any(dim=1)
        boxes = boxes_of(masks[kept] > 0)
        return image, {"boxes": boxes, "labels": target["labels"][kept], "masks": masks[kept]}
    middle = torch.tensor([size[1], size[0]] * 2) / 2
    moved_boxes = (target["boxes"] - middle) * scale + middle + torch.tensor(shift * 2)
    boxes = torch.minimum(moved_boxes.clamp(min=0), 2 * middle)
    kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    return image, {"boxes": boxes[kept], "labels": target["labels"][kept]}


def _flipped(target: dict[str, Tensor], axis: int, side: int) -> dict[str, Tensor]:
    boxes = target["boxes"].clone()
    low, high = (0, 2) if axis == -1 else (1, 3)
    boxes[:, low], boxes[:, high] = side - target["boxes"][:, high], side - target["boxes"][:, low]
    turned = target | {"boxes": boxes}
    return turned | {"masks": target["masks"].flip(axis)} if "masks" in target else turned
