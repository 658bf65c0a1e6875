"""facebookresearch/detr and Hugging Face's transformers: DETR, with and without the head for masks.

A file of transformers before 5 has other names than one that is written now; each is a publisher here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds, read_residual

__all__ = ["FACEBOOK", "HUGGING_FACE", "HUGGING_FACE_4"]

Parts = Sequence[tuple[str, str]]
Spelling = Callable[[str, bool], str]  # our key, and whether there are masks -> theirs
CONV_NORM = ("conv", "norm")
LAYER_NAMES = [(f"mask_head.blocks.{k}", f"mask_head.{{}}{k + 1}") for k in range(5)]
MASK_PARTS = (
    ("mask_attention.query", "bbox_attention.q_linear"),
    ("mask_attention.key", "bbox_attention.k_linear"),
    *(
        (f"{ours}.{place}", theirs.format(kind))
        for ours, theirs in LAYER_NAMES
        for place, kind in enumerate(("lay", "gn"))
    ),
    *((f"mask_head.adapters.{k}", f"mask_head.adapter{k + 1}") for k in range(3)),
    ("mask_head.out", "mask_head.out_lay"),
)
FACEBOOK_PARTS = (
    ("backbone", "backbone.0.body"),
    ("positions.row", "backbone.1.row_embed"),
    ("positions.column", "backbone.1.col_embed"),
    ("encoder", "transformer.encoder"),
    ("decoder", "transformer.decoder"),
    *MASK_PARTS,
)
HUGGING_FACE_PARTS = (
    ("input_proj", "model.input_projection"),
    ("query_embed", "model.query_position_embeddings"),
    ("class_embed", "class_labels_classifier"),
    ("bbox_embed", "bbox_predictor"),
    ("encoder", "model.encoder"),
    ("decoder.norm", "model.decoder.layernorm"),
    ("decoder", "model.decoder"),
)
# As transformers before 5 wrote them, and as it writes them now.
OLD_PARTS = (
    *HUGGING_FACE_PARTS,
    ("backbone", "model.backbone.conv_encoder.model"),
    ("positions.row", "model.backbone.position_embedding.row_embeddings"),
    ("positions.column", "model.backbone.position_embedding.column_embeddings"),
    *MASK_PARTS,
)
NEW_PARTS = (
    *HUGGING_FACE_PARTS,
    ("backbone", "model.backbone.model"),
    ("positions.row", "model.position_embedding.row_embeddings"),
    ("positions.column", "model.position_embedding.column_embeddings"),
    ("mask_attention.query", "bbox_attention.q_proj"),
    ("mask_attention.key", "bbox_attention.k_proj"),
    *((f"mask_head.blocks.{k}.{i}", f"mask_head.conv{k + 1}.{CONV_NORM[i]}") for k in (0, 1) for i in (0, 1)),
    *(
        (f"mask_head.blocks.{k + 2}.{i}", f"mask_head.fpn_stages.{k}.refine.{CONV_NORM[i]}")
        for k in range(3)
        for i in (0, 1)
    ),
    *((f"mask_head.adapters.{k}", f"mask_head.fpn_stages.{k}.fpn_adapter") for k in range(3)),
    ("mask_head.out", "mask_head.output_conv"),
)


def _layer_parts(out: str, mlp: str) -> dict[str, Parts]:
    """The parts of a layer of each stack; the second norm is the last of an encoder's layer only."""
    shared = (
        ("self_attn.out_proj", f"self_attn.{out}"),
        ("norm1", "self_attn_layer_norm"),
        ("linear1", f"{mlp}fc1"),
        ("linear2", f"{mlp}fc2"),
    )
    decoder = (
        ("norm2", "encoder_attn_layer_norm"),
        ("norm3", "final_layer_norm"),
        ("cross_attn.out_proj", f"encoder_attn.{out}"),
        ("cross_attn", "encoder_attn"),
    )
    return {"encoder": (*shared, ("norm2", "final_layer_norm")), "decoder": (*shared, *decoder)}


def _facebook_name(key: str, panoptic: bool) -> str:
    return _prefixed(part_name(key, FACEBOOK_PARTS).replace(".cross_attn.", ".multihead_attn."), panoptic)


def _hugging_face_name(parts: Parts, layers: Mapping[str, Parts], key: str, panoptic: bool) -> str:
    """Their key, or three with spaces between where queries, keys and values are packed into one tensor here."""
    stack, *inside = key.split(".", 3)
    if stack in layers and len(inside) == 3:
        name = f"model.{stack}.layers.{inside[1]}.{part_name(inside[2], layers[stack])}"
    else:
        name = part_name(key, parts)
    name = _prefixed(name, panoptic)
    return " ".join(name.replace("in_proj_", f"{each}_proj.") for each in "qkv") if ".in_proj_" in name else name


def _prefixed(name: str, panoptic: bool) -> str:
    return f"detr.{name}" if panoptic and not name.startswith(("bbox_attention.", "mask_head.")) else name


def _recognise(spell: Spelling, shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    panoptic = holds(shapes, "bbox_attention.")

    def name(key: str) -> str:
        return spell(key, panoptic)

    if not {name("query_embed.weight"), name("decoder.layers.0.linear1.weight")} <= set(shapes):
        return None
    (queries, channels), (outputs, _) = (shapes.axes(name(f"{part}_embed.weight"), 2) for part in ("query", "class"))
    network: dict[str, Any] = {
        "backbone": _read_backbone(shapes, name("backbone.")),
        "num_classes": outputs - 1,
        "num_queries": queries,
        "embed_dim": channels,
        "hidden_channels": shapes.axes(name("decoder.layers.0.linear1.weight"), 2)[0],
        "encoder_layers": _count(shapes, name("encoder.layers.")),
        "decoder_layers": _count(shapes, name("decoder.layers.")),
        "pre_norm": _facebook_name("encoder.norm.weight", panoptic) in shapes,  # Hugging Face has none
        "positions": "learned" if name("positions.row.weight") in shapes else "sine",
        "panoptic": panoptic,
    }
    if panoptic:  # whose first convolution gets the map of each head beside the features
        heads = {"num_heads": shapes.axes(name("mask_head.blocks.0.0.weight"), 4)[1] - channels}
        return Found(Architecture("detr", network | heads | {"dilation": False}), {"dilation": False})
    assumed = {"dilation": False, "num_heads": 8}
    return Found(Architecture("detr", network | assumed), assumed)


def _read_backbone(shapes: Shapes, prefix: str) -> dict[str, Any]:
    body = Shapes({key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)})
    try:
        return read_residual(body, head=None)
    except CheckpointError as error:
        raise CheckpointError(f"in {prefix.removesuffix('.')} {error}") from None


def _count(shapes: Shapes, prefix: str) -> int:
    """Layers. Not the largest number: a number in a key is no reason to build that much."""
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


def _publisher(name: str, spell: Spelling) -> Publisher:
    def their_name(key: str, network: nn.Module) -> str:
        return spell(key, getattr(network, "mask_head", None) is not None)

    return Publisher(name, partial(_recognise, spell), their_name, free=("num_heads", "dilation"))


FACEBOOK = _publisher("facebookresearch/detr", _facebook_name)
HUGGING_FACE = _publisher(
    "huggingface/transformers", partial(_hugging_face_name, NEW_PARTS, _layer_parts("o_proj", "mlp."))
)
HUGGING_FACE_4 = _publisher(
    "huggingface/transformers 4", partial(_hugging_face_name, OLD_PARTS, _layer_parts("out_proj", ""))
)
