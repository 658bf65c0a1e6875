"""Multi-head attention beside torch's, with every mask, watched and not."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel

from foveate.capture import capture
from foveate.layers import KeyValueCache, MultiHeadAttention, functional

EMBED, HEADS, BATCH, QUERIES, KEYS = 12, 3, 2, 5, 7


def layer(**options):
    """An attention layer none of whose numbers is trivial."""
    torch.manual_seed(0)
    made = MultiHeadAttention(EMBED, HEADS, **options).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def tokens(count=QUERIES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, count, EMBED, generator=generator, dtype=torch.float64, requires_grad=True)


def padding(keys=KEYS):
    """Which keys there are: all of the first sample, three of the second."""
    return torch.arange(keys) < torch.tensor([[keys], [3]])


def gradients(output, *inputs):
    return torch.autograd.grad((output * tokens(output.shape[1], seed=9).detach()).sum(), inputs)


def watched(module, *inputs, **masks):
    """The output and the map of a layer that is looked at."""
    maps = []
    handle = module.weights.register_forward_hook(lambda tap, given, weights: maps.append(weights))
    output = module(*inputs, **masks)
    handle.remove()
    return output, maps[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["self", "padded", "causal", "padded causal", "cross"])
def test_it_computes_what_torchs_attention_computes(kind, bias):
    ours = layer(bias=bias)
    theirs = nn.MultiheadAttention(EMBED, HEADS, bias=bias, batch_first=True).double().eval()
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x, memory = tokens(), tokens(KEYS, seed=2)
    key = memory if kind == "cross" else x
    valid = padding(key.shape[1]) if kind in ("padded", "padded causal", "cross") else None
    causal = "causal" in kind
    later = torch.ones(QUERIES, QUERIES).triu(1).bool() if causal else None
    expected, map_of_theirs = theirs(
        x,
        key,
        key * 0.5,
        key_padding_mask=None if valid is None else ~valid,
        attn_mask=later,
        average_attn_weights=False,
    )
    fast = ours(x, key, key * 0.5, mask=valid, causal=causal)
    slow, weights = watched(ours, x, key, key * 0.5, mask=valid, causal=causal)
    wanted = (x, memory) if kind == "cross" else (x,)
    grads = gradients(expected, *wanted, *theirs.parameters())
    for found in (fast, slow):
        assert (found - expected).abs().max() < 1e-12
        for own, their in zip(gradients(found, *wanted, *ours.parameters()), grads, strict=True):
            assert (own - their).abs().max() < 1e-9
    assert (weights - map_of_theirs).abs().max() < 1e-12


def test_what_is_left_out_is_the_query_and_the_key():
    attention, x, memory = layer(), tokens(), tokens(KEYS, seed=2)
    assert torch.equal(attention(x), attention(x, x, x))
    assert torch.equal(attention(x, memory), attention(x, memory, memory))


def test_padding_and_later_tokens_are_not_seen():
    attention, x = layer(), tokens(KEYS).detach()
    other = x.clone()
    other[1, 3:] += 1
    for found, again in zip(*([attention(y, mask=padding())[:, :3] for y in (x, other)],) * 2, strict=True):
        assert torch.equal(found, again)
    before = attention(x, mask=padding())
    assert torch.equal(before[1, :3], attention(other, mask=padding())[1, :3])
    other = x.clone()
    other[:, 4:] += 1
    assert torch.equal(attention(x, causal=True)[:, :4], attention(other, causal=True)[:, :4])
    assert not torch.equal(attention(x, causal=True)[:, 4:], attention(other, causal=True)[:, 4:])


def test_with_fewer_queries_than_keys_the_last_query_sees_all():
    attention, x = layer(), tokens(KEYS)
    assert (attention(x, causal=True)[:, -2:] - attention(x[:, -2:], x, causal=True)).abs().max() < 1e-12


@pytest.mark.parametrize("look", [False, True])
def test_a_query_without_any_key_gives_zeros_and_finite_gradients(look):
    attention, x = layer(), tokens()
    mask = padding(QUERIES)
    mask[0] = False
    output, weights = watched(attention, x, mask=mask) if look else (attention(x, mask=mask), torch.zeros(1))
    assert torch.equal(output[0], attention.out_proj.bias.expand(QUERIES, -1))
    assert torch.equal(weights[0], torch.zeros_like(weights[0]))
    found = gradients(output, x, *attention.parameters())
    assert all(grad.isfinite().all() for grad in found)
    assert torch.equal(found[0][0], torch.zeros(QUERIES, EMBED))


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("steps", [(1,) * KEYS, (3, 1, 3)])
def test_with_a_cache_the_tokens_of_later_calls_see_those_before(steps, look):
    attention, x, cache = layer(), tokens(KEYS), KeyValueCache()
    expected, whole = watched(attention, x, mask=padding(), causal=True)
    found = []
    for part in x.split(steps, dim=1):
        seen = cache.length + part.shape[1]
        given = {"mask": padding()[:, :seen], "causal": True, "cache": cache}
        output, weights = watched(attention, part, **given) if look else (attention(part, **given), None)
        found.append(output)
        if weights is not None:
            assert (weights - whole[:, :, seen - part.shape[1] : seen, :seen]).abs().max() < 1e-12
    assert (torch.cat(found, dim=1) - expected).abs().max() < 1e-12
    assert cache.pair.shape == (2, BATCH, HEADS, KEYS, EMBED // HEADS)
    for own, whole in zip(
        gradients(torch.cat(found, dim=1), x, *attention.parameters()),
        gradients(expected, x, *attention.parameters()),
        strict=True,
    ):
        assert (own - whole).abs().max() < 1e-9


def test_with_a_cache_a_key_that_is_given_is_projected_once():
    attention, x, memory, cache = layer(), tokens(), tokens(KEYS, seed=2), KeyValueCache()
    expected = attention(x, memory, memory * 0.5, mask=padding())
    first = attention(x[:, :2], memory, memory * 0.5, mask=padding(), cache=cache)
    kept = cache.pair
    # In later calls nothing is computed of it: there may be anything in its place.
    second = attention(x[:, 2:], torch.full_like(memory, torch.nan), mask=padding(), cache=cache)
    assert (torch.cat([first, second], dim=1) - expected).abs().max() < 1e-12
    assert cache.pair is kept


def test_rows_of_a_cache_are_kept_in_the_order_that_is_wanted():
    attention, x, cache = layer(), tokens(KEYS), KeyValueCache()
    cache.select(torch.tensor([1]))
    assert (cache.pair, cache.length) == (None, 0)
    attention(x[:, :4], causal=True, cache=cache)
    rows = torch.tensor([1, 0, 1])
    cache.select(rows)
    found = attention(x[rows, 4:], causal=True, cache=cache)
    assert (found - attention(x, causal=True)[rows, 4:]).abs().max() < 1e-12


def test_a_mask_may_be_of_every_query():
    attention, x = layer(), tokens(KEYS)
    lower = torch.ones(1, KEYS, KEYS).tril().bool()
    assert torch.equal(attention(x, mask=lower), attention(x, causal=True))
    each = lower & padding()[:, None]
    assert torch.equal(attention(x, mask=each), attention(x, mask=padding(), causal=True))


def test_the_map_of_each_head_is_captured_under_its_name():
    attention, x = layer(), tokens(KEYS).detach()
    host = nn.Sequential(attention)
    with capture(host) as maps:
        output = host(x)
    weights = maps["0.weights"]
    assert maps.axes["0.weights"] == "batch head query key"
    assert weights.shape == (BATCH, HEADS, KEYS, KEYS)
    assert (weights.sum(dim=-1) - 1).abs().max() < 1e-12
    assert (output - attention(x)).abs().max() < 1e-12


def test_a_map_is_of_queries_against_keys():
    # Projections are the identity and tokens are unit vectors: query 0 looks at the key that equals it.
    attention = MultiHeadAttention(4, 1).eval()
    attention.in_proj_weight.data = torch.eye(4).repeat(3, 1)
    attention.out_proj.weight.data = torch.eye(4)
    key = 40 * torch.eye(4)[[2, 0, 1]]
    output, weights = watched(attention, torch.eye(4)[None, :1], key[None])
    assert weights.argmax().item() == 1
    assert output.argmax().item() == 0


def test_dropout_is_of_the_weights_and_the_map_is_before_it():
    attention, x = layer(dropout=0.5), tokens(KEYS)
    expected = attention(x)
    _, calm = watched(attention, x)
    attention.train()
    output, weights = watched(attention, x)
    assert torch.equal(weights, calm)
    assert (output - expected).abs().max() > 1e-3
    assert not torch.equal(attention(x), expected)
    assert torch.equal(attention.eval()(x), expected)


def test_half_precision_is_near_and_its_map_is_summed_in_full():
    attention, x = layer().float(), tokens(KEYS).detach().float()
    expected = attention(x)
    with torch.autocast("cpu", torch.bfloat16):
        fast, (slow, weights) = attention(x), watched(attention, x)
    assert fast.dtype == slow.dtype == torch.bfloat16
    assert weights.dtype == torch.float32
    assert max((fast - expected).abs().max(), (slow - expected).abs().max()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("look", [False, True])
def test_first_and_second_derivatives_are_exact(look):
    attention, x, memory = layer(), tokens(2), tokens(3, seed=2)
    mask = torch.tensor([[True, True, False], [False] * 3])
    if look:
        attention.weights.register_forward_hook(lambda tap, given, weights: None)
    with sdpa_kernel(SDPBackend.MATH):
        assert gradcheck(lambda q, k: attention(q, k, mask=mask), (x, memory), fast_mode=True)
        assert gradgradcheck(lambda q, k: attention(q, k, mask=mask), (x, memory), fast_mode=True)


@pytest.mark.slow
def test_it_compiles_whole_and_exports_with_open_sizes():
    attention, x = layer().float(), tokens(KEYS).detach().float()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, mask=padding(), causal=True), attention(x, mask=padding(), causal=True))
    batch, token = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("token", min=2, max=512)
    shapes = {"query": {0: batch, 1: token}, "mask": {0: batch, 1: token}}
    program = torch.export.export(attention, (x,), {"mask": padding()}, dynamic_shapes=shapes, strict=False).module()
    other = torch.randn(3, 11, EMBED)
    mask = torch.rand(3, 11) < 0.5
    assert torch.allclose(program(other, mask=mask), attention(other, mask=mask), atol=1e-6)


def test_a_map_too_large_to_look_at_is_refused(monkeypatch):
    monkeypatch.setattr(functional, "MAP_LIMIT_BYTES", 1000)
    sentence = r"^a watched map takes at most .* got \(2, 3, 7, 7\), .*: give fewer or smaller inputs at once"
    with pytest.raises(ValueError, match=sentence):
        watched(layer(), tokens(KEYS))
    layer()(tokens(KEYS))


WRONG = {
    "heads": (lambda: MultiHeadAttention(10, 4), "^embed_dim must be a multiple of num_heads; got 10 and 4$"),
    "dropout": (lambda: MultiHeadAttention(8, 4, dropout=1.0), "^dropout must be at least 0 and less than 1; got 1.0$"),
    "channels": (
        lambda: layer()(torch.zeros(1, 5, 11)),
        r"^MultiHeadAttention takes \(batch, token, 12\), as many keys as values; got \(1, 5, 11\), ",
    ),
    "values": (lambda: layer()(tokens(), tokens(7), tokens(5)), "as many keys as values"),
    "kind of mask": (
        lambda: layer()(tokens(), mask=torch.ones(BATCH, QUERIES)),
        r"^a mask is bool \(batch, key\) or \(batch or 1, query, key\), here \(2, 5\) or .*; got float32 \(2, 5\)$",
    ),
    "shape of mask": (lambda: layer()(tokens(), mask=padding(4)), r"; got bool \(2, 4\)$"),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
