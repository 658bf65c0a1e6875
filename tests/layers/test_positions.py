"""Positions beside the papers' formulas and DETR's release."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.layers import LearnedPositions, LearnedPositions2d, SinusoidalPositions, SinusoidalPositions2d

GOLDEN = Path(__file__).parents[1] / "golden" / "detr_position_sine.npz"


def test_the_papers_sinusoids_alternate_sine_and_cosine():
    positions = SinusoidalPositions(12)(torch.zeros(2, 4001, 12, dtype=torch.float64))
    for p in (0, 1, 17, 4000):
        for i in range(6):
            angle = p / 10000 ** (2 * i / 12)
            assert positions[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert positions[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)


def test_tensor2tensors_sinusoids_are_joined_and_have_other_frequencies():
    positions = SinusoidalPositions(12, form="concatenated")(torch.zeros(1, 50, 12, dtype=torch.float64))
    for p in (0, 1, 17, 49):
        for i in range(6):
            angle = p * 10000 ** (-i / 5)
            assert positions[p, i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert positions[p, 6 + i] == pytest.approx(math.cos(angle), abs=1e-12)
    paper = SinusoidalPositions(512)(torch.zeros(1, 50, 512))
    other = SinusoidalPositions(512, form="concatenated")(torch.zeros(1, 50, 512))
    apart = torch.cat([paper[:, 0::2], paper[:, 1::2]], dim=1) - other
    assert apart.abs().max() == pytest.approx(0.070, abs=5e-4)


def test_far_positions_are_as_exact_in_half_precision_as_it_allows():
    x = torch.zeros(1, 5000, 8)
    exact = SinusoidalPositions(8)(x.double())
    assert (SinusoidalPositions(8)(x) - exact).abs().max() < 1e-7
    assert SinusoidalPositions(8)(x.bfloat16()).dtype == torch.bfloat16


def test_the_sine_of_a_picture_is_that_of_the_release():
    with np.load(GOLDEN) as arrays:
        padding, output = torch.from_numpy(arrays["mask"]), torch.from_numpy(arrays["output"])
    positions = SinusoidalPositions2d(256)(~padding.bool())
    assert positions.dtype == torch.float32
    assert (positions - output).abs().max() <= 1e-9


def test_padding_does_not_change_where_a_picture_is():
    valid = torch.zeros(1, 7, 11, dtype=torch.bool)
    valid[:, :5, :3] = True
    positions = SinusoidalPositions2d(8)
    assert torch.equal(positions(valid)[..., :5, :3], positions(torch.ones(1, 5, 3, dtype=torch.bool)))
    # The last row and column stand at 2 pi: their first sine is that of 2 pi, nearly zero, their first cosine one.
    assert positions(valid)[0, [0, 1, 4, 5], 4, 2].tolist() == pytest.approx([0, 1, 0, 1], abs=1e-5)


def test_learned_positions_of_a_picture_are_columns_then_rows():
    positions = LearnedPositions2d(6, length=5)
    found = positions(torch.ones(2, 3, 5, dtype=torch.bool))
    assert found.shape == (2, 6, 3, 5)
    for image, y, x in ((0, 0, 0), (1, 2, 4)):
        expected = torch.cat([positions.column.weight[x], positions.row.weight[y]])
        assert torch.equal(found[image, :, y, x], expected)
    assert all(((table.weight >= 0) & (table.weight <= 1)).all() for table in (positions.row, positions.column))


def test_learned_positions_are_the_first_rows_of_their_table():
    positions = LearnedPositions(4, length=7)
    assert torch.equal(positions(torch.zeros(2, 3, 4)), positions.table.weight[:3])


@pytest.mark.parametrize("positions", [SinusoidalPositions(4), LearnedPositions(4, length=7)])
def test_tokens_may_stand_behind_others(positions):
    x = torch.zeros(1, 7, 4)
    assert torch.equal(positions(x[:, 5:], 5), positions(x)[5:])
    assert torch.equal(positions(x[:, 6:], start=6), positions(x)[6:])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: SinusoidalPositions(7), r"^sinusoids take an even number of channels, at least 2 \(4 .*; got 7$"),
        (lambda: SinusoidalPositions(2, "concatenated"), "; got 2$"),
        (lambda: SinusoidalPositions(8, "joined"), 'form must be one of "interleaved", "concatenated"; got \'joined\''),
        (lambda: SinusoidalPositions2d(6), "^SinusoidalPositions2d takes a multiple of 4 channels; got 6$"),
        (lambda: LearnedPositions2d(7), "^LearnedPositions2d takes an even number of channels; got 7$"),
        (
            lambda: LearnedPositions2d(4, 5)(torch.ones(1, 3, 6)),
            "^LearnedPositions2d takes at most 5 positions along an axis; got 6$",
        ),
        (
            lambda: LearnedPositions(4, 5)(torch.ones(1, 1, 4), 5),
            "^LearnedPositions takes at most 5 positions along an axis; got 6$",
        ),
    ],
)
def test_what_has_no_position_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
