"""DETR beside facebookresearch/detr, and its checkpoints under three spellings."""

import warnings
from functools import cache

import pytest
import torch
from tests.golden import published

from foveate import from_checkpoint, save_checkpoint, to_publisher
from foveate.errors import CheckpointError
from foveate.networks import DETR
from foveate.networks.published import inspect

FACEBOOK, HUGGING_FACE = "facebookresearch/detr", "huggingface/transformers"
HUGGING_FACE_4 = f"{HUGGING_FACE} 4"
GOLDEN = {
    "detr_resnet50": ("DETR, ResNet-50", {}),
    "detr_resnet101": ("DETR, ResNet-101", {}),
    "detr_resnet50_dc5": ("DETR-DC5, ResNet-50", {"dilation": True}),
    "detr_resnet50_panoptic": ("panoptic DETR, ResNet-50", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_it_computes_what_the_release_computes(name):
    title, options = GOLDEN[name]
    state = published.state_dict(name)
    found = inspect({"model": state, "epoch": 299}, **options)
    assert (found.publisher, found.title, found.problems) == (FACEBOOK, title, ())
    assert found.parameters == published.read(name)[0]["parameters"]
    network = from_checkpoint(state, **options)
    back = to_publisher(network, FACEBOOK)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
    names = dict(zip(back, network.state_dict(), strict=True))
    published.check(
        name, network, names.__getitem__, lambda *images: network([image[0] for image in images]), loaded=True
    )
    if name == "detr_resnet50":
        check_padding(network)


def check_padding(network):
    """Pictures in a padded batch beside the same pictures alone."""
    sides = ((128, 160), (96, 128))
    images = [torch.randn(3, *side, generator=torch.Generator().manual_seed(3)).double() for side in sides]
    with torch.no_grad():
        together = network(images)["pred_boxes"]
        alone = torch.cat([network(image[None])["pred_boxes"] for image in images])
    away = (together - alone).abs().amax(dim=(1, 2))
    assert away[0] < 1e-12  # nothing is beside it
    assert away[1] < 0.02


@cache
def tiny(**options):
    """A small DETR none of whose tensors is trivial."""
    torch.manual_seed(0)
    sizes = {"num_classes": 5, "num_queries": 7, "embed_dim": 32, "num_heads": 8, "hidden_channels": 24}
    sizes |= {"encoder_layers": 1, "decoder_layers": 2}
    network = DETR({"block": "basic", "depths": (1, 1, 1, 1), "base_width": 8}, **{**sizes, **options}).eval()
    for value in network.state_dict().values():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
    return network


PICTURES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
PADDING = torch.zeros(2, 64, 96, dtype=torch.bool)
PADDING[1, 32:] = PADDING[1, :, 64:] = True


def same(one, other):
    """Whether two networks answer alike to the bit."""
    first, second = one(PICTURES, PADDING), other(PICTURES, PADDING)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("publisher", [FACEBOOK, HUGGING_FACE, HUGGING_FACE_4])
@pytest.mark.parametrize("options", [{}, {"panoptic": True}, {"positions": "learned"}, {"pre_norm": True}], ids=str)
def test_a_network_comes_back_from_a_publishers_names(publisher, options):
    network = tiny(**options)
    if "pre_norm" in options and publisher != FACEBOOK:
        with pytest.raises(ValueError, match=f"^{publisher} has no code that computes what this DETR computes$"):
            to_publisher(network, publisher)
        return
    state = to_publisher(network, publisher)
    found = inspect(state)
    assert (found.publisher, found.problems) == (publisher, ())
    again = from_checkpoint(state)
    assert repr(again) == repr(network)
    assert same(again, network)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in network.parameters()]


SPELLINGS = {
    "backbone.layer1.0.bn1.running_mean": (
        "backbone.0.body.layer1.0.bn1.running_mean",
        "model.backbone.model.layer1.0.bn1.running_mean",
        "model.backbone.conv_encoder.model.layer1.0.bn1.running_mean",
    ),
    "encoder.layers.0.norm2.weight": (
        "transformer.encoder.layers.0.norm2.weight",
        "model.encoder.layers.0.final_layer_norm.weight",
        "model.encoder.layers.0.final_layer_norm.weight",
    ),
    "decoder.layers.1.norm2.weight": (
        "transformer.decoder.layers.1.norm2.weight",
        "model.decoder.layers.1.encoder_attn_layer_norm.weight",
        "model.decoder.layers.1.encoder_attn_layer_norm.weight",
    ),
    "decoder.layers.1.norm3.bias": (
        "transformer.decoder.layers.1.norm3.bias",
        "model.decoder.layers.1.final_layer_norm.bias",
        "model.decoder.layers.1.final_layer_norm.bias",
    ),
    "decoder.layers.0.cross_attn.out_proj.bias": (
        "transformer.decoder.layers.0.multihead_attn.out_proj.bias",
        "model.decoder.layers.0.encoder_attn.o_proj.bias",
        "model.decoder.layers.0.encoder_attn.out_proj.bias",
    ),
    "decoder.layers.0.linear1.weight": (
        "transformer.decoder.layers.0.linear1.weight",
        "model.decoder.layers.0.mlp.fc1.weight",
        "model.decoder.layers.0.fc1.weight",
    ),
    "decoder.norm.weight": (
        "transformer.decoder.norm.weight",
        "model.decoder.layernorm.weight",
        "model.decoder.layernorm.weight",
    ),
    "query_embed.weight": (
        "query_embed.weight",
        "model.query_position_embeddings.weight",
        "model.query_position_embeddings.weight",
    ),
    "class_embed.bias": ("class_embed.bias", "class_labels_classifier.bias", "class_labels_classifier.bias"),
    "bbox_embed.layers.2.bias": (
        "bbox_embed.layers.2.bias",
        "bbox_predictor.layers.2.bias",
        "bbox_predictor.layers.2.bias",
    ),
    "input_proj.weight": ("input_proj.weight", "model.input_projection.weight", "model.input_projection.weight"),
}
MASK_SPELLINGS = {
    "class_embed.bias": (
        "detr.class_embed.bias",
        "detr.class_labels_classifier.bias",
        "detr.class_labels_classifier.bias",
    ),
    "mask_attention.key.bias": (
        "bbox_attention.k_linear.bias",
        "bbox_attention.k_proj.bias",
        "bbox_attention.k_linear.bias",
    ),
    "mask_head.blocks.1.0.weight": ("mask_head.lay2.weight", "mask_head.conv2.conv.weight", "mask_head.lay2.weight"),
    "mask_head.blocks.3.1.bias": (
        "mask_head.gn4.bias",
        "mask_head.fpn_stages.1.refine.norm.bias",
        "mask_head.gn4.bias",
    ),
    "mask_head.adapters.2.weight": (
        "mask_head.adapter3.weight",
        "mask_head.fpn_stages.2.fpn_adapter.weight",
        "mask_head.adapter3.weight",
    ),
    "mask_head.out.bias": ("mask_head.out_lay.bias", "mask_head.output_conv.bias", "mask_head.out_lay.bias"),
}


@pytest.mark.parametrize("panoptic", [False, True])
def test_each_publisher_has_its_names(panoptic):
    network = tiny(panoptic=panoptic)
    own = network.state_dict()
    for place, publisher in enumerate((FACEBOOK, HUGGING_FACE, HUGGING_FACE_4)):
        state = to_publisher(network, publisher)
        for ours, theirs in (MASK_SPELLINGS if panoptic else SPELLINGS).items():
            assert torch.equal(state[theirs[place]], own[ours]), theirs[place]


def test_packed_projections_are_three_of_hugging_faces():
    network = tiny()
    state, packed = to_publisher(network, HUGGING_FACE), network.encoder.layers[0].self_attn.in_proj_weight
    parts = [state[f"model.encoder.layers.0.self_attn.{each}_proj.weight"] for each in "qkv"]
    assert torch.equal(torch.cat(parts), packed)
    del state["model.encoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"but model\.encoder\.layers\.0\.self_attn\.k_proj\.weight is missing"):
        from_checkpoint(state)


@pytest.mark.slow
@pytest.mark.parametrize("publisher", [FACEBOOK, HUGGING_FACE_4, "ours"])
def test_other_classes_and_queries_start_anew_and_say_so(publisher, tmp_path):
    network, source = tiny(), tmp_path / "detr.safetensors"
    if publisher == "ours":
        save_checkpoint(network, source)
    else:
        source = to_publisher(network, publisher)
    with pytest.warns(UserWarning, match=r"has no weights that fit class_embed, which starts anew$"):
        other = from_checkpoint(source, num_classes=3)
    assert other.class_embed.weight.shape == (4, 32)
    assert torch.equal(other.query_embed.weight, network.query_embed.weight)
    assert torch.equal(other.encoder.layers[0].linear1.weight, network.encoder.layers[0].linear1.weight)
    with pytest.warns(UserWarning, match=r"fit class_embed, query_embed, which starts anew$"):
        other = from_checkpoint(source, num_classes=3, num_queries=9)
    assert other.query_embed.weight.std() > 0.5
    assert other(PICTURES)["pred_boxes"].shape == (2, 9, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(from_checkpoint(source, num_classes=5, num_queries=7), network)


@pytest.mark.slow
def test_what_no_key_tells_is_an_option():
    state = to_publisher(tiny(num_heads=4, dilation=True), FACEBOOK)
    assert inspect(state).assumed == {"dilation": False, "num_heads": 8}
    assert same(from_checkpoint(state, num_heads=4, dilation=True), tiny(num_heads=4, dilation=True))
    assert not same(from_checkpoint(state), tiny(num_heads=4, dilation=True))
    masks = to_publisher(tiny(num_heads=4, panoptic=True), FACEBOOK)
    assert from_checkpoint(masks).num_heads == 4


def test_a_trained_backbone_takes_a_frozen_ones_weights():
    network = from_checkpoint(to_publisher(tiny(), FACEBOOK), frozen=False)
    assert all(parameter.requires_grad for parameter in network.parameters())
    outputs = network(PICTURES)["pred_boxes"] - tiny()(PICTURES)["pred_boxes"]
    assert outputs.abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda state: state.pop("backbone.0.body.layer1.0.conv1.weight"),
            r"but in backbone\.0\.body layer1\.0\.conv1\.weight is missing$",
        ),
        (
            lambda state: state.pop("transformer.encoder.layers.0.norm1.bias"),
            r"but transformer\.encoder\.layers\.0\.norm1\.bias is missing$",
        ),
        (
            lambda state: state.update({"transformer.decoder.layers.1.linear2.bias": torch.zeros(31)}),
            r"but transformer\.decoder\.layers\.1\.linear2\.bias has shape \(31,\) where \(32,\) is wanted$",
        ),
        (
            lambda state: state.update({"reference": torch.zeros(1)}),
            "but reference belongs to no network that is known",
        ),
    ],
)
def test_the_first_misfit_is_named(damage, sentence):
    state = to_publisher(tiny(), FACEBOOK)
    damage(state)
    with pytest.raises(CheckpointError, match=f"^the state dict has keys of {FACEBOOK}, {sentence}"):
        from_checkpoint(state)


@pytest.mark.slow
def test_a_mechanism_in_the_backbone_is_no_release():
    network = DETR({"block": "basic", "depths": (1, 1, 1, 1), "base_width": 8}, encoder_layers=1, mechanism="eca")
    with pytest.raises(ValueError, match="has no code that computes what this DETR computes"):
        to_publisher(network, FACEBOOK)
