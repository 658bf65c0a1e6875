"""Batches of pictures.

Their order and augmentation are functions of the seed, the epoch and the picture's number alone: whatever else draws
random numbers, and wherever a run was interrupted, every arm of a seed sees the same.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from foveate.tasks.preprocess import Preprocess

__all__ = ["EpochBatches", "PictureSet", "WholeBatches", "augmentation", "draw_seed"]

JITTER = (256, 321)  # sides of which one is drawn, for crops of 224
WHOLE = ("crops", "jitter")  # what cuts from the picture as it is
KEPT_BYTES = 256 * 2**20  # a set whose decoded pictures take no more remembers them


def draw_seed(*numbers: int) -> int:
    """A seed for random numbers, well mixed from what it shall depend on."""
    text = " ".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def augmentation(name: str, size: tuple[int, int]) -> Callable[[Tensor], Tensor] | None:
    """The random change of a uint8 picture, or of all frames of a clip alike, that a run's `augment` names; None for
    "none".
    """
    shift = v2.RandomCrop(size, padding=[max(1, size[1] // 8), max(1, size[0] // 8)])
    flip = v2.RandomHorizontalFlip()
    sides = list(range(*(round(max(size) * side / 224) for side in JITTER)))
    known = {
        "none": None,
        "digits": shift,
        "standard": v2.Compose([shift, flip]),
        "crops": v2.Compose([v2.RandomResizedCrop(size, antialias=True), flip]),
        "trivial": v2.Compose([shift, flip, v2.TrivialAugmentWide()]),
        "jitter": v2.Compose([v2.RandomShortestSize(sides, antialias=True), v2.RandomCrop(size), flip]),
    }
    return known[name]


class PictureSet(Dataset[tuple[Tensor, Tensor]]):
    """A split as batches of uint8 (batch, channel, height, width) and labels (batch,), fetched a batch at a time.

    Args:
        split: The pictures.
        preprocess: Brings them to one size.
        augment: A run's `augment`.
        seed: Decides the augmentation, with the epoch and the picture's number.
    """

    keeps = True  # whether a picture is the same each time it is read
    views = 1
    """In how many ways a sample is looked at in testing; see `view`."""

    def __init__(self, split: Any, preprocess: Preprocess, augment: str = "none", seed: int = 0) -> None:
        self.split, self.preprocess, self.seed = split, preprocess, seed
        self.epoch = 0
        self.change = augmentation(augment, preprocess.size)
        self.whole = augment in WHOLE
        self.labels = torch.tensor([split.label(index) for index in range(len(split))])
        shape = (len(split), preprocess.channels, *preprocess.size)
        keeps = self.keeps and not self.whole and math.prod(shape) <= KEPT_BYTES
        self._kept = torch.empty(shape, dtype=torch.uint8) if keeps else None
        self._is_kept = [False] * len(split)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self._changed(self._fetch(indices), indices), self.labels[indices]

    def view(self, indices: list[int], number: int) -> Tensor:
        """The samples as one of the `views` shows them."""
        return self.__getitems__(indices)[0]

    def boxes(self, index: int) -> Tensor | None:
        """The true boxes of a sample in the pixels that the network sees, (box, 4); None where none is known."""
        found = self.split.boxes_xyxy(index)
        if found is None or not len(found):
            return None
        return self.preprocess.carry(found, *self.split.image(index).shape[1:])

    def _fetch(self, indices: list[int]) -> Tensor | list[Tensor]:
        if self._kept is None:
            return [self._read(index) for index in indices]
        for index in indices:
            if not self._is_kept[index]:
                self._kept[index] = self._read(index)
                self._is_kept[index] = True
        return self._kept[indices]

    def _read(self, index: int) -> Tensor:
        image = self.split.image(index)
        return self.preprocess.colour(image) if self.whole else self.preprocess.fit(image)

    def _changed(self, images: Tensor | list[Tensor], indices: list[int]) -> Tensor:
        if self.change is None:
            return images if isinstance(images, Tensor) else torch.stack(images)
        changed = []
        with torch.random.fork_rng(devices=[]):
            for image, index in zip(images, indices, strict=True):
                torch.default_generator.manual_seed(draw_seed(self.seed, self.epoch, index))
                changed.append(self.change(image))
        return torch.stack(changed)


class EpochBatches(Sampler[list[int]]):
    """The batches of one epoch from some batch on, a share of each for every process.

    The pictures that do not fill a last batch are left out; the next epoch, in another order, leaves out others.

    Args:
        count: Pictures.
        batch_size: Pictures in a batch, over all processes.
        seed: Decides the order, with the epoch.
        epoch: From 0.
        start: The first batch that is still to come.
        rank: The process.
        world: How many processes there are.
        groups: Of each picture; those of one group come together, the groups in an order by chance. Default: one group.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        groups: Sequence[int] = (),
    ) -> None:
        self.count, self.batch_size, self.seed, self.epoch = count, batch_size, seed, epoch
        self.start, self.rank, self.world, self.groups = start, rank, world, groups

    @staticmethod
    def per_epoch(count: int, batch_size: int) -> int:
        """Batches in an epoch."""
        return max(1, count // batch_size)

    def __len__(self) -> int:
        return self.per_epoch(self.count, self.batch_size) - self.start

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(draw_seed(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        if self.groups:
            turn = torch.randperm(max(self.groups) + 1, generator=generator).tolist()
            order.sort(key=lambda index: turn[self.groups[index]])
        for batch in range(self.start, self.per_epoch(self.count, self.batch_size)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[self.rank :: self.world]


class WholeBatches(Sampler[list[int]]):
    """Every picture once, in order, each process its share."""

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, count, world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield list(self.indices[start : start + self.batch_size])
