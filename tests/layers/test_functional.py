import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.parametrize import register_parametrization

from foveate.layers import BAM, CBAM, ScSE, catalogue, functional, gradients

SPACES = [(7,), (5, 3), (3, 1, 5)]


def plain_scale_by_sum(x, channel, position):
    return x * channel.reshape(*channel.shape, *[1] * (x.ndim - 2)) + x * position.unsqueeze(1)


def gate_of_both(product):
    return lambda x, channel, position: x * functional.gate_over_positions(channel, position, x, product=product)


def plain_gate_of_both(combine):
    def form(x, channel, position):
        return x * combine(channel.reshape(*channel.shape, *[1] * (x.ndim - 2)), position.unsqueeze(1)).sigmoid()

    return form


def with_both_gates(shape):
    return [shape, shape[:2], (shape[0], *shape[2:])]


# Each operation with a gradient of its own beside torch's, and what it takes for features of a shape.
OWN = {
    "maximum over space": (
        lambda x: gradients.maximum(x, tuple(range(2, x.ndim))),
        lambda x: x.amax(dim=tuple(range(2, x.ndim))),
        lambda shape: [shape],
    ),
    "maximum over channels": (
        lambda x: gradients.maximum(x, (1,)),
        lambda x: x.amax(dim=1),
        lambda shape: [shape],
    ),
    "larger": (gradients.larger, torch.maximum, lambda shape: [shape, shape]),
    "scale by sum": (
        gradients.scale_by_sum,
        plain_scale_by_sum,
        with_both_gates,
    ),
    "gate of a sum": (gate_of_both(product=False), plain_gate_of_both(torch.add), with_both_gates),
    "gate of a product": (gate_of_both(product=True), plain_gate_of_both(torch.mul), with_both_gates),
    "one plus gate": (gradients.one_plus_gate, lambda x, gate: x * (1 + gate), lambda shape: [shape, shape]),
}


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


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", OWN)
def test_gradients_of_our_own_are_exact_to_the_second_order(name, space):
    ours, _, shapes = OWN[name]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes((2, 3, *space))]
    assert gradcheck(ours, given)
    assert gradgradcheck(ours, given)


@pytest.mark.parametrize("largest", [0, 4096])
@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize(("space", "kernel"), [((7,), 3), ((5, 3), 7), ((3, 1, 5), 3)])
def test_both_gradients_of_a_small_convolution_are_exact(monkeypatch, space, kernel, batch, largest):
    monkeypatch.setattr(gradients, "LARGEST_KERNEL", largest)
    conv = functional.CONVOLUTIONS[len(space)](2, 1, kernel, padding=kernel // 2, bias=False).double()
    x = torch.randn(batch, 2, *space, dtype=torch.float64, requires_grad=True)
    y, expected = gradients.convolve(conv, x), conv(x)
    torch.testing.assert_close(y, expected)
    cotangent = torch.randn_like(y)
    both = [torch.autograd.grad(each, [x, conv.weight], cotangent) for each in (y, expected)]
    torch.testing.assert_close(*both)
    if batch:

        def function(x, weight):
            return torch.func.functional_call(Convolved(conv), {"conv.weight": weight}, (x,))

        assert gradcheck(function, (x, conv.weight), fast_mode=True)
        assert gradgradcheck(function, (x, conv.weight), fast_mode=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(("out", "kernel"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_a_bias_added_apart_is_the_same_convolution(out, kernel, batch, last):
    layout = torch.channels_last if last else torch.contiguous_format
    conv = torch.nn.Conv2d(3, out, kernel, padding=2 * (kernel // 2), dilation=2).double()
    x = torch.randn(batch, 3, 5, 7, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    y, expected = gradients.convolve_apart(conv, x), conv(x)
    torch.testing.assert_close(y, expected)
    given = [x, conv.weight, conv.bias]
    cotangent = torch.randn_like(y)
    found = [torch.autograd.grad(each, given, cotangent) for each in (y, expected)]
    torch.testing.assert_close(*found)
    assert found[0][0].is_contiguous(memory_format=layout) or not batch


@pytest.mark.parametrize("space", SPACES)
def test_the_projection_to_one_channel_is_exact_to_the_second_order(space):
    shapes = [(2, 3, *space), (1, 3), (1,)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert gradcheck(gradients.project_channels, given)
    assert gradgradcheck(gradients.project_channels, given)


class Convolved(torch.nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return gradients.convolve(self.conv, x)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", OWN)
def test_gradients_of_our_own_are_those_of_torch_with_ties_in_both_layouts(name, batch, last):
    ours, theirs, shapes = OWN[name]
    layout = torch.channels_last if last else torch.contiguous_format
    given = [torch.randint(-2, 3, shape).double() for shape in shapes((batch, 3, 5, 7))]  # many equal numbers
    given = [x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in given]
    found = []
    for form in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in given]
        y = form(*leaves)
        cotangent = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).reshape(y.shape).sin()
        cotangent = cotangent.contiguous(memory_format=layout) if y.ndim == 4 else cotangent
        found.append([y, *torch.autograd.grad(y, leaves, cotangent)])
        with torch.no_grad():
            found[-1].append(form(*[x.clone() for x in given]))
    torch.testing.assert_close(*found)
    assert found[0][1].is_contiguous(memory_format=layout) or not batch


@pytest.mark.parametrize("product", [False, True])
def test_gates_of_two_precisions_have_gradients(product):
    channel = torch.randn(2, 3, dtype=torch.bfloat16, requires_grad=True)
    position = torch.randn(2, 5, requires_grad=True)
    gate = gradients.gate_of_both(channel, position, product=product, last=False)
    gate.sum().backward()
    assert (channel.grad.dtype, position.grad.dtype) == (torch.bfloat16, torch.float32)
    for last in (False, True):
        assert gradients.gate_of_both(channel[:0], position[:0], product=product, last=last).shape == (0, 3, 5)


def test_many_equal_maxima_of_halves_share_the_gradient():
    x = torch.zeros(1, 1, 5000, dtype=torch.bfloat16, requires_grad=True)
    gradients.maximum(x, (2,)).backward(torch.ones(1, 1, dtype=torch.bfloat16))
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 5000))


@pytest.mark.parametrize("layer", [BAM(6), CBAM(6, zero_init=False), ScSE(6), ScSE(6, combine="max")])
def test_torch_func_sees_through_a_gate(layer):
    layer = layer.double().eval()
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)

    def loss(one):
        return layer(one[None]).square().sum()

    leaf = x.clone().requires_grad_()
    layer(leaf).square().sum().backward()
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), leaf.grad)
    assert torch.func.jvp(loss, (x[0],), (x[0],))[1].isfinite()


@pytest.mark.parametrize("layer", [CBAM(6), CBAM(6, order="spatial_first"), ScSE(6), ScSE(6, combine="max")])
def test_inference_leaves_its_input_alone(layer):
    layer.eval()
    x = torch.randn(2, 6, 5, 4)
    given = x.clone()
    with torch.no_grad():
        found = layer(given)
    assert given.equal(x)
    torch.testing.assert_close(found, layer(x))


@pytest.mark.parametrize("name", ["se", "scse", "eca", "cbam", "bam", "nonlocal"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_hooked_or_parametrised_part_of_a_layer_is_called(name, layout):
    torch.manual_seed(0)
    layer = catalogue.build(name, 8).eval()
    x = torch.randn(2, 8, 6, 5).to(memory_format=layout).requires_grad_()
    expected = layer(x)
    called = []
    parts = {key: part for key, part in layer.named_modules() if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear)}
    for key, part in parts.items():
        part.register_forward_hook(lambda module, given, output, key=key: called.append(key))
    torch.testing.assert_close(layer(x), expected)
    assert set(called) == set(parts)
    parametrised = catalogue.build(name, 8).eval()
    parametrised.load_state_dict(layer.state_dict())
    for key in parts:
        register_parametrization(parametrised.get_submodule(key), "weight", Doubled())
    with torch.no_grad():
        for part in parts.values():
            part.weight.mul_(2)
    torch.testing.assert_close(parametrised(x), layer(x))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight
