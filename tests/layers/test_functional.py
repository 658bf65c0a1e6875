import math

import pytest
import torch

from foveate.layers import functional


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dims", [(1,), (2, 3)])
def test_the_mean_is_the_mean(dtype, dims):
    x = (torch.randn(2, 3, 5, 7) + 1).to(dtype)
    torch.testing.assert_close(functional.mean(x, dims), x.mean(dim=dims))


def test_the_gradient_of_the_mean_is_not_written_out():
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    (gradient,) = torch.autograd.grad(functional.mean(x, (2, 3)).sum(), x)
    assert gradient.stride()[2:] == (0, 0)
    torch.testing.assert_close(gradient, torch.full_like(x, 1 / 35))


def test_the_mean_of_many_halves_does_not_overflow():
    x = torch.full((1, 1, 64, 64), 64.0, dtype=torch.float16)  # the sum, 2^18, is beyond the largest half
    assert functional.mean(x, (2, 3)).item() == 64.0


@pytest.mark.parametrize(
    ("kind", "squeezed"),
    [
        ("average", -1 / 3),
        ("max", 2.0),
        ("lp", math.sqrt(1 + 4 + 16)),
        ("lse", math.log(math.e + math.e**2 + math.e**-4)),
    ],
)
def test_the_pools_of_a_hand_computed_case(kind, squeezed):
    x = torch.tensor([[[1.0, 2.0, -4.0]]])
    torch.testing.assert_close(functional.pool(x, kind), torch.tensor([[squeezed]]))


def test_a_gate_scales_its_channel_whatever_the_rank():
    gate = torch.tensor([[2.0, 3.0]])
    for space in ((1,), (1, 1), (1, 1, 1)):
        x = torch.ones(1, 2, *space)
        assert functional.scale(x, gate).flatten().tolist() == [2.0, 3.0]
