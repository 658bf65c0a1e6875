"""Decoding beside searches that know every target, and beside the decoder without a cache."""

import itertools

import pytest
import torch
from torch import nn

from foveate import capture
from foveate.networks import Transformer, beam_search, greedy
from foveate.networks.decoding import length_penalty
from foveate.networks.quick_linear import FEW_ROWS, QuickLinear, linear

TOKENS, BEGIN, END = 11, 1, 2
TARGETS = {"begin": BEGIN, "end": END}


def small(tokens=TOKENS, seed=1, gain=1.0, **options):
    """A small network in float64 whose targets differ in tokens and length: one matrix for all would repeat a token."""
    torch.manual_seed(seed)
    sizes = {"embed_dim": 16, "num_heads": 2, "hidden_channels": 24, "encoder_layers": 1, "decoder_layers": 2}
    network = Transformer(tokens, **(sizes | {"tied": False} | options)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(gain if parameter.ndim > 1 else 1.0)
    return network


def ragged(batch=6, length=7, seed=1):
    """Sources of several lengths, and where they have tokens."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(TOKENS, (batch, length), generator=generator)
    return source, torch.arange(length) < torch.tensor([7, 4, 2, 6, 1, 5])[:batch, None]


def log_probability(network, source, target):
    """That of a target, end token included, by the whole network at once."""
    given = torch.tensor([[BEGIN, *target[:-1]]])
    logits = network(source, given)[0].log_softmax(dim=-1)
    return logits[range(len(target)), list(target)].sum().item()


def without_cache(network, source, longest):
    """Greedy decoding that computes every beginning anew."""
    target = torch.tensor([[BEGIN]])
    for _ in range(longest):
        target = torch.cat([target, network(source, target)[:, -1:].argmax(dim=-1)], dim=1)
        if target[0, -1] == END:
            break
    return target[0, 1:]


def beam_without_cache(network, source, longest, beam, alpha):
    """The documented search over lists, for one source."""
    alive, finished = [((), 0.0)], []
    for length in range(1, longest + 1):
        candidates = []
        for target, total in alive:
            logits = network(source, torch.tensor([[BEGIN, *target]]))[0, -1].log_softmax(dim=-1)
            candidates += [((*target, token), total + value) for token, value in enumerate(logits.tolist())]
        candidates.sort(key=lambda each: -each[1])
        closed = [each for each in candidates[:beam] if each[0][-1] == END]
        finished += [(target, total / length_penalty(length, alpha)) for target, total in closed]
        alive = [each for each in candidates if each[0][-1] != END][:beam]
        best = max((score for _, score in finished), default=-float("inf"))
        if len(finished) >= beam or best >= alive[0][1] / length_penalty(longest, alpha):
            break
    if not finished:
        return alive[0][0], alive[0][1] / length_penalty(longest, alpha)
    return max(finished, key=lambda each: each[1])


@pytest.mark.parametrize("options", [{}, {"pre_norm": True, "positions": "concatenated"}, {"tied": True}])
def test_greedy_takes_what_the_decoder_without_a_cache_takes(options):
    network, (source, mask) = small(**options), ragged()
    found = greedy(network, source, mask, **TARGETS, extra_length=5)
    lengths = set()
    for row in range(len(source)):
        alone = source[row : row + 1, : mask[row].sum()]
        expected = without_cache(network, alone, alone.shape[1] + 5)
        assert torch.equal(found.tokens[row], expected)
        assert found.scores[row].item() == pytest.approx(log_probability(network, alone, expected.tolist()), abs=1e-9)
        lengths.add(len(expected))
    assert len(lengths) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beam", [2, 4])
def test_a_beam_finds_what_the_documented_search_finds(beam, alpha):
    (source, mask), found_ends = ragged(4), set()
    for seed in (1, 3):
        network = small(seed=seed)
        found = beam_search(network, source, mask, **TARGETS, beam=beam, alpha=alpha, extra_length=4)
        for row in range(len(source)):
            alone = source[row : row + 1, : mask[row].sum()]
            target, score = beam_without_cache(network, alone, alone.shape[1] + 4, beam, alpha)
            assert tuple(found.tokens[row].tolist()) == target
            assert found.scores[row].item() == pytest.approx(score, abs=1e-9)
            found_ends.add(target[-1] == END)
    assert found_ends == {True, False}


def test_a_beam_that_holds_every_beginning_finds_the_best_target_there_is():
    lengths, source = set(), torch.tensor([[0, 3]])
    targets = [(*middle, END) for length in range(4) for middle in itertools.product((0, 1, 3), repeat=length)]
    for seed in (2, 3):
        network = small(tokens=4, seed=seed, gain=3.0)
        probabilities = {target: log_probability(network, source, target) for target in targets}
        for alpha in (0.0, 0.6, 2.0):
            scores = {target: each / ((5 + len(target)) / 6) ** alpha for target, each in probabilities.items()}
            best = max(scores, key=scores.get)
            found = beam_search(network, source, **TARGETS, beam=4**3, alpha=alpha, extra_length=2)
            assert tuple(found.tokens[0].tolist()) == best
            assert found.scores.item() == pytest.approx(scores[best], abs=1e-12)
            lengths.add(len(best))
    assert len(lengths) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_of_one_is_greedy(alpha):
    for seed in (0, 1, 3):
        network, (source, mask) = small(seed=seed), ragged()
        first = greedy(network, source, mask, **TARGETS, extra_length=6)
        one = beam_search(network, source, mask, **TARGETS, beam=1, alpha=alpha, extra_length=6)
        for mine, theirs in zip(one.tokens, first.tokens, strict=True):
            assert torch.equal(mine, theirs)
        lengths = torch.tensor([len(target) for target in one.tokens])
        assert torch.allclose(one.scores * ((5 + lengths) / 6) ** alpha, first.scores)


def test_without_a_penalty_the_score_is_the_logarithm_of_the_probability():
    network, (source, mask) = small(), ragged()
    found = beam_search(network, source, mask, **TARGETS, alpha=0.0, extra_length=3)
    for row, target in enumerate(found.tokens):
        alone = source[row : row + 1, : mask[row].sum()]
        assert found.scores[row].item() == pytest.approx(log_probability(network, alone, target.tolist()), abs=1e-9)


def test_what_else_is_in_the_batch_makes_no_difference():
    network, (source, mask) = small(), ragged()
    found = beam_search(network, source, mask, **TARGETS, extra_length=5)
    other = torch.where(mask, source, (source + 1) % TOKENS)
    again = beam_search(network, other.flip(0), mask.flip(0), **TARGETS, extra_length=5)
    for mine, theirs in zip(found.tokens, again.tokens[::-1], strict=True):
        assert torch.equal(mine, theirs)
    assert (found.scores - again.scores.flip(0)).abs().max() < 1e-12


def test_a_target_is_cut_off_at_its_longest_without_an_end():
    network, (source, mask) = small(), ragged()
    with torch.no_grad():
        network.proj.weight[END] = network.proj.weight[0]
        network.proj.weight[0] *= 1.1  # always before the end token, or both behind all others
    for found in (
        greedy(network, source, mask, **TARGETS, extra_length=3),
        beam_search(network, source, mask, **TARGETS, beam=1, extra_length=3),
    ):
        lengths = [len(target) for target in found.tokens]
        assert lengths == (mask.sum(dim=1) + 3).tolist()
        assert not any((target == END).any() for target in found.tokens)


def test_published_penalties():
    # The divisors of a target of 5, 20 and 40 tokens.
    assert [round(length_penalty(n, 0.6), 2) for n in (5, 20, 40)] == [1.36, 2.35, 3.35]
    assert length_penalty(1, 0.6) == 1.0


def test_finished_sentences_leave_the_batch():
    network, (source, mask) = small(), ragged()
    rows = []
    network.decoder.register_forward_pre_hook(lambda module, given: rows.append((len(given[0]), len(given[1]))))
    found = beam_search(network, source, mask, **TARGETS, extra_length=8)
    assert rows[:2] == [(6, 6), (24, 6)]
    assert all(before[1] >= after[1] for before, after in itertools.pairwise(rows))
    assert rows[-1][1] < 6
    assert len(rows) >= max(len(target) for target in found.tokens)


def test_maps_are_seen_while_it_decodes():
    network, (source, mask) = small(decoder_layers=1), ragged()
    expected = greedy(network, source, mask, **TARGETS, extra_length=2)
    with capture(network, only="**.cross_attn.weights") as maps:
        found = greedy(network, source, mask, **TARGETS, extra_length=2)
    assert all(torch.equal(*pair) for pair in zip(found.tokens, expected.tokens, strict=True))
    first = maps.calls("decoder.layers.0.cross_attn.weights")[0]
    assert first.shape == (6, 2, 1, 7)
    assert (first[:, :, 0].permute(1, 0, 2)[:, ~mask] == 0).all()


def test_in_half_precision_probabilities_are_added_in_full():
    network, (source, mask) = small().bfloat16(), ragged()
    found = beam_search(network, source, mask, **TARGETS)
    assert found.scores.dtype == torch.float32
    assert found.scores.isfinite().all()


@pytest.mark.parametrize("rows", [(1, 1), (FEW_ROWS, 1), (3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_few_rows_are_multiplied_to_the_same_numbers(rows, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(13, 17, bias), torch.randn(*rows, 13)
    expected = layer(x)
    with torch.no_grad(), QuickLinear():
        found = layer(x)
    assert found.is_contiguous()
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def test_where_gradients_or_other_numbers_are_wanted_linear_is_torchs():
    layer, x = nn.Linear(13, 17), torch.randn(3, 13)
    with QuickLinear():
        assert torch.autograd.grad(layer(x).sum(), layer.bias)[0].equal(torch.full((17,), 3.0))
    with torch.no_grad():
        for kind in (torch.float64, torch.bfloat16):
            given = [each.to(kind) for each in (x, layer.weight, layer.bias)]
            assert torch.equal(linear(*given), nn.functional.linear(*given))
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(x, layer.weight).dtype == torch.bfloat16


def test_without_onednn_linear_is_torchs(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, weight = torch.randn(FEW_ROWS + 1, 13), torch.randn(17, 13)
    with torch.no_grad():
        assert torch.equal(linear(x, weight), nn.functional.linear(x, weight))


@pytest.mark.parametrize("search", [greedy, beam_search])
def test_single_precision_finds_the_same(search):
    network, (source, mask) = small(), ragged()
    expected = search(network, source, mask, **TARGETS, extra_length=5)
    found = search(network.float(), source, mask, **TARGETS, extra_length=5)
    for mine, theirs in zip(found.tokens, expected.tokens, strict=True):
        assert torch.equal(mine, theirs)
    assert torch.allclose(found.scores.double(), expected.scores, atol=1e-4)


SOURCE = torch.zeros(1, 3, dtype=torch.long)
WRONG = {
    "training": (
        lambda: greedy(small().train(), SOURCE, **TARGETS),
        r"^decoding takes a network in evaluation mode; call network.eval\(\)$",
    ),
    "end": (lambda: greedy(small(), SOURCE, begin=1, end=11), "^end must be a token of 0 to 10; got 11$"),
    "begin": (lambda: beam_search(small(), SOURCE, begin=-1, end=2), "^begin must be a token of 0 to 10; got -1$"),
    "beam": (
        lambda: beam_search(small(), SOURCE, **TARGETS, beam=0),
        "^beam_search takes a beam of at least 1 and an alpha of at least 0; got 0 and 0.6$",
    ),
    "alpha": (lambda: beam_search(small(), SOURCE, **TARGETS, alpha=-0.1), "; got 4 and -0.1$"),
    "length": (
        lambda: greedy(small(), SOURCE, **TARGETS, extra_length=-1),
        "^extra_length must be at least 0; got -1$",
    ),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("decode", [greedy, beam_search])
def test_a_target_has_no_more_tokens_than_positions_were_learned(decode):
    network = small(seed=3, positions="learned", length=9)
    source = torch.randint(3, TOKENS, (2, 7), generator=torch.Generator().manual_seed(1))
    assert max(len(tokens) for tokens in decode(network, source, begin=BEGIN, end=TOKENS - 1).tokens) <= 9
