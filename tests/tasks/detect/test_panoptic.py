import numpy as np
import pytest
import torch
from tests.reference import panoptic as reference

from foveate.tasks.detect.panoptic import as_png, panoptic
from foveate.tasks.detect.preparation import Preparation

PREPARED = Preparation(["cat", "sky", "dog", "sea"], [3, 11, 12, 31], [11, 31], 32, 53, 7, True)
STUFF = [False, True, False, True]
OF_CAT, OF_SKY, OF_DOG, OF_SEA, OF_NOTHING = range(5)


def answer(labels: list[int], masks: torch.Tensor, sure: float = 9.0) -> dict[str, torch.Tensor]:
    logits = torch.zeros(1, len(labels), 5)
    logits[0, torch.arange(len(labels)), torch.tensor(labels)] = sure
    return {"pred_logits": logits, "pred_masks": masks[None]}


def halves(*columns: slice, size: tuple[int, int] = (5, 11)) -> torch.Tensor:
    """Masks of columns."""
    masks = torch.full((len(columns), *size), -3.0)
    for mask, chosen in zip(masks, columns, strict=True):
        mask[:, chosen] = 3.0
    return masks


@pytest.mark.parametrize("seed", range(12))
def test_it_finds_the_segments_of_the_release(seed: int):
    generator = torch.Generator().manual_seed(seed)
    queries, given = 13, (16 + seed, 28)
    size = [(23, 42), given, (15, 21)][seed % 3]
    logits = 4 * torch.randn(1, queries, 5, generator=generator)
    coarse = torch.randn(1, queries, 5, 7, generator=generator) + 0.7 * torch.randn(
        1, queries, 1, 1, generator=generator
    )
    held = {"pred_logits": logits, "pred_masks": coarse}
    numbers, segments = panoptic(held, PREPARED, size, given, 0.6)
    drawn, wanted = reference.panoptic(logits[0], coarse[0], STUFF, size, given, 0.6)
    assert len(wanted) > 1
    assert [(each.label, each.area) for each in segments] == wanted
    assert np.array_equal(numbers.numpy(), drawn + 1)
    for number, each in enumerate(segments, start=1):
        rows, columns = np.nonzero(numbers.numpy() == number)
        left, top, width, height = each.box
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
        assert each.id == number
        assert each.score > 0.6


def test_every_thing_is_its_own_and_a_stuff_is_one():
    masks = halves(slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 9), slice(9, 11))
    numbers, segments = panoptic(answer([OF_CAT, OF_SKY, OF_CAT, OF_SKY, OF_SEA], masks), PREPARED, (5, 11), (5, 11))
    # What the second query of the sky had goes to nobody in particular once that query is taken out for having nothing:
    # its mask is as low as all others there, and the first of them takes it.
    assert [each.label for each in segments] == [OF_CAT, OF_SKY, OF_CAT, OF_SEA]
    assert numbers[0].tolist() == [1, 1, 2, 2, 3, 3, 1, 1, 1, 4, 4]


def test_what_is_joined_and_nobody_elses_stays_joined():
    masks = halves(slice(0, 2), slice(2, 6), slice(6, 11))
    masks[1, :, 6:] = 1.0  # the first query of the sky would have the second one's place too
    numbers, segments = panoptic(answer([OF_CAT, OF_SKY, OF_SKY], masks), PREPARED, (5, 11), (5, 11))
    assert [(each.label, each.area, each.box) for each in segments] == [
        (OF_CAT, 10, (0, 0, 2, 5)),
        (OF_SKY, 45, (2, 0, 9, 5)),
    ]
    assert numbers[3].tolist() == [1] * 2 + [2] * 9


def test_next_to_nothing_is_taken_out():
    masks = torch.full((2, 5, 11), -3.0)
    masks[0] = 0.0
    for pixels, kept in ((4, 1), (5, 2)):
        masks[1] = -3.0
        masks[1, 2, :pixels] = 3.0
        numbers, segments = panoptic(answer([OF_CAT, OF_DOG], masks), PREPARED, (5, 11), (5, 11))
        assert len(segments) == kept
        assert sum(each.area for each in segments) == numbers.numel()


def test_without_a_confident_query_all_is_void():
    masks = halves(slice(0, 5), slice(5, 11))
    for held in (answer([OF_NOTHING, OF_NOTHING], masks), answer([OF_CAT, OF_DOG], masks, sure=0.5)):
        numbers, segments = panoptic(held, PREPARED, (7, 13), (5, 11))
        assert segments == []
        assert (numbers.shape, numbers.dtype) == ((7, 13), torch.int64)
        assert not numbers.any()
    # Where all that is confident is too small, too.
    numbers, segments = panoptic(answer([OF_CAT], masks[:1]), PREPARED, (2, 2), (5, 11))
    assert segments == []
    assert not numbers.any()


def test_the_numbers_are_written_as_colours():
    numbers = torch.tensor([[0, 1, 255], [256, 257, 65536], [65537 + 3 * 256, 13, 2]])
    drawn = as_png(numbers)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (3, 3, 3))
    assert np.array_equal(drawn.astype(int) @ [1, 256, 65536], numbers.numpy())
    assert drawn[1, 0].tolist() == [0, 1, 0]
