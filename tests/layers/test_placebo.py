import torch

from foveate.layers import Placebo


def test_it_returns_the_input_bit_for_bit():
    layer = Placebo(3)
    x = torch.randn(2, 3, 5, 7)
    x[0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    assert layer(x).view(torch.int32).equal(x.view(torch.int32))


def test_it_has_no_parameters_and_a_gate_of_ones():
    layer = Placebo(3)
    seen = []
    layer.gate.register_forward_hook(lambda module, args, output: seen.append(output))
    layer(torch.randn(2, 3, 5))
    assert seen[0].equal(torch.ones(2, 3))
    assert not list(layer.parameters())
