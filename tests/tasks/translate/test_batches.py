import random

import pytest
import torch
from torch.utils.data import DataLoader

from foveate.tasks.translate.batches import Batch, SentencePairs, TokenBatches, collate, padded
from foveate.tasks.translate.vocabulary import BEGIN, END, PAD

LENGTHS = random.Random(3).choices(range(2, 30), k=211)


def test_rows_are_padded_behind_their_tokens():
    found = padded([[5, 7, 2], [], [11]])
    assert found.dtype == torch.int64
    assert found.tolist() == [[5, 7, 2], [PAD] * 3, [11, PAD, PAD]]


def test_the_decoder_is_given_what_it_said_before():
    batch = collate([([5, 7, 11, END], [13, END]), ([5, END], [17, 19, 23, END])])
    assert batch.source.tolist() == [[5, 7, 11, END], [5, END, PAD, PAD]]
    assert batch.target.tolist() == [[BEGIN, 13, PAD, PAD], [BEGIN, 17, 19, 23]]
    assert batch.wanted.tolist() == [[13, END, PAD, PAD], [17, 19, 23, END]]
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert {each.device.type for each in (moved.source, moved.target, moved.wanted)} == {"meta"}


@pytest.mark.parametrize("epoch", [0, 1, 5])
@pytest.mark.parametrize(("tokens", "size"), [(100, 1000), (100, 3), (29, 1000)])
def test_every_pair_is_in_one_batch_of_an_epoch(tokens: int, size: int, epoch: int):
    batches = list(TokenBatches(LENGTHS, tokens, size, seed=7, epoch=epoch))
    assert sorted(index for batch in batches for index in batch) == list(range(len(LENGTHS)))
    assert len(batches) == len(TokenBatches(LENGTHS, tokens, size))
    for batch in batches:
        longest = max(LENGTHS[index] for index in batch)
        assert len(batch) * longest <= tokens
        assert len(batch) <= size


def test_batches_are_full_of_pairs_of_similar_length():
    batches = list(TokenBatches(LENGTHS, 100, 1000))
    padding = sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in batches for j in batch)
    assert padding < 0.05 * sum(LENGTHS)
    assert len(batches) < 1.2 * sum(LENGTHS) / 100


def test_a_pair_that_is_longer_than_a_batch_is_one_by_itself():
    assert sorted(map(sorted, TokenBatches([3, 17, 2, 3, 19], 9, 1000))) == [[0, 2, 3], [1], [4]]


def test_the_order_is_decided_by_seed_and_epoch():
    def order(**changes: int) -> list[list[int]]:
        torch.manual_seed(changes.get("epoch", 0))  # of no account
        return list(TokenBatches(LENGTHS, 100, 1000, **changes))

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) != order(seed=1, epoch=3)
    assert order(seed=1, epoch=2) != order(seed=2, epoch=2)
    one, other = ({frozenset(batch) for batch in order(epoch=epoch)} for epoch in (0, 1))
    assert one != other  # pairs of one length meet others in each epoch
    longest = [max(LENGTHS[index] for index in batch) for batch in order()]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_an_epoch_is_taken_up_at_any_batch():
    whole = list(TokenBatches(LENGTHS, 100, 1000, seed=3, epoch=2))
    for start in (0, 5, len(whole)):
        rest = TokenBatches(LENGTHS, 100, 1000, seed=3, epoch=2, start=start)
        assert list(rest) == whole[start:]
        assert len(rest) == len(whole) - start


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("tokens", [200, 41, 7])
def test_processes_share_every_batch(world: int, tokens: int):
    given = {"seed": 3, "epoch": 1, "world": world}
    shares = [list(TokenBatches(LENGTHS, tokens, 1000, rank=rank, **given)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert all(batch for share in shares for batch in share)  # none waits for another
    held = sorted(index for share in shares for batch in share for index in batch)
    assert held == list(range(len(LENGTHS)))
    if tokens >= 2 * world * max(LENGTHS):
        for batch in zip(*shares, strict=True):
            together = [LENGTHS[index] for part in batch for index in part]
            assert len(together) * max(together) <= tokens


def test_of_few_pairs_every_process_has_one():
    for lengths in ([3] * 5, [2, 2, 2, 3, 29], [2, 2, 2, 2, 2, 29, 29]):
        shares = [list(TokenBatches(lengths, 9, 1000, rank=rank, world=3)) for rank in range(3)]
        assert all(batch for share in shares for batch in share)
        assert sorted(index for share in shares for batch in share for index in batch) == list(range(len(lengths)))
    # A batch gives of its pairs to the next, which would be too small, unless it has too few itself.
    assert TokenBatches([2] * 8, 14, 1000, world=3).ends == [5, 8]
    assert TokenBatches([2] * 5, 8, 1000, world=3).ends == [5]


def test_a_loader_gives_batches_of_pairs():
    pairs = [([5] * (length - 1) + [END], [7, END]) for length in (3, 5, 3, 2)]
    loader = DataLoader(SentencePairs(pairs), batch_sampler=TokenBatches([3, 5, 3, 2], 9, 100), collate_fn=collate)
    assert sorted(tuple(batch.source.shape) for batch in loader) == [(1, 5), (3, 3)]
