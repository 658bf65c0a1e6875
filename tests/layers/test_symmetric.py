import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

from foveate.layers import NonLocal, pairwise, symmetric


def explicit(x, value):
    return pairwise.weighted_sum(pairwise.gaussian_weights(x, x), value)


def draw(batch, positions, channels=5, width=3, dtype=torch.float64):
    shapes = (batch, positions, channels), (batch, positions, width)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("tile", [1, 9, 50, 2**20])
@pytest.mark.parametrize(("batch", "positions"), [(1, 1), (1, 7), (3, 8), (2, 13), (0, 4)])
def test_sums_and_gradients_are_those_of_the_map_whatever_the_tiles(monkeypatch, tile, batch, positions):
    monkeypatch.setattr(symmetric, "TILE", tile)
    x, value = draw(batch, positions)
    cotangent = torch.randn_like(value)
    found, expected = (
        [y, *torch.autograd.grad(y, [x, value], cotangent)] for y in (symmetric.gaussian(x, value), explicit(x, value))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tile", [9, 2**20])
def test_the_gradient_is_exact_to_the_second_order(monkeypatch, tile):
    monkeypatch.setattr(symmetric, "TILE", tile)
    given = draw(2, 7)
    assert gradcheck(symmetric.gaussian, given)
    assert gradgradcheck(symmetric.gaussian, given)


def test_features_that_lie_in_any_order_in_memory_give_the_same(monkeypatch):
    monkeypatch.setattr(symmetric, "TILE", 20)
    x, value = (each.detach().mT.contiguous().mT.requires_grad_() for each in draw(2, 11))
    y = symmetric.gaussian(x, value)
    torch.testing.assert_close(y, explicit(x, value))
    cotangent = torch.randn(2, 3, 11, dtype=y.dtype).mT
    found, expected = (torch.autograd.grad(each, [x, value], cotangent) for each in (y, explicit(x, value)))
    torch.testing.assert_close(found, expected)


def test_a_backward_pass_under_autocast_keeps_its_precision():
    x, value = draw(1, 9, dtype=torch.float32)
    y = symmetric.gaussian(x, value)
    expected = torch.autograd.grad(y.sum(), [x, value], retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(y.sum(), [x, value]), expected)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_products_of_any_size_neither_overflow_nor_vanish(monkeypatch, size):
    monkeypatch.setattr(symmetric, "TILE", 16)
    x, value = draw(1, 21)
    x = (size * x).detach().requires_grad_()
    y = symmetric.gaussian(x, value)
    assert y.isfinite().all()
    torch.testing.assert_close(y, explicit(x, value))
    torch.testing.assert_close(*[torch.autograd.grad(each.sum(), x) for each in (y, explicit(x, value))])


def test_only_what_needs_a_gradient_gets_one():
    x, value = draw(1, 5)
    (found,) = torch.autograd.grad(symmetric.gaussian(x.detach(), value).sum(), value)
    torch.testing.assert_close(found, torch.autograd.grad(explicit(x.detach(), value).sum(), value)[0])
    assert not symmetric.gaussian(x.detach(), value.detach()).requires_grad


def test_a_block_whose_keys_are_its_queries_forms_half_the_products():
    layer, x = NonLocal(8, pairwise="gaussian").eval(), torch.randn(1, 8, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    work = counter.get_flop_counts()["Global"]
    of_map = 2 * 4096**2
    assert work[torch.ops.aten.baddbmm] == of_map * 4  # with values of 4 channels
    assert work[torch.ops.aten.bmm] == of_map * 8 * 10 / 16  # of 16 tiles with 8 channels, the 10 that differ
