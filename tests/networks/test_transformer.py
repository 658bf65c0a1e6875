"""The Transformer beside torch.nn.Transformer, what padding and later tokens cannot reach, and where it runs."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from foveate import capture, from_checkpoint, save_checkpoint, to_publisher
from foveate.compare.cost import count_macs
from foveate.errors import CheckpointError
from foveate.networks import (
    EncoderDecoder,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
    catalogue,
    transformer_base,
    transformer_big,
)
from foveate.networks.published import header, inspect
from foveate.networks.published.reading import ARCHITECTURE

TORCH = "pytorch/torch.nn.Transformer"
SIZES = {"embed_dim": 16, "num_heads": 2, "hidden_channels": 24, "encoder_layers": 2, "decoder_layers": 3}
BATCH, SOURCE, TARGET, TOKENS = 3, 7, 5, 13


def awake(network):
    """A network none of whose numbers is trivial, in evaluation mode and float64."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.double().eval()


def small(**options):
    return awake(Transformer(TOKENS, **{**SIZES, **options}))


def sentences(length=SOURCE, seed=1):
    return torch.randint(TOKENS, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def vectors(length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, length, SIZES["embed_dim"], generator=generator, dtype=torch.float64)


def padding(length=SOURCE):
    """Which tokens there are: all of the first sentence, four of the second, two of the third."""
    return torch.arange(length) < torch.tensor([[length], [4], [2]])


@pytest.mark.parametrize("kind", ["plain", "padded", "pre-norm"])
def test_the_stacks_compute_what_torchs_transformer_computes(kind):
    heads, hidden = SIZES["num_heads"], SIZES["hidden_channels"]
    theirs = awake(nn.Transformer(16, heads, 2, 3, hidden, batch_first=True, norm_first=kind == "pre-norm"))
    ours = from_checkpoint(theirs.state_dict(), num_heads=heads, pre_norm=kind == "pre-norm")
    mask = padding() if kind == "padded" else None
    source, target = vectors(SOURCE).requires_grad_(), vectors(TARGET, seed=2).requires_grad_()
    expected = theirs(
        source,
        target,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64),
        src_key_padding_mask=None if mask is None else ~mask,
        memory_key_padding_mask=None if mask is None else ~mask,
    )
    found = ours(source, target, mask)
    assert (found - expected).abs().max() < 1e-9
    towards = vectors(TARGET, seed=3)
    names = {name.replace("multihead_attn", "cross_attn"): value for name, value in theirs.named_parameters()}
    for own, their in zip(
        torch.autograd.grad(
            (found * towards).sum(), (source, target, *(value for _, value in ours.named_parameters()))
        ),
        torch.autograd.grad(
            (expected * towards).sum(), (source, target, *(names[name] for name, _ in ours.named_parameters()))
        ),
        strict=True,
    ):
        assert (own - their).abs().max() < 1e-9


def test_weights_go_to_torchs_transformer_and_back():
    ours = awake(EncoderDecoder(**SIZES, final_norm=True))
    state = to_publisher(ours, TORCH)
    nn.Transformer(16, 2, 2, 3, 24, batch_first=True).load_state_dict(state)
    found = inspect(state, num_heads=2)
    assert (found.publisher, found.title) == (TORCH, "the stacks of a Transformer, 2 + 3 layers of 16 channels")
    assert set(found.assumed) == {"pre_norm", "norm_eps", "dropout", "attention_dropout", "activation_dropout"}
    again = from_checkpoint(state, num_heads=2)
    assert torch.equal(again(vectors(SOURCE), vectors(TARGET)), ours(vectors(SOURCE), vectors(TARGET)))
    # The stacks go into a whole network, whose embeddings torch's has not.
    whole = small(final_norm=True)
    whole.encoder.load_state_dict(again.encoder.state_dict())
    whole.decoder.load_state_dict(again.decoder.state_dict())


@pytest.mark.parametrize("network", [lambda: EncoderDecoder(**SIZES), lambda: small(final_norm=True)])
def test_what_torchs_transformer_does_not_compute_is_refused(network):
    with pytest.raises(ValueError, match=f"^{TORCH} has no code that computes what this"):
        to_publisher(network(), TORCH)


def test_torchs_transformer_without_biases_is_another_network():
    state = nn.Transformer(16, 2, 1, 1, 24, bias=False).state_dict()
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.self_attn\.in_proj_bias is missing"):
        from_checkpoint(state, num_heads=2)


@pytest.mark.slow
def test_published_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        networks = {
            63_082_496: transformer_base(),
            63_045_632: transformer_base(bias=False),
            214_245_376: transformer_big(),
            44_138_496: EncoderDecoder(),
            44_140_544: EncoderDecoder(final_norm=True),
        }
    assert [sum(value.numel() for value in each.parameters()) for each in networks.values()] == list(networks)
    assert transformer_big(7, encoder_layers=0, decoder_layers=1).dropout.p == 0.3


def test_embeddings_are_scaled_and_positions_added():
    network = small(encoder_layers=0)
    memory = network.encode(sentences())
    for p, i in ((0, 0), (3, 2), (6, 7)):
        angle = p / 10000 ** (2 * i / 16)
        for channel, wave in ((2 * i, math.sin(angle)), (2 * i + 1, math.cos(angle))):
            embedded = network.embed.weight[sentences()[1, p], channel].item() * 4
            assert memory[1, p, channel].item() == pytest.approx(embedded + wave, abs=1e-12)
    other = small(encoder_layers=0, positions="concatenated").encode(sentences())
    angle = 3 / 10000 ** (2 / 7)
    assert other[1, 3, 10].item() == pytest.approx(
        network.embed.weight[sentences()[1, 3], 10].item() * 4 + math.cos(angle), abs=1e-12
    )


def test_one_matrix_embeds_source_and_target_and_gives_the_logits():
    network = small()
    assert [name for name, value in network.state_dict().items() if len(value) == TOKENS] == ["embed.weight"]
    seen = []
    network.decoder.register_forward_hook(lambda module, given, x: seen.append(x))
    logits = network(sentences(), sentences(TARGET, seed=2))
    assert torch.equal(logits, seen[0] @ network.embed.weight.T)
    with torch.no_grad():
        before, network.embed.weight[4] = network.embed.weight[4].clone(), 0.0
    tokens = torch.full((1, 1), 4)
    assert torch.equal(network.encode(tokens), network.encoder(network.positions(torch.zeros(1, 1, 16).double())[None]))
    assert (network(sentences(), sentences(TARGET, seed=2))[..., 4] == 0).all()
    assert before.any()
    apart = small(tied=False)
    names = [name for name, value in apart.state_dict().items() if len(value) == TOKENS]
    assert names == ["embed.weight", "target_embed.weight", "proj.weight"]
    with torch.no_grad():
        apart.embed.weight.zero_()
    assert torch.equal(apart.encode(sentences())[0], apart.encode(sentences(seed=2))[0])
    assert not torch.equal(apart(sentences(), sentences(TARGET)), apart(sentences(), sentences(TARGET, seed=2)))


def test_a_copy_has_one_matrix_too():
    network = small()
    for made in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(made(sentences(), sentences(TARGET)), network(sentences(), sentences(TARGET)))
        assert len(list(made.parameters())) == len(list(network.parameters()))
        assert made.embed.weight.data_ptr() != network.embed.weight.data_ptr()


def test_learned_positions_are_of_source_and_target_and_end():
    network = small(positions="learned", length=7)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if "positions" in name}
    assert shapes == {"positions.table.weight": (7, 16), "target_positions.table.weight": (7, 16)}
    assert network(sentences(), sentences(7)).shape == (BATCH, 7, TOKENS)
    with pytest.raises(ValueError, match=r"^LearnedPositions takes at most 7 positions along an axis; got 8$"):
        network(sentences(), sentences(8))


def test_what_is_padded_and_what_comes_later_is_not_seen():
    network, source, target = small(), sentences(), sentences(TARGET, seed=2)
    other = torch.where(padding(), source, (source + 1) % TOKENS)
    assert not torch.equal(network.encode(source, padding()), network.encode(other, padding()))
    assert torch.equal(network.encode(source, padding())[padding()], network.encode(other, padding())[padding()])
    assert torch.equal(network(source, target, padding()), network(other, target, padding()))
    # A sentence alone, without its padding, is the same sentence.
    alone = network(source[1:2, :4], target[1:2])
    assert (network(source, target, padding())[1] - alone[0]).abs().max() < 1e-12
    later = target.clone()
    later[:, 3:] = (later[:, 3:] + 1) % TOKENS
    assert torch.equal(network(source, target)[:, :3], network(source, later)[:, :3])
    assert not torch.equal(network(source, target)[:, 3:], network(source, later)[:, 3:])


def test_a_mask_of_the_target_hides_what_stands_between():
    network, source, target = small(), sentences(), sentences(TARGET, seed=2)
    mask = torch.ones(BATCH, TARGET, dtype=torch.bool)
    assert torch.equal(network(source, target, None, mask), network(source, target))
    mask[:, 1] = False
    other = target.clone()
    other[:, 1] = (other[:, 1] + 1) % TOKENS
    expected, found = network(source, target, None, mask), network(source, other, None, mask)
    assert torch.equal(found[:, [0, 2, 3, 4]], expected[:, [0, 2, 3, 4]])


def test_a_source_without_any_token_gives_finite_numbers_and_gradients():
    network, mask = small(), padding()
    mask[1] = False
    logits = network(sentences(), sentences(TARGET), mask)
    assert logits.isfinite().all()
    gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("positions", ["interleaved", "concatenated", "learned"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_token_by_token_the_logits_are_those_of_the_whole(pre_norm, positions):
    network = small(pre_norm=pre_norm, positions=positions, length=9 if positions == "learned" else None)
    target, mask = sentences(TARGET, seed=2), padding()
    expected, memory = network(sentences(), target, mask), network.encode(sentences(), mask)
    for steps in ((1, 1, 1, 1, 1), (2, 3), (4, 1)):
        cache = network.decoder.new_cache()
        parts = [network.decode(part, memory, mask, cache=cache) for part in target.split(steps, dim=1)]
        assert (torch.cat(parts, dim=1) - expected).abs().max() < 1e-12
        assert cache.length == TARGET


def test_hypotheses_of_one_sentence_share_its_memory():
    network, mask = small(), padding()
    memory = network.encode(sentences(), mask)
    targets = torch.randint(TOKENS, (4 * BATCH, TARGET), generator=torch.Generator().manual_seed(5))
    expected = network.decode(targets, memory.repeat_interleave(4, 0), mask.repeat_interleave(4, 0))
    assert (network.decode(targets, memory, mask) - expected).abs().max() < 1e-12


def test_rows_and_memories_of_a_cache_can_be_chosen():
    network, mask = small(), padding()
    memory, cache = network.encode(sentences(), mask), network.decoder.new_cache()
    targets = torch.randint(TOKENS, (2 * BATCH, TARGET), generator=torch.Generator().manual_seed(5))
    network.decode(targets[:, :3], memory, mask, cache=cache)
    rows, memories = torch.tensor([5, 4, 4, 1]), torch.tensor([2, 0])
    cache.select(rows, memories)
    found = network.decode(targets[rows, 3:], memory[memories], mask[memories], cache=cache)
    expected = network.decode(targets[rows], memory[memories], mask[memories])[:, 3:]
    # Row 4, which stood in the place of row 5, looked at the third sentence: so do those that are chosen in its place.
    assert (found[:2] - expected[:2]).abs().max() < 1e-12
    assert (found[3] - network.decode(targets[[1]], memory[[0]], mask[[0]])[0, 3:]).abs().max() < 1e-12


def test_pre_norm_and_post_norm_are_what_the_module_says():
    x = vectors(SOURCE)
    for pre_norm in (True, False):
        layer = awake(TransformerEncoder(1, 16, 2, 24, pre_norm=pre_norm)).layers[0]
        attend, feed = layer.self_attn, lambda x, layer=layer: layer.linear2(layer.linear1(x).relu())
        if pre_norm:
            middle = x + attend(layer.norm1(x))
            expected = middle + feed(layer.norm2(middle))
        else:
            middle = layer.norm1(x + attend(x))
            expected = layer.norm2(middle + feed(middle))
        assert torch.allclose(layer(x), expected, atol=1e-12)


def test_a_last_norm_stands_behind_stacks_of_pre_norm_or_where_it_is_asked_for():
    for options, wanted in (
        ({}, False),
        ({"pre_norm": True}, True),
        ({"final_norm": True}, True),
        ({"pre_norm": True, "final_norm": False}, False),
    ):
        network = small(**options, norm_eps=1e-3)
        for stack in (network.encoder, network.decoder):
            assert isinstance(stack.norm, nn.LayerNorm) == wanted
    assert {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)} == {1e-3}


def test_each_dropout_is_where_its_option_says():
    source, target = sentences(), sentences(TARGET)
    still = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    for option in still:
        network = small(**(still | {option: 0.5})).train()
        assert not torch.equal(network(source, target), network(source, target))
    calm = small(**still)
    assert torch.equal(calm.train()(source, target), calm.eval()(source, target))
    layer = small().encoder.layers[0]
    assert (layer.self_attn.dropout, layer.activation_dropout.p, layer.dropout.p) == (0.0, 0.0, 0.1)


def test_initial_weights_are_those_that_the_page_says():
    torch.manual_seed(0)
    network = Transformer(999, embed_dim=64, num_heads=4, hidden_channels=96, encoder_layers=1, decoder_layers=1)
    assert network.embed.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    layer = network.decoder.layers[0]
    for weight in (layer.cross_attn.in_proj_weight, layer.self_attn.out_proj.weight, layer.linear1.weight):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    for name, value in network.named_parameters():
        assert "bias" not in name or (value == 0).all(), name


def test_every_map_of_every_layer_is_seen_and_fused_attention_computes_the_same():
    network, source, target = small(encoder_layers=1, decoder_layers=1), sentences(), sentences(TARGET)
    expected = network(source, target, padding())
    with capture(network) as maps:
        seen = network(source, target, padding())
    assert {name: tuple(weights.shape) for name, weights in maps.items()} == {
        "encoder.layers.0.self_attn.weights": (BATCH, 2, SOURCE, SOURCE),
        "decoder.layers.0.self_attn.weights": (BATCH, 2, TARGET, TARGET),
        "decoder.layers.0.cross_attn.weights": (BATCH, 2, TARGET, SOURCE),
    }
    assert set(maps.axes.values()) == {"batch head query key"}
    assert (seen - expected).abs().max() < 1e-12
    for weights in maps.values():
        assert (weights.sum(dim=-1) - 1).abs().max() < 1e-12
    assert (maps["decoder.layers.0.self_attn.weights"].triu(1) == 0).all()
    looks = maps["decoder.layers.0.cross_attn.weights"]
    assert (looks[1, :, :, 4:] == 0).all()
    assert (looks[1, :, :, :4] > 0).all()


def test_maps_are_seen_while_it_decodes_token_by_token():
    network, target, mask = small(encoder_layers=1, decoder_layers=1), sentences(TARGET), padding()
    with capture(network, only="decoder.**") as whole:
        expected = network(sentences(), target, mask)
    memory, cache = network.encode(sentences(), mask), network.decoder.new_cache()
    with capture(network, only="decoder.**") as maps:
        parts = [network.decode(part, memory, mask, cache=cache) for part in target.split(1, dim=1)]
    assert (torch.cat(parts, dim=1) - expected).abs().max() < 1e-12
    for step, weights in enumerate(maps.calls("decoder.layers.0.cross_attn.weights")):
        expected = whole["decoder.layers.0.cross_attn.weights"][:, :, [step]]
        assert (weights - expected).abs().max() < 1e-12
    for step, weights in enumerate(maps.calls("decoder.layers.0.self_attn.weights")):
        expected = whole["decoder.layers.0.self_attn.weights"][:, :, [step], : step + 1]
        assert (weights - expected).abs().max() < 1e-12


def test_an_encoder_alone_takes_the_patches_of_a_picture():
    patches = nn.Conv2d(3, 16, 8, stride=8)(torch.randn(2, 3, 32, 48)).flatten(2).mT
    encoder = TransformerEncoder(2, 16, 2, 24, pre_norm=True).eval()
    with capture(encoder) as maps:
        assert encoder(patches).shape == (2, 24, 16)
    assert maps["layers.1.self_attn.weights"].shape == (2, 2, 24, 24)


@pytest.mark.parametrize(
    "options", [{}, {"tied": False}, {"positions": "learned", "length": 9}, {"encoder_layers": 0, "bias": False}]
)
def test_what_is_saved_comes_back_bit_for_bit(options, tmp_path):
    network = small(**options)
    save_checkpoint(network, tmp_path / "transformer.safetensors")
    again = from_checkpoint(tmp_path / "transformer.safetensors")
    assert repr(again) == repr(network)
    assert torch.equal(again(sentences(), sentences(TARGET)), network(sentences(), sentences(TARGET)))
    found = inspect(tmp_path / "transformer.safetensors")
    assert found.title == f"Transformer, {options.get('encoder_layers', 2)} + 3 layers of 16 channels"


def test_a_header_cannot_ask_for_any_number_of_layers(tmp_path):
    from foveate.networks.published.reading import write_file

    network = small()
    entry = header(network)[ARCHITECTURE].replace('"decoder_layers": 3', '"decoder_layers": 10000000')
    write_file(tmp_path / "large.safetensors", network.state_dict(), {ARCHITECTURE: entry})
    with pytest.raises(CheckpointError, match="its header asks for more than its"):
        from_checkpoint(tmp_path / "large.safetensors")


def test_the_catalogue_builds_it_by_name():
    network = catalogue.build("transformer-base", num_tokens=7, encoder_layers=1, decoder_layers=1)
    assert network(torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, 7)


@pytest.mark.slow
def test_the_multiply_accumulates_of_its_attention_are_counted():
    given = torch.zeros(1, 7, dtype=torch.long), torch.zeros(1, 5, dtype=torch.long)
    counts = [count_macs(small(encoder_layers=layers).float(), given) for layers in (1, 2)]
    assert counts[1] - counts[0] == 4 * 7 * 16**2 + 2 * 7**2 * 16 + 2 * 7 * 16 * 24


WRONG = {
    "tokens": (lambda: Transformer(0), "^Transformer takes num_tokens of at least 1; got 0$"),
    "layers": (lambda: small(decoder_layers=0), "^a decoder takes at least 1 layer; got 0$"),
    "heads": (lambda: small(num_heads=3), "^embed_dim must be a multiple of num_heads; got 16 and 3$"),
    "positions": (lambda: small(positions="none"), 'positions must be one of "interleaved", "concatenated", "learned"'),
    "length": (lambda: small(length=9), "take a length, others none; got 'interleaved' and length=9$"),
    "no length": (lambda: small(positions="learned"), "; got 'learned' and length=None$"),
    "kind": (
        lambda: small().encode(torch.zeros(2, 3)),
        r"^Transformer takes \(batch, token\) of int64; got float32 \(2, 3\)$",
    ),
    "axes": (lambda: small().encode(torch.zeros(3, dtype=torch.long)), r"; got int64 \(3,\)$"),
    "mask": (
        lambda: small().encode(sentences(), torch.ones(BATCH, SOURCE)),
        r"^a mask is bool \(batch, key\) or .*; got float32 \(3, 7\)$",
    ),
    "batch": (
        lambda: small().decode(sentences(), vectors(SOURCE)[:2]),
        r"^a decoder takes a batch that is a multiple of the memory's; got \(3, 7, 16\) and \(2, 7, 16\)$",
    ),
    "both": (
        lambda: small().decode(
            sentences(), vectors(SOURCE), target_mask=padding(), cache=TransformerDecoder(1, 16, 2, 24).new_cache()
        ),
        "^decode takes a target_mask or a cache; got both$",
    ),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.slow
@torch.no_grad()
def test_it_compiles_whole():
    network, given = small().float(), (sentences(), sentences(TARGET), padding())
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(*given), network(*given), atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_it_exports_with_open_batch_and_lengths_to_torch_and_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = small(decoder_layers=1).float()
    batch, source, target = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "source", "target"))
    shapes = {
        "source": {0: batch, 1: source},
        "target": {0: batch, 1: target},
        "source_mask": {0: batch, 1: source},
    }
    given = {"source": sentences(), "target": sentences(TARGET), "source_mask": padding()}
    program = torch.export.export(network, (), given, dynamic_shapes=shapes, strict=False)
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "transformer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "transformer.onnx", providers=["CPUExecutionProvider"])
    other = {"source": sentences(11)[:2], "target": sentences(3)[:2], "source_mask": padding(11)[:2]}
    expected = network(**other)
    assert torch.allclose(program.module()(**other), expected, atol=1e-5)
    (found,) = session.run(None, {name: value.numpy() for name, value in other.items()})
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)


@pytest.mark.slow
def test_half_precision_is_near():
    network, given = small().float(), (sentences(), sentences(TARGET), padding())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(*given)
    expected = network(*given)
    assert (half - expected).abs().max() < 0.05 * expected.abs().max()


def test_gradients_reach_every_parameter():
    network = small(tied=False, positions="learned", length=9).train()
    network(sentences(), sentences(TARGET), padding()).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any(), name
