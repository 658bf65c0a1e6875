"""DETR: what comes out, what padding cannot reach, what is frozen, what is seen, and where it runs."""

import pytest
import torch
from torch import nn

from foveate import capture, edit, from_checkpoint, save_checkpoint
from foveate.compare.cost import count_macs
from foveate.layers import MultiHeadAttention
from foveate.networks import DETR, ResNet, detr_resnet50
from foveate.networks.detr_backbone import Backbone, FrozenBatchNorm2d
from foveate.networks.detr_masks import MaskHead

HOST = {"block": "basic", "depths": (1, 1, 1, 1), "base_width": 8}
TINY_HOST = {"block": "basic", "depths": (1, 1, 1), "base_width": 8}
SIZES = {"num_classes": 5, "num_queries": 7, "embed_dim": 16, "num_heads": 2, "hidden_channels": 24}
LAYERS = {"encoder_layers": 1, "decoder_layers": 2}


def small(backbone=HOST, **options):
    """A small DETR none of whose tensors is trivial."""
    torch.manual_seed(0)
    network = DETR(backbone, **{**SIZES, **LAYERS, **options}).eval()
    for value in network.state_dict().values():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
    return network


def picture(height=64, width=96, seed=1):
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def padded(height, width, *images):
    """A batch on a canvas, and where it holds no picture."""
    batch = torch.zeros(len(images), 3, height, width)
    padding = torch.ones(len(images), height, width, dtype=torch.bool)
    for index, image in enumerate(images):
        batch[index, :, : image.shape[1], : image.shape[2]] = image
        padding[index, : image.shape[1], : image.shape[2]] = False
    return batch, padding


def test_every_query_gets_classes_and_a_box_and_training_those_of_every_layer():
    network, images = small(decoder_layers=3), torch.stack([picture(), picture(seed=2)])
    answers = network(images)
    assert set(answers) == {"pred_logits", "pred_boxes"}
    assert answers["pred_logits"].shape == (2, 7, 6)
    assert answers["pred_boxes"].shape == (2, 7, 4)
    assert ((answers["pred_boxes"] > 0) & (answers["pred_boxes"] < 1)).all()
    network = small(decoder_layers=3, dropout=0.0).train()
    trained = network(images)
    assert torch.equal(trained["pred_logits"], answers["pred_logits"])
    assert [set(each) for each in trained["aux_outputs"]] == [{"pred_logits", "pred_boxes"}] * 2
    first = small(decoder_layers=1)
    first.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(first(images)["pred_boxes"], trained["aux_outputs"][0]["pred_boxes"])


def test_a_list_of_pictures_is_padded_to_the_right_and_below():
    network, images = small(panoptic=True, num_heads=8), [picture(64, 70), picture(50, 96)]
    found, expected = network(images), network(*padded(64, 96, *images))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert found["pred_masks"].shape == (2, 7, 16, 24)
    alike = [picture(), picture(seed=2)]
    assert torch.equal(network(alike)["pred_boxes"], network(torch.stack(alike))["pred_boxes"])


def test_padding_without_any_changes_nothing():
    network, images = small(panoptic=True, num_heads=8), picture()[None]
    plain, masked = network(images), network(images, torch.zeros(1, 64, 96, dtype=torch.bool))
    assert all(torch.allclose(plain[key], masked[key], atol=1e-5) for key in plain)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_what_is_padded_is_not_seen_behind_the_backbone(pre_norm):
    network = small(pre_norm=pre_norm, panoptic=True, num_heads=8)
    batch, padding = padded(96, 128, picture(64, 64))
    expected = network(batch, padding)
    # Where padding begins, the grid is cut: what the backbone makes of it is replaced by anything.
    network.input_proj.register_forward_hook(lambda module, given, x: torch.cat([x[..., :2], x[..., 2:] + 9], dim=3))
    found = network(batch, padding)
    assert torch.allclose(found["pred_boxes"], expected["pred_boxes"], atol=1e-6)
    with capture(network) as maps:
        network(batch, padding)
    weights = maps["decoder.layers.1.cross_attn.weights"].unflatten(3, (3, 4))
    assert (weights[..., 2:, :] == 0).all()
    assert (weights[..., 2:] == 0).all()
    assert torch.allclose(weights.sum(dim=(3, 4)), torch.ones(1, 8, 7))
    joint = maps["mask_attention.weights"]
    assert joint.shape == (1, 7, 8, 3, 4)
    assert torch.allclose(joint.sum(dim=(2, 3, 4)), torch.ones(1, 7))
    assert (joint[..., 2:] == 0).all()


def test_every_attention_of_every_layer_is_seen_and_can_be_replaced():
    network, images = small(), picture()[None]
    expected = network(images)
    with capture(network) as maps:
        seen = network(images)
    shapes = {name: tuple(weights.shape) for name, weights in maps.items()}
    assert shapes == {
        "encoder.layers.0.self_attn.weights": (1, 2, 6, 6),
        "decoder.layers.0.self_attn.weights": (1, 2, 7, 7),
        "decoder.layers.0.cross_attn.weights": (1, 2, 7, 6),
        "decoder.layers.1.self_attn.weights": (1, 2, 7, 7),
        "decoder.layers.1.cross_attn.weights": (1, 2, 7, 6),
    }
    assert set(maps.axes.values()) == {"batch head query key"}
    assert torch.allclose(seen["pred_boxes"], expected["pred_boxes"], atol=1e-5)
    with edit(network, {"decoder.**.cross_attn.weights": 0.0}):
        blind = network(images)["pred_boxes"]
        assert torch.allclose(blind, network(picture(seed=9)[None])["pred_boxes"], atol=1e-5)


def test_positions_go_to_queries_and_keys_alone():
    network = small()
    attention, seen = network.encoder.layers[0].self_attn, []
    attention.register_forward_pre_hook(lambda module, given: seen.append(given))
    network.input_proj.register_forward_hook(lambda module, given, x: torch.zeros_like(x))
    network(picture()[None])
    query, key, value = seen[0]
    assert query is key
    assert torch.equal(query[0], network.positions(torch.ones(1, 2, 3, dtype=torch.bool))[0].flatten(1).mT)
    assert torch.equal(value, torch.zeros_like(value))
    network.decoder.layers[1].cross_attn.register_forward_pre_hook(lambda module, given: seen.append(given))
    network(picture()[None])
    placed, key, value = seen[-1]
    assert torch.equal(key, value + query)
    assert not torch.equal(placed[0, 0], placed[0, 1])


def test_the_norm_of_the_decoder_is_for_the_heads_alone():
    network, images = small(), picture()[None]
    seen = []
    for layer in network.decoder.layers:
        layer.register_forward_hook(lambda module, given, x: seen.append((given[0], x)))
    found = network(images)
    assert torch.equal(seen[1][0], seen[0][1])
    normed = network.decoder.norm(seen[1][1])
    assert torch.equal(found["pred_logits"], network.class_embed(normed))


def test_pre_norm_adds_what_its_parts_make_of_normalised_tokens():
    layer = small(pre_norm=True).encoder.layers[0]
    x, position = torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    normed = layer.norm1(x)
    middle = x + layer.self_attn(normed + position, normed + position, normed)
    expected = middle + layer.linear2(layer.linear1(layer.norm2(middle)).relu())
    assert torch.allclose(layer(x, position), expected, atol=1e-6)
    after = small().encoder.layers[0]
    middle = after.norm1(x + after.self_attn(x + position, x + position, x))
    expected = after.norm2(middle + after.linear2(after.linear1(middle).relu()))
    assert torch.allclose(after(x, position), expected, atol=1e-6)


def test_training_leaves_statistics_stem_and_first_stage_as_they_are():
    network = small().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.stack([picture(), picture(seed=2)]))["pred_logits"].square().mean().backward()
    torch.optim.SGD([each for each in network.parameters() if each.requires_grad], lr=0.1).step()
    after = network.state_dict()
    changed = {
        name.split(".")[1] for name in before if name.startswith("backbone.") and not before[name].equal(after[name])
    }
    assert changed == {"layer2", "layer3", "layer4"}
    assert all(before[name].equal(after[name]) for name in before if ".bn" in name or "running" in name)
    free = small(frozen=False)
    assert all(parameter.requires_grad for parameter in free.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in free.modules())


def test_a_frozen_batch_norm_is_one_in_evaluation_whose_numbers_stay():
    norm, frozen, x = nn.BatchNorm2d(5).eval(), FrozenBatchNorm2d(5).train(), torch.randn(2, 5, 3, 4)
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        value.uniform_(0.5, 2.0)
    frozen.load_state_dict({name: value for name, value in norm.state_dict().items() if "num" not in name})
    assert torch.allclose(frozen(x), norm(x), atol=1e-6)
    assert list(frozen.parameters()) == []
    assert frozen(x.bfloat16()).dtype == torch.bfloat16


def test_a_frozen_batch_norm_writes_over_its_input_only_where_it_is_told_to():
    torch.manual_seed(0)
    conv, frozen = nn.Conv2d(3, 5, 1).double(), FrozenBatchNorm2d(5).double()
    for value in frozen.buffers():
        value.uniform_(0.5, 2.0)
    over, x = FrozenBatchNorm2d(5, inplace=True).double(), torch.randn(2, 3, 3, 4, dtype=torch.double)
    over.load_state_dict(frozen.state_dict())
    given, kept = conv(x), conv(x)
    assert over(given).data_ptr() == given.data_ptr()
    assert torch.equal(given, frozen(kept))
    assert torch.equal(kept, conv(x))
    for norm in (frozen, over):
        assert torch.autograd.gradgradcheck(lambda x, norm=norm: norm(conv(x)).relu_(), x.clone().requires_grad_())
    norms = [module for module in small().backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert all(norm.inplace for norm in norms)


def test_dropout_before_relu_is_dropout_behind_it():
    layer, x = small(dropout=0.4).encoder.layers[0].train(), torch.randn(2, 6, 16)
    torch.manual_seed(3)
    found = layer._feed_forward(x)
    torch.manual_seed(3)
    expected = layer.linear2(layer.dropout(layer.linear1(x).relu()))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("shortcut", ["1x1", "pool"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_dilated_last_stage_sees_what_the_strided_one_sees(block, shortcut):
    host = {"block": block, "depths": (1, 1, 2), "base_width": 4, "stem": "tiny"}
    torch.manual_seed(0)
    strided = Backbone(ResNet(**host), dilation=False, frozen=True).eval()
    torch.manual_seed(0)
    dilated = Backbone(ResNet(**host, shortcut=shortcut), dilation=True, frozen=True).eval()
    assert (strided.stride, dilated.stride) == (8, 4)
    x = torch.randn(1, 3, 64, 64)
    coarse, fine = strided(x)[-1], dilated(x)[-1]
    assert fine.shape == (*coarse.shape[:2], 16, 16)
    if shortcut == "1x1":  # away from the border, every second position is that of the strided network
        assert torch.allclose(fine[..., ::2, ::2][..., 2:-2, 2:-2], coarse[..., 2:-2, 2:-2], atol=1e-5)


def test_a_mechanism_in_the_backbone_leaves_the_rest_as_it_is():
    torch.manual_seed(0)
    plain = DETR(HOST, **SIZES, **LAYERS)
    torch.manual_seed(0)
    gated = DETR(HOST, **SIZES, **LAYERS, mechanism="cbam", stages=(1, 3), options={"reduction": 2})
    assert gated.sites == {"backbone.layer1.0.mechanism": 8, "backbone.layer3.0.mechanism": 32}
    assert all(torch.equal(value, gated.state_dict()[name]) for name, value in plain.state_dict().items())
    assert all(each.requires_grad for each in gated.backbone.layer1[0].mechanism.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in gated.backbone.layer1[0].mechanism.modules())
    with capture(gated) as maps:
        gated(picture()[None])
    assert "backbone.layer1.0.mechanism.channel_gate" in maps


def test_initial_weights_are_those_of_the_release():
    network = DETR(HOST, embed_dim=64, num_heads=4, hidden_channels=96, encoder_layers=1, decoder_layers=1)
    for weight in (network.encoder.layers[0].self_attn.in_proj_weight, network.decoder.layers[0].linear1.weight):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    assert network.query_embed.weight.std().item() == pytest.approx(1, abs=0.05)
    assert (network.encoder.layers[0].self_attn.in_proj_bias == 0).all()


def test_the_mask_head_does_once_for_a_picture_what_is_alike_for_its_queries():
    torch.manual_seed(0)
    head = MaskHead(16, 2, (8, 6, 4))
    x, weights = torch.randn(2, 16, 3, 4), torch.randn(2, 5, 2, 3, 4)
    finer = [torch.randn(2, channels, 3 * 2**step, 4 * 2**step) for step, channels in enumerate((8, 6, 4), 1)]
    found = head(x, weights, finer)
    assert found.shape == (2, 5, 24, 32)
    for query in range(5):
        y = torch.cat([x, weights[:, query]], dim=1)
        for block in head.blocks[:2]:
            y = block(y).relu()
        for adapter, block, feature in zip(head.adapters, head.blocks[2:], finer, strict=True):
            y = block(adapter(feature) + nn.functional.interpolate(y, scale_factor=2)).relu()
        assert torch.allclose(found[:, query], head.out(y)[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"positions": "learned"}, {"panoptic": True, "num_heads": 8}, {"encoder_layers": 0}]
)
def test_what_is_saved_comes_back_bit_for_bit(options, tmp_path):
    network = small(**options)
    save_checkpoint(network, tmp_path / "detr.safetensors")
    again = from_checkpoint(tmp_path / "detr.safetensors")
    assert repr(again) == repr(network)
    assert torch.equal(again(picture()[None])["pred_boxes"], network(picture()[None])["pred_boxes"])


def test_published_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        network = detr_resnet50()
    trained = sum(each.numel() for each in network.parameters() if each.requires_grad)
    assert (sum(each.numel() for each in network.parameters()), trained) == (41_524_768, 41_302_368)
    assert sum(isinstance(module, MultiHeadAttention) for module in network.modules()) == 18
    assert network.stride == 32


@pytest.mark.slow
def test_the_multiply_accumulates_of_its_attention_are_counted():
    counts = [count_macs(small(encoder_layers=layers), (1, 3, 64, 96)) for layers in (1, 2)]
    tokens, channels, hidden = 6, 16, 24
    projections, products = 4 * tokens * channels**2, 2 * tokens**2 * channels
    assert counts[1] - counts[0] == projections + products + 2 * tokens * channels * hidden


WRONG = {
    "channels": (lambda: small()(torch.zeros(1, 1, 64, 64)), r"^a backbone takes \(batch, 3, height, width\); got"),
    "padding": (
        lambda: small()(torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 63)),
        r"^padding is bool \(batch, height, width\), here \(1, 64, 64\); got \(1, 64, 63\)$",
    ),
    "list": (
        lambda: small()([torch.zeros(3, 64, 64), torch.zeros(64, 64)]),
        "^DETR takes a batch with its padding, or a",
    ),
    "nothing": (lambda: small()([]), r"; got \[\]$"),
    "queries": (lambda: small(num_queries=0), "^DETR takes num_queries of at least 1; got 0$"),
    "positions": (lambda: small(positions="none"), 'positions must be one of "sine", "learned"; got \'none\''),
    "grid": (
        lambda: small(positions="learned")(torch.zeros(1, 3, 32, 51 * 32)),
        "^LearnedPositions2d takes at most 50 positions along an axis; got 51$",
    ),
    "options": (lambda: small(stages=(1,)), "^stages need a mechanism; got mechanism=None$"),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


class Tensors(nn.Module):
    """DETR with a tuple of tensors for an answer, as exported files give it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images, padding):
        answers = self.network(images, padding)
        return tuple(answers[key] for key in sorted(answers))


def two(height, width):
    return padded(height, width, picture(height, width - 20), picture(height - 15, width))


@pytest.mark.slow
@torch.no_grad()
def test_it_compiles_whole():
    network = Tensors(small(TINY_HOST, decoder_layers=1))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    for given, expected in zip(compiled(*two(64, 96)), network(*two(64, 96)), strict=True):
        assert torch.allclose(given, expected, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_it_exports_with_open_height_and_width_to_torch_and_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = Tensors(small(TINY_HOST, decoder_layers=1))
    open_sizes = {2: torch.export.Dim("height", min=40, max=1400), 3: torch.export.Dim("width", min=40, max=1400)}
    shapes = {"images": open_sizes, "padding": {axis - 1: size for axis, size in open_sizes.items()}}
    program = torch.export.export(network, two(70, 106), dynamic_shapes=shapes, strict=False)
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "detr.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "detr.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((64, 96), (101, 75)):
        given = two(height, width)
        expected = network(*given)
        names = (each.name for each in session.get_inputs())
        exported = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
        for torchs, onnxs, eager in zip(program.module()(*given), exported, expected, strict=True):
            assert torch.allclose(torchs, eager, atol=1e-5)
            assert torch.allclose(torch.from_numpy(onnxs), eager, atol=1e-4)


@pytest.mark.slow
def test_half_precision_is_near():
    network = small()
    with torch.autocast("cpu", torch.bfloat16):
        half = network(*two(64, 96))["pred_boxes"]
    assert (half - network(*two(64, 96))["pred_boxes"]).abs().max() < 0.05


@pytest.mark.slow
def test_gradients_reach_every_parameter_that_is_trained():
    network = small(panoptic=True, num_heads=8).train()
    answers = network(*two(64, 96))
    total = sum(answers[key].square().sum() for key in ("pred_logits", "pred_boxes", "pred_masks"))
    (total + sum(each["pred_logits"].sum() for each in answers["aux_outputs"])).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None and parameter.grad.any().item()) == parameter.requires_grad, name
