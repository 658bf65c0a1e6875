import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.layers import pairwise

# name -> (the map, the sum in the form that is chosen, the sum in the form that never forms the map)
KINDS = {
    "gaussian": (pairwise.gaussian_weights, pairwise.gaussian, pairwise.gaussian),
    "dot_product": (pairwise.dot_product_weights, pairwise.dot_product, pairwise.associative),
    "concatenation": (pairwise.concatenation_weights, pairwise.concatenation, pairwise.running_sums),
}
# (batch, queries, keys, channels of a value): pooled keys, more keys than queries, one key, one query, one channel.
SIZES = [(2, 7, 5, 3), (1, 5, 11, 2), (3, 7, 1, 5), (2, 1, 7, 3), (1, 13, 13, 1), (2, 3, 2, 7)]


def draw(kind, batch, queries, keys, width, dtype=torch.float64):
    """A query, a key and a value; one number a position for a concatenation."""
    channels = 1 if kind == "concatenation" else 3
    shapes = [(batch, queries, channels), (batch, keys, channels), (batch, keys, width)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def looped_weights(kind, query, key):
    """The map by the equation, one query and one key at a time."""
    weights = torch.zeros(query.shape[0], query.shape[1], key.shape[1], dtype=query.dtype)
    for b, i in torch.cartesian_prod(torch.arange(query.shape[0]), torch.arange(query.shape[1])):
        for j in range(key.shape[1]):
            if kind == "concatenation":
                weights[b, i, j] = max(query[b, i, 0] + key[b, j, 0], 0.0)
            else:
                product = sum(query[b, i, c] * key[b, j, c] for c in range(query.shape[2]))
                weights[b, i, j] = math.exp(product) if kind == "gaussian" else product
    return weights / (weights.sum(dim=2, keepdim=True) if kind == "gaussian" else key.shape[1])


def looped_sum(weights, value):
    y = torch.zeros(weights.shape[0], weights.shape[1], value.shape[2], dtype=value.dtype)
    for b in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(value.shape[1]):
                y[b, i] += weights[b, i, j] * value[b, j]
    return y


def results(function, tensors):
    """What a function computes, and the gradients of a fixed scalar of it."""
    y = function(*tensors)
    cotangent = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).reshape(y.shape).sin()
    return [y, *torch.autograd.grad((y * cotangent).sum(), tensors)]


class Shapes(TorchDispatchMode):
    """The shapes of all that is computed in the block, gradients included."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.seen |= {tuple(x.shape) for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, torch.Tensor)}
        return result


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_map_and_the_sum_are_those_of_the_equation(kind, sizes):
    form_map, chosen, linear = KINDS[kind]
    query, key, value = (x.detach() for x in draw(kind, *sizes))
    weights = looped_weights(kind, query, key)
    torch.testing.assert_close(form_map(query, key), weights, rtol=1e-12, atol=1e-12)
    for form in (chosen, linear, lambda *_: pairwise.weighted_sum(weights, value)):
        torch.testing.assert_close(form(query, key, value), looped_sum(weights, value), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", [*SIZES, (2, 97, 89, 17)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_form_without_the_map_equals_the_explicit_one_in_values_and_gradients(kind, sizes):
    form_map, _, linear = KINDS[kind]
    tensors = draw(kind, *sizes)
    explicit = results(lambda query, key, value: pairwise.weighted_sum(form_map(query, key), value), tensors)
    for ours, reference in zip(results(linear, tensors), explicit, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivatives_are_those_of_finite_differences(kind):
    tensors = draw(kind, 2, 5, 3, 2)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel of the CPU has no second derivative
        assert gradcheck(KINDS[kind][2], tensors)
        assert gradgradcheck(KINDS[kind][2], tensors)


def test_equal_numbers_and_sums_of_exactly_zero_are_no_trouble_to_running_sums():
    query = torch.tensor([[[1.0], [1.0], [-2.0], [0.0]]], requires_grad=True)
    key = torch.tensor([[[-1.0], [2.0], [2.0], [-1.0], [0.0]]], requires_grad=True)
    tensors = [query, key, torch.randn(1, 5, 3, requires_grad=True)]
    explicit = results(lambda q, k, v: pairwise.weighted_sum(pairwise.concatenation_weights(q, k), v), tensors)
    for ours, reference in zip(results(pairwise.running_sums, tensors), explicit, strict=True):
        torch.testing.assert_close(ours, reference)


def test_a_hand_computed_concatenation():
    query, key = torch.tensor([[[1.0], [-4.0]]]), torch.tensor([[[2.0], [-3.0]]])
    value = torch.tensor([[[10.0, 1.0], [100.0, 5.0]]])
    expected = torch.tensor([[[15.0, 1.5], [0.0, 0.0]]])  # 3 / 2 of the first value; nothing is above 4
    assert pairwise.running_sums(query, key, value).equal(expected)
    assert pairwise.concatenation(query, key, value).equal(expected)


def test_running_sums_are_exact_in_float32_when_queries_and_keys_are_far_apart():
    query, key, value = draw("concatenation", 1, 499, 503, 3, dtype=torch.float32)
    tensors = [query + 1000, key - 1000, value]
    exact = pairwise.running_sums(*(x.double() for x in tensors)).float()
    torch.testing.assert_close(pairwise.running_sums(*tensors), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "less"),
    [(5, 7, 11, True), (13, 11, 7, False), (101, 5, 7, False), (101, 3, 7, True)],
)
def test_the_map_of_a_dot_product_is_formed_where_it_is_less_work(queries, keys, width, less):
    tensors = [torch.randn(1, n, width, requires_grad=True) for n in (queries, keys, keys)]
    with Shapes() as shapes:
        results(pairwise.dot_product, tensors)
    assert ((1, queries, keys) in shapes.seen) == less
    assert ((1, width, width) in shapes.seen) == (not less)


@pytest.mark.parametrize(("queries", "keys", "less"), [(13, 11, True), (601, 613, False), (2411, 149, True)])
def test_the_map_of_a_concatenation_is_formed_where_it_is_less_work(queries, keys, less):
    with Shapes() as shapes:
        results(pairwise.concatenation, draw("concatenation", 1, queries, keys, 3))
    assert ((1, queries, keys) in shapes.seen) == less


@pytest.mark.parametrize("kind", ["dot_product", "concatenation"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(kind, dtype):
    form_map, chosen, linear = KINDS[kind]
    tensors = [(10 * x).detach().to(dtype) for x in draw(kind, 1, 61, 67, 3)]
    wide = [x.float() for x in tensors]
    for form in (chosen, linear, lambda q, k, v: pairwise.weighted_sum(form_map(q, k), v)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = form(*tensors)
        assert y.dtype == dtype
        torch.testing.assert_close(y, form(*wide).to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_gives_an_empty_sum(kind):
    for form in KINDS[kind][1:3]:
        assert form(*draw(kind, 0, 5, 3, 2)).shape == (0, 5, 2)


def test_the_values_may_be_wider_or_narrower_than_the_keys():
    for width in (2, 5):
        query, key = draw("gaussian", 2, 7, 5, 1)[:2]
        value = torch.randn(2, 5, width, dtype=torch.float64)
        explicit = pairwise.weighted_sum(pairwise.gaussian_weights(query, key), value)
        torch.testing.assert_close(pairwise.gaussian(query, key, value), explicit)


def test_shapes_without_data_are_computed():
    for kind, (_, *forms) in KINDS.items():
        for form in forms:
            assert form(*(x.to("meta") for x in draw(kind, 2, 7, 5, 3))).shape == (2, 7, 3)


def test_a_small_softmax_of_wide_queries_is_formed_and_computes_the_same(monkeypatch):
    given = [torch.randn(2, 7, width, dtype=torch.float64, requires_grad=True) for width in (5, 5, 3)]
    with_map = results(pairwise.gaussian, given)
    assert gradgradcheck(pairwise.gaussian, given)  # the map has a second derivative, the fused kernel has none
    monkeypatch.setattr(pairwise, "FUSE_FROM", 0)
    torch.testing.assert_close(with_map, results(pairwise.gaussian, given))
