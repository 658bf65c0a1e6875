"""Batches of sentences of similar length, counted in tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from foveate.tasks.samples import draw_seed
from foveate.tasks.translate.vocabulary import BEGIN, PAD

__all__ = ["Batch", "SentencePairs", "TokenBatches", "collate", "padded"]

Encoded = tuple[list[int], list[int]]  # the tokens of a sentence and of its translation, each with its end


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs of sentences, padded to the longest of each side.

    Args:
        source: int64 (batch, token).
        target: What the decoder is given, int64 (batch, token): the beginning, and the translation without its end.
        wanted: What it should say, int64 (batch, token): the translation with its end.
    """

    source: Tensor
    target: Tensor
    wanted: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same on a device."""
        return Batch(*(each.to(device, non_blocking=non_blocking) for each in (self.source, self.target, self.wanted)))


class SentencePairs(Dataset[Encoded]):
    """Pairs by number.

    Args:
        pairs: The tokens of each.
    """

    def __init__(self, pairs: Sequence[Encoded]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Encoded:
        return self.pairs[index]


def collate(pairs: Sequence[Encoded]) -> Batch:
    """Pad pairs to a batch."""
    sources, targets = zip(*pairs, strict=True)
    return Batch(padded(sources), padded([[BEGIN, *target[:-1]] for target in targets]), padded(targets))


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of tokens as int64 (row, token)."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=PAD)


class TokenBatches(Sampler[list[int]]):
    """The batches of one epoch from some batch on, a share of each for every process.

    Pairs are sorted by length, those of one length in another order in each epoch, and cut such that no batch has more
    tokens than asked for; then the batches are shuffled. So every epoch has as many, and every pair is in one of them.

    Args:
        lengths: Tokens of the longer side of each pair.
        tokens: Of a batch at most, padding counted; a longer pair is a batch by itself, and each process has a pair
            of every batch.
        size: Pairs of a batch at most.
        seed: Decides the order, with the epoch.
        epoch: From 0.
        start: The first batch that is still to come.
        rank: The process.
        world: How many processes there are.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        tokens: int,
        size: int,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.lengths, self.tokens, self.size = lengths, tokens, max(size, world)
        self.seed, self.epoch, self.start, self.rank, self.world = seed, epoch, start, rank, world
        self.ends = _ends(sorted(lengths), tokens, self.size, world)

    def __len__(self) -> int:
        return len(self.ends) - self.start

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(draw_seed(self.seed, self.epoch))
        drawn = torch.randperm(len(self.lengths), generator=generator).tolist()
        ordered = sorted(drawn, key=self.lengths.__getitem__)
        starts = [0, *self.ends[:-1]]
        for batch in torch.randperm(len(self.ends), generator=generator).tolist()[self.start :]:
            yield ordered[starts[batch] : self.ends[batch]][self.rank :: self.world]


def _ends(lengths: Sequence[int], tokens: int, size: int, world: int) -> list[int]:
    """Where each batch ends among pairs sorted by length; every process gets a pair of each."""
    ends: list[int] = []
    first = 0
    for place, length in enumerate(lengths):
        if place - first >= world and ((place + 1 - first) * length > tokens or place - first >= size):
            ends.append(place)
            first = place
    lacking = world - (len(lengths) - first)
    if ends and lacking > 0:  # too few to be a batch by themselves: the one before gives some, or takes them
        before = ends.pop()
        if before - lacking - (ends[-1] if ends else 0) >= world:
            ends.append(before - lacking)
    return [*ends, len(lengths)]
