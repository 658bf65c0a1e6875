import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from foveate.capture.attention import MapMode

TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture
def query_key_value():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 6, tokens, 5, generator=generator) for tokens in (7, 3, 3)]


def shown(call, *args, **kwargs):
    """The result of an attention function without and with MapMode, and the weights that were shown."""
    weights = []

    def show(made):
        weights.append(made)
        return made

    plain = call(*args, **kwargs)
    with MapMode("softmax", show):
        seen = call(*args, **kwargs)
    (only,) = weights
    return plain, seen, only


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 1.0},
        {"is_causal": True},
        {"attn_mask": torch.tensor([[0, 1, 1], [1, 0, 0]] * 3 + [[1, 1, 1]]).bool()},
        {"attn_mask": torch.linspace(-1, 1, 21).reshape(7, 3)},
        {"attn_mask": torch.tensor([0.0, 1.0, -torch.inf]).expand(2, 1, 7, 3)},
    ],
)
def test_fused_attention_gives_the_same_output_in_the_open(query_key_value, options):
    plain, seen, weights = shown(F.scaled_dot_product_attention, *query_key_value, **options)
    assert_close(seen, plain, **TOLERANCE)
    assert_close(weights.sum(dim=-1), torch.ones(2, 6, 7))
    assert_close(weights @ query_key_value[2], plain, **TOLERANCE)


def test_a_query_that_may_look_at_nothing_gets_zeros(query_key_value):
    mask = torch.ones(7, 3, dtype=torch.bool)
    mask[4] = False
    plain, seen, weights = shown(F.scaled_dot_product_attention, *query_key_value, attn_mask=mask)
    assert_close(seen, plain, **TOLERANCE)
    assert torch.equal(weights[:, :, 4], torch.zeros(2, 6, 3))


def test_grouped_queries_share_their_keys(query_key_value):
    query, key, value = query_key_value
    inputs = query, key[:, :2], value[:, :2]
    plain, seen, weights = shown(F.scaled_dot_product_attention, *inputs, enable_gqa=True)
    assert_close(seen, plain, **TOLERANCE)
    assert weights.shape == (2, 6, 7, 3)


def test_the_gradient_is_that_of_fused_attention(query_key_value):
    gradients = []
    for watched in (False, True):
        inputs = [x.clone().requires_grad_() for x in query_key_value]
        with MapMode("softmax" if watched else "sigmoid", lambda made: made):
            F.scaled_dot_product_attention(*inputs).square().sum().backward()
        gradients.append([x.grad for x in inputs])
    assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_dropout_comes_after_the_weights_are_shown(query_key_value):
    query, key, _ = query_key_value
    value = torch.eye(3).expand(2, 6, 3, 3)
    _, seen, weights = shown(F.scaled_dot_product_attention, query, key, value, dropout_p=0.5)
    assert_close(weights.sum(dim=-1), torch.ones(2, 6, 7))
    dropped = seen == 0
    assert 0 < dropped.float().mean() < 1
    assert_close(seen, (2 * weights).masked_fill(dropped, 0.0))


@pytest.mark.parametrize("softmax", [F.softmax, torch.softmax, torch.Tensor.softmax])
def test_every_spelling_of_softmax_is_seen_once(softmax):
    plain, seen, weights = shown(softmax, torch.randn(2, 3), dim=-1)
    assert torch.equal(seen, plain)
    assert torch.equal(weights, plain)


@pytest.mark.parametrize("sigmoid", [F.sigmoid, torch.sigmoid, torch.Tensor.sigmoid, torch.nn.Sigmoid()])
def test_every_spelling_of_sigmoid_is_replaced(sigmoid):
    with MapMode("sigmoid", torch.zeros_like):
        assert torch.equal(sigmoid(torch.randn(2, 3)), torch.zeros(2, 3))


def test_of_two_modes_the_inner_one_sees_what_the_outer_one_made(query_key_value):
    seen = []

    def look(weights):
        seen.append(weights)
        return weights

    with MapMode("softmax", lambda weights: weights * 0 + 0.5), MapMode("softmax", look):
        output = F.scaled_dot_product_attention(*query_key_value)
    assert torch.equal(seen[0], torch.full((2, 6, 7, 3), 0.5))
    assert_close(output, query_key_value[2].sum(dim=2, keepdim=True).expand(2, 6, 7, 5) / 2)
