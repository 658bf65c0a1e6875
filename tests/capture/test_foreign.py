import copy
import pickle
import warnings

import pytest
import timm
import timm.layers
import timm.models
import torch
import torchvision
from timm.layers.cbam import CbamModule, LightCbamModule
from timm.layers.squeeze_excite import SqueezeExciteCl
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models.senet import SEModule as SenetSEModule
from torch import nn
from torch.overrides import _get_current_function_mode
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from foveate.capture import capture, edit, taps
from foveate.capture.foreign import FOREIGN, recognise


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def look(model, *inputs, **options):
    """The output of a model without and with a capture, and the maps."""
    with torch.no_grad():
        plain = model(*inputs, **options)
        with capture(model) as maps:
            seen = model(*inputs, **options)
    return plain, seen, maps


def assert_same(seen, plain):
    assert_close(seen, plain, rtol=1e-6, atol=1e-6)


# Gates: the output is the input times the map, bit for bit

GATES = {
    "torchvision SqueezeExcitation": lambda: torchvision.ops.SqueezeExcitation(8, 3),
    "torchvision hard SqueezeExcitation": lambda: torchvision.ops.SqueezeExcitation(
        8, 3, scale_activation=nn.Hardsigmoid
    ),
    "timm SEModule": lambda: timm.layers.SEModule(8),
    "timm hard SEModule": lambda: timm.layers.SEModule(8, gate_layer="hard_sigmoid"),
    "timm EffectiveSEModule": lambda: timm.layers.EffectiveSEModule(8),
    "timm EcaModule": lambda: timm.layers.EcaModule(8),
    "timm CecaModule": lambda: timm.layers.CecaModule(8),
    "timm SqueezeExcite": lambda: SqueezeExcite(8),
    "timm SENet's SEModule": lambda: SenetSEModule(8, 2),
    "timm ChannelAttn": lambda: CbamModule(8, rd_channels=3).channel,
    "timm LightChannelAttn": lambda: LightCbamModule(8, rd_channels=3).channel,
}


@pytest.mark.parametrize("build", GATES.values(), ids=GATES)
def test_a_channel_gate_is_what_its_layer_multiplies_by(build):
    layer, x = build().eval(), torch.randn(2, 8, 5, 3)
    plain, seen, maps = look(layer, x)
    assert torch.equal(seen, plain)
    assert maps.axes == {"gate": "batch channel"}
    assert torch.equal(x * maps["gate"][:, :, None, None], plain)


@pytest.mark.parametrize("build", GATES.values(), ids=GATES)
def test_a_channel_gate_is_replaced(build):
    layer, x = build().eval(), torch.randn(2, 8, 5, 3)
    gate = torch.rand(2, 8)
    with edit(layer, {"gate": gate}):
        assert torch.equal(layer(x), x * gate[:, :, None, None])


@pytest.mark.parametrize("build", [CbamModule, LightCbamModule])
def test_both_gates_of_cbam_are_seen(build):
    layer, x = build(8, rd_channels=3).eval(), torch.randn(2, 8, 5, 3)
    plain, seen, maps = look(layer, x)
    assert torch.equal(seen, plain)
    assert maps.axes == {"channel.gate": "batch channel", "spatial.gate": "batch *space"}
    assert torch.equal(x * maps["channel.gate"][:, :, None, None] * maps["spatial.gate"][:, None], plain)


def test_gather_excite_keeps_the_space_of_its_gate():
    layer, x = timm.layers.GatherExcite(8, use_mlp=False, extent=2).eval(), torch.randn(2, 8, 6, 4)
    plain, seen, maps = look(layer, x)
    assert torch.equal(seen, plain)
    assert torch.equal(x * maps["gate"], plain)


def test_a_gate_of_channels_last_is_seen():
    layer, x = SqueezeExciteCl(8), torch.randn(2, 5, 3, 8)
    plain, seen, maps = look(layer, x)
    assert torch.equal(seen, plain)
    assert torch.equal(x * maps["gate"][:, None, None], plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "count"),
    [
        (lambda: timm.create_model("seresnet18", num_classes=2), "layer1.0.se.gate", 8),
        (lambda: timm.create_model("ecaresnet26t", num_classes=2), "layer1.0.se.gate", 8),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=2), "features.1.block.1.gate", 9),
        (lambda: torchvision.models.efficientnet_b0(num_classes=2), "features.1.0.block.1.gate", 16),
    ],
)
def test_the_gates_of_a_network_are_seen_by_name(model, name, count):
    plain, seen, maps = look(model().eval(), torch.randn(2, 3, 32, 32))
    assert torch.equal(seen, plain)
    assert len(maps) == count
    assert next(iter(maps)) == name
    assert all(maps[name].shape[0] == 2 and maps[name].ndim == 2 for name in maps)


# torch.nn.MultiheadAttention

ATTENTION = {
    "batch first": {"batch_first": True},
    "batch second": {},
    "without bias": {"bias": False, "batch_first": True},
    "key and value of their own width": {"kdim": 5, "vdim": 7, "batch_first": True},
    "bias as a key": {"add_bias_kv": True, "batch_first": True},
    "zero as a key": {"add_zero_attn": True, "batch_first": True},
}


def attention_and_inputs(options):
    attention = nn.MultiheadAttention(12, 2, **options)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    query, key = torch.randn(3, 4, 12), torch.randn(3, 5, options.get("kdim", 12))
    value = torch.randn(3, 5, options["vdim"]) if "vdim" in options else key
    if not options.get("batch_first"):
        query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
    return attention, (query, key, value)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", ATTENTION.values(), ids=ATTENTION)
def test_multihead_attention_shows_the_weights_of_every_head(options, training):
    attention, inputs = attention_and_inputs(options)
    attention.train(training)
    _, weights = attention(*inputs, average_attn_weights=False)
    plain, seen, maps = look(attention, *inputs, need_weights=False)
    assert_same(seen[0], plain[0])
    assert seen[1] is None
    assert maps.axes == {"weights": "batch head query key"}
    assert_close(maps["weights"], weights)


@pytest.mark.parametrize("options", ATTENTION.values(), ids=ATTENTION)
def test_multihead_attention_goes_on_with_replaced_weights(options):
    attention, inputs = attention_and_inputs(options)
    plain = attention(*inputs)
    with edit(attention, {"weights": lambda weights: weights.clone()}):
        again = attention(*inputs)
    assert_same(again, plain)
    with edit(attention, {"weights": 0.0}), capture(attention) as maps:
        nothing, weights = attention(*inputs)
    bias = attention.out_proj.bias if attention.out_proj.bias is not None else torch.zeros(12)
    assert_close(nothing, bias.expand_as(nothing))
    assert not weights.any()
    assert not maps["weights"].any()


@pytest.mark.parametrize("average", [False, True])
def test_multihead_attention_still_returns_the_weights_it_was_asked_for(average):
    attention, inputs = attention_and_inputs({})
    plain, seen, _ = look(attention.eval(), *inputs, average_attn_weights=average)
    assert_same(seen, plain)
    assert seen[1].ndim == (3 if average else 4)


def test_multihead_attention_on_one_sample_without_a_batch():
    attention, _ = attention_and_inputs({})
    x = torch.randn(5, 12)
    plain, seen, maps = look(attention, x, x, x)
    assert_same(seen, plain)
    assert maps["weights"].shape == (1, 2, 5, 5)
    assert_close(maps["weights"].mean(dim=1)[0], plain[1])
    with edit(attention, {"weights": lambda weights: weights.clone()}):
        assert_same(attention(x, x, x), plain)


def test_multihead_attention_respects_its_masks():
    attention, _ = attention_and_inputs({"batch_first": True})
    x = torch.randn(3, 5, 12)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = True
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    for masks in (
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": causal, "is_causal": True},
        {"attn_mask": causal, "key_padding_mask": padding.float().masked_fill(padding, -torch.inf)},
    ):
        plain, seen, maps = look(attention, x, x, x, need_weights=False, **masks)
        assert_same(seen[0], plain[0])
        if "key_padding_mask" in masks:
            assert not maps["weights"][0, :, :, 3:].any()
        if "attn_mask" in masks:
            assert not maps["weights"].triu(1).any()


def test_a_sample_of_padding_alone_gets_zeros():
    attention, _ = attention_and_inputs({"batch_first": True})
    x = torch.randn(3, 5, 12)
    padding = torch.tensor([False, True, False])[:, None].expand(3, 5)
    plain = attention(x, x, x, key_padding_mask=padding, need_weights=False)
    with capture(attention) as maps:
        seen = attention(x, x, x, key_padding_mask=padding, need_weights=False)
    assert_same(seen[0], plain[0])
    assert not maps["weights"][1].any()


def test_dropout_in_multihead_attention_comes_after_the_weights():
    attention, inputs = attention_and_inputs({"dropout": 0.5, "batch_first": True})
    with capture(attention) as maps:
        _, dropped = attention(*inputs, average_attn_weights=False)
    assert_close(maps["weights"].sum(dim=-1), torch.ones(3, 2, 4))
    assert 0 < (dropped == 0).float().mean() < 1
    assert_close(dropped, (2 * maps["weights"]).masked_fill(dropped == 0, 0.0))


def test_the_fused_encoder_is_opened():
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    )
    plain, seen, maps = look(encoder.eval(), torch.randn(3, 5, 12))
    assert_same(seen, plain)
    assert list(maps) == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]
    assert maps["layers.1.self_attn.weights"].shape == (3, 2, 5, 5)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fused_encoder_is_opened_with_padding():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 2).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    plain, seen, maps = look(encoder, torch.randn(2, 5, 12), src_key_padding_mask=padding)
    assert_same(seen[~padding], plain[~padding])
    assert not maps["layers.0.self_attn.weights"][1, :, :, 3:].any()


def test_a_decoder_shows_both_of_its_attentions():
    decoder = nn.TransformerDecoderLayer(12, 2, 16).eval()
    plain, seen, maps = look(decoder, torch.randn(4, 3, 12), torch.randn(7, 3, 12))
    assert_same(seen, plain)
    assert {name: tuple(maps[name].shape) for name in maps} == {
        "self_attn.weights": (3, 2, 4, 4),
        "multihead_attn.weights": (3, 2, 4, 7),
    }


# Attention of torchvision and timm


def small_swin(version, **options):
    kind = timm.models.SwinTransformer if version == 1 else timm.models.SwinTransformerV2
    sizes = {"img_size": 16, "patch_size": 2, "embed_dim": 8, "depths": (2, 1), "num_heads": (2, 4), "num_classes": 3}
    return kind(window_size=4, **sizes, **options)


def small_torchvision_swin(version):
    options = (
        {}
        if version == 1
        else {
            "block": torchvision.models.swin_transformer.SwinTransformerBlockV2,
            "downsample_layer": torchvision.models.swin_transformer.PatchMergingV2,
        }
    )
    return torchvision.models.SwinTransformer([2, 2], 8, [2, 1], [2, 4], [4, 4], num_classes=3, **options)


def small_torchvision_vit():
    model = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    )
    nn.init.normal_(model.heads.head.weight)
    return model


SIZES = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, "num_classes": 3}
TRANSFORMERS = {
    "torchvision ViT": (small_torchvision_vit, "encoder.layers.encoder_layer_0.self_attention.weights", (5, 2, 17, 17)),
    "torchvision Swin": (lambda: small_torchvision_swin(1), "features.1.0.attn.weights", (20, 2, 16, 16)),
    "torchvision Swin 2": (lambda: small_torchvision_swin(2), "features.1.0.attn.weights", (20, 2, 16, 16)),
    "timm ViT": (lambda: timm.models.VisionTransformer(**SIZES), "blocks.0.attn.weights", (5, 2, 17, 17)),
    "timm ViT with a pool": (
        lambda: timm.models.VisionTransformer(**SIZES, class_token=False, global_pool="map"),
        "blocks.0.attn.weights",
        (5, 2, 16, 16),
    ),
    "timm EVA": (lambda: timm.models.Eva(**SIZES, use_rot_pos_emb=True), "blocks.0.attn.weights", (5, 2, 17, 17)),
    "timm BEiT": (
        lambda: timm.models.Beit(**SIZES, use_rel_pos_bias=True, init_values=0.1),
        "blocks.0.attn.weights",
        (5, 2, 17, 17),
    ),
    "timm Swin": (lambda: small_swin(1), "layers.0.blocks.0.attn.weights", (20, 2, 16, 16)),
    "timm Swin 2": (lambda: small_swin(2), "layers.0.blocks.0.attn.weights", (20, 2, 16, 16)),
}


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("build", "name", "shape"), TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_the_attention_of_a_transformer_is_seen(build, name, shape, training):
    model = build().train(training)
    for module in model.modules():  # chance would hide a difference
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if type(module).__name__ in ("DropPath", "StochasticDepth"):
            module.eval()
    plain, seen, maps = look(model, torch.randn(5, 3, 16, 16))
    assert_same(seen, plain)
    assert list(maps) == list(taps(model))
    assert next(iter(maps)) == name
    assert tuple(maps[name].shape) == shape
    for weights in maps.values():
        assert weights.ndim == 4
        assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("build", "name", "shape"), TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_the_attention_of_a_transformer_is_replaced(build, name, shape):
    model, x = build().eval(), torch.randn(5, 3, 16, 16)
    for parameter in model.parameters():  # what a transformer starts from hides its attention
        nn.init.normal_(parameter, std=0.3)
    plain = model(x)
    with edit(model, {name: lambda weights: weights.flip(-1)}), capture(model, only=name) as after:
        edited = model(x)
    with capture(model, only=name) as before:
        model(x)
    assert_close(after[name], before[name].flip(-1))
    assert not torch.allclose(edited, plain)
    assert torch.equal(model(x), plain)


def test_unfused_attention_of_timm_is_seen_before_its_dropout():
    attention = timm.layers.Attention(8, num_heads=2, attn_drop=0.5).train()
    x = torch.randn(3, 5, 8)
    for attention.fused_attn in (False, True):
        with capture(attention) as maps:
            attention(x)
        assert_close(maps["weights"].sum(dim=-1), torch.ones(3, 2, 5))


def test_the_non_local_attention_of_timm_is_seen():
    layer = timm.layers.NonLocalAttn(8, rd_channels=4).eval()
    nn.init.ones_(layer.norm.weight)
    plain, seen, maps = look(layer, torch.randn(2, 8, 3, 5))
    assert torch.equal(seen, plain)
    assert maps["weights"].shape == (2, 15, 15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "caformer_s18",
        "cait_xxs24_224",
        "crossvit_tiny_240",
        "davit_tiny",
        "efficientformer_l1",
        "fastvit_sa12",
        "gcvit_xxtiny",
        "levit_128s",
        "maxvit_nano_rw_256",
        "mobilevit_xxs",
        "mobilenetv4_hybrid_medium",
        "mvitv2_tiny",
        "nest_tiny",
        "nextvit_small",
        "pvt_v2_b0",
        "resnet50_clip",
        "swinv2_cr_tiny_224",
        "tiny_vit_5m_224",
        "tnt_s_legacy_patch16_224",
        "twins_svt_small",
        "visformer_tiny",
        "vit_relpos_small_patch16_224",
        "volo_d1_224",
    ],
)
def test_the_attention_of_networks_in_timm_has_the_axes_it_promises(name):
    model = timm.create_model(name).eval()
    pictures = torch.randn(2, *model.default_cfg["input_size"])
    plain, seen, maps = look(model, pictures)
    with capture(model) as alone, torch.no_grad():
        model(pictures[1:])
    assert_close(seen, plain, rtol=1e-4, atol=1e-5)
    assert list(maps) == list(taps(model))
    for name, values in maps.items():
        axes = maps.axes[name].split()
        assert values.ndim == len(axes)
        if axes[0] == "batch":
            assert values.shape[0] == 2
        assert_close(values[len(values) // 2 :], alone[name], rtol=1e-3, atol=1e-4)
        if axes[-1] == "key":
            assert_close(values.sum(dim=-1), torch.ones(values.shape[:-1]))


# MONAI


@pytest.fixture(scope="module")
def monai_blocks():
    return pytest.importorskip("monai.networks.blocks", reason="MONAI is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("flash", [False, True])
def test_the_attention_of_monai_is_seen(monai_blocks, flash):
    pytest.importorskip("einops", reason="MONAI's attention needs einops, which is not installed")
    itself = monai_blocks.SABlock(8, 2, use_flash_attention=flash)
    plain, seen, maps = look(itself, torch.randn(3, 5, 8))
    assert_same(seen, plain)
    assert maps["weights"].shape == (3, 2, 5, 5)
    across = monai_blocks.CrossAttentionBlock(8, 2, use_flash_attention=flash)
    plain, seen, maps = look(across, torch.randn(3, 5, 8), torch.randn(3, 7, 8))
    assert_same(seen, plain)
    assert maps["weights"].shape == (3, 2, 5, 7)


@pytest.mark.slow
@pytest.mark.parametrize("space", [(7,), (5, 3), (5, 3, 2)])
def test_the_gates_of_monai_are_seen(monai_blocks, space):
    x = torch.randn(2, 8, *space)
    plain, seen, maps = look(monai_blocks.ChannelSELayer(len(space), 8), x)
    assert torch.equal(seen, plain)
    assert torch.equal(x * maps["gate"].reshape(2, 8, *[1] * len(space)), plain)
    nets = pytest.importorskip("monai.networks.nets.attentionunet")
    plain, seen, maps = look(nets.AttentionBlock(len(space), 3, 8, 8).eval(), torch.randn(2, 8, *space), x)
    assert torch.equal(seen, plain)
    assert maps.axes == {"gate": "batch *space"}
    assert torch.equal(x * maps["gate"][:, None], plain)


@pytest.mark.slow
def test_the_window_attention_of_monai_is_seen(monai_blocks):
    nets = pytest.importorskip("monai.networks.nets.swin_unetr")
    plain, seen, maps = look(nets.WindowAttention(8, 2, (3, 2)), torch.randn(4, 6, 8), None)
    assert_same(seen, plain)
    assert maps.axes == {"weights": "window head query key"}
    assert maps["weights"].shape == (4, 2, 6, 6)


# What stays behind


def traces(model):
    """All that a capture could leave on a model or in torch."""
    return (
        {name: repr(vars(module)) for name, module in model.named_modules()},
        torch.backends.mha.get_fastpath_enabled(),
        _get_current_function_mode(),
    )


class Interrupted(nn.Module):
    """A projection that raises."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize("error", [None, ValueError("halfway"), KeyboardInterrupt("halfway")])
def test_nothing_is_left_behind(error):
    model = timm.models.VisionTransformer(**SIZES)
    if error is not None:
        model.blocks[1].attn.proj = Interrupted(error)
    before = traces(model)
    with edit(model, {"blocks.0.**": lambda weights: weights}):
        if error is None:
            with capture(model):
                model(torch.randn(2, 3, 16, 16))
        else:
            with pytest.raises(type(error), match="halfway"), capture(model):
                model(torch.randn(2, 3, 16, 16))
    assert traces(model) == before


def test_a_forward_that_fails_inside_the_block_leaves_the_next_one_alone():
    attention = timm.layers.Attention(8, num_heads=2)
    x = torch.randn(2, 5, 8)
    plain = attention(x)
    with capture(attention) as maps:
        with pytest.raises(RuntimeError, match="shapes"):
            attention(torch.randn(2, 5, 7))
        assert _get_current_function_mode() is None
        assert_same(attention(x), plain)
    assert len(maps.calls("weights")) == 1


def test_a_hook_of_somebody_else_may_fail_before_ours():
    def refuse(module, args):
        raise ZeroDivisionError

    model, x = nn.Sequential(timm.layers.Attention(8, num_heads=2), nn.Identity()), torch.randn(2, 5, 8)
    handle = model[0].register_forward_pre_hook(refuse)
    with capture(model) as maps:
        with warnings.catch_warnings(action="error"), pytest.raises(ZeroDivisionError):
            model(x)
        handle.remove()
        model(x)
    assert len(maps.calls("0.weights")) == 1


def test_a_softmax_in_the_hook_of_somebody_else_is_no_map():
    attention = timm.layers.Attention(8, num_heads=2)
    attention.register_forward_pre_hook(lambda module, args: (args[0].softmax(dim=-1),))
    attention.register_forward_hook(lambda module, args, output: output.softmax(dim=-1))
    with capture(attention) as maps:
        attention(torch.randn(2, 5, 8))
    assert [tuple(call.shape) for call in maps.calls("weights")] == [(2, 2, 5, 5)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize(
    "build", [lambda: timm.models.VisionTransformer(**SIZES), lambda: nn.Sequential(timm.layers.SEModule(3))]
)
def test_a_copy_made_inside_the_block_is_left_alone(copied, build):
    model, x = build().eval(), torch.randn(2, 3, 16, 16)
    with capture(model) as maps, edit(model, {"**": lambda values: values}):
        twin = copied(model)
        output = model(x)
        twin(x)
    assert traces(twin) == traces(model)
    assert_same(twin(x), output)
    assert [len(maps.calls(name)) for name in maps] == [1] * len(taps(model))
    with capture(twin) as maps:
        twin(x)
    assert len(maps) == len(taps(model))


def test_the_hooks_of_others_go_along_with_a_copy():
    layer, x = timm.layers.SEModule(8), torch.randn(2, 8, 3, 3)
    layer.gate.register_forward_hook(_half, always_call=True)
    with capture(layer):
        twin = copy.deepcopy(layer)
        plain = layer(x)
    assert len(twin.gate._forward_hooks) == len(twin.gate._forward_hooks_always_called) == 1
    assert torch.equal(twin(x), plain)


def _half(module, args, output):
    return output / 2


@pytest.mark.slow
def test_a_compiled_transformer_is_captured_without_compiling_again():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model, x = timm.models.VisionTransformer(**SIZES).eval(), torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend=backend)
    plain = compiled(x)
    count = len(graphs)
    assert count > 0
    with capture(compiled) as maps:
        assert_same(compiled(x), plain)
    assert torch.equal(compiled(x), plain)
    assert list(maps) == ["blocks.0.attn.weights", "blocks.1.attn.weights"]
    assert len(graphs) == count


def test_under_activation_checkpointing_the_backward_pass_belongs_inside_the_block():
    model, x = timm.models.VisionTransformer(**SIZES), torch.randn(2, 3, 16, 16)
    model(x).sum().backward()
    plain = model.patch_embed.proj.weight.grad
    model.zero_grad()
    with capture(model) as maps:
        checkpoint(model, x, use_reentrant=False).sum().backward()
    assert len(maps["blocks.0.attn.weights"]) == 2
    assert_close(model.patch_embed.proj.weight.grad, plain)


# The table


def test_a_subclass_is_recognised_by_the_class_it_comes_from():
    class Mine(nn.MultiheadAttention):
        pass

    assert recognise(Mine(4, 2)) is recognise(nn.MultiheadAttention(4, 2))


def test_other_layers_are_not_recognised():
    assert recognise(nn.Linear(2, 3)) is None
    assert recognise(timm.layers.Mlp(4)) is None


def test_every_row_names_a_map_and_where_it_is():
    for row in FOREIGN:
        assert row.map in ("gate", "weights")
        assert row.at in ("softmax()", "sigmoid()") or row.at.isidentifier()
        assert len({(row.layer, row.within) for row in FOREIGN}) == len(FOREIGN)


def test_the_names_are_known_before_anything_runs():
    assert taps(nn.TransformerEncoderLayer(4, 2)) == {"self_attn.weights": "batch head query key"}
    assert taps(nn.MultiheadAttention(4, 2)) == {"weights": "batch head query key"}
    assert taps(nn.Linear(2, 3)) == {}
