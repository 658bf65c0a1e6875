"""facebookresearch/SlowFast: C2D and I3D with and without non-local blocks, and one such block to a file."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shape, Shapes, part_name

__all__ = ["SLOWFAST"]

BLOCK_PARTS = (
    ("theta", "conv_theta"),
    ("phi", "conv_phi"),
    ("g", "conv_g"),
    ("out", "conv_out"),
    ("norm", "bn"),
)
RESIDUAL_PARTS = (
    ("conv1", "branch2.a"),
    ("bn1", "branch2.a_bn"),
    ("conv2", "branch2.b"),
    ("bn2", "branch2.b_bn"),
    ("conv3", "branch2.c"),
    ("bn3", "branch2.c_bn"),
    ("downsample.0", "branch1"),
    ("downsample.1", "branch1_bn"),
)
NETWORK_PARTS = (("conv1", "s1.pathway0_stem.conv"), ("bn1", "s1.pathway0_stem.bn"), ("fc", "head.projection"))
STAGES = (2, 3, 4, 5)  # as they count the stages of residual blocks


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if "s1.pathway0_stem.conv.weight" in shapes:
        return _network(shapes, options)
    if "conv_g.weight" not in shapes or "conv_out.weight" not in shapes:
        return None
    hidden_channels, channels, *_ = shapes.axes("conv_g.weight", 5)
    assumed = _non_local(options) | {"pool": "none"}
    given = {"channels": channels, "hidden_channels": hidden_channels}
    return Found(Architecture("nonlocal", given | assumed), assumed)


def _non_local(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the release makes of the weights of a block: the softmax is scaled, the dot product divided by the number
    of positions alone.
    """
    pairwise = options.get("pairwise", "embedded_gaussian")
    return {"pairwise": pairwise, "scale": pairwise == "embedded_gaussian"}


def _network(shapes: Shapes, options: Mapping[str, Any]) -> Found:
    if any("pathway1" in key for key in shapes):
        raise CheckpointError("it has two pathways; C2D and I3D, which are known here, have one")
    depths = [_count(shapes, f"s{stage}.pathway0_res") for stage in STAGES]
    base_width, in_channels, *_ = shapes.axes("s1.pathway0_stem.conv.weight", 5)
    inner_channels, group_channels, *_ = shapes.axes("s2.pathway0_res0.branch2.b.weight", 5)
    groups = max(1, inner_channels // group_channels)
    given: dict[str, Any] = {
        "block": "bottleneck",
        "depths": depths,
        "base_width": base_width,
        "groups": groups,
        "width_per_group": 64 * inner_channels // (groups * base_width),
        "num_classes": shapes.axes("head.projection.weight", 2)[0],
        "in_channels": in_channels,
        "inflation": _inflation(shapes),
        "dropout": 0.5,
    }
    assumed: dict[str, Any] = {"geometry": "slowfast", "stride_in": "3x3"}
    blocks = [
        [stage - 1, index]
        for stage, depth in zip(STAGES, depths, strict=True)
        for index in range(depth)
        if f"s{stage}.pathway0_nonlocal{index}.conv_g.weight" in shapes
    ]
    if blocks:
        chosen = {"pool": "before"} | _non_local(options)
        given |= {"mechanism": "nonlocal", "blocks": blocks, "options": chosen}
        return Found(Architecture("video_resnet", given | assumed), assumed | chosen)
    return Found(Architecture("video_resnet", given | assumed), assumed)


def _count(shapes: Shapes, prefix: str) -> int:
    """Blocks of a stage. A gap in the count is a missing key: a number in a key is no reason to build that much."""
    blocks = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
    for index in range(max(1, len(blocks))):
        if str(index) not in blocks:
            raise CheckpointError(f"{prefix}{index}.branch2.a.weight is missing")
    return len(blocks)


def _inflation(shapes: Shapes) -> str:
    """Which kernels span time, by those of the first block."""
    stem, first, second = (
        shapes.axes(key, 5)[2]
        for key in (
            "s1.pathway0_stem.conv.weight",
            "s2.pathway0_res0.branch2.a.weight",
            "s2.pathway0_res0.branch2.b.weight",
        )
    )
    kernels = {shape[2] for key, shape in shapes.items() if len(shape) == 5 and ".branch2." in key}
    if stem == 1 and kernels != {1}:
        raise CheckpointError("its kernels span time, but not in the stem, as SlowOnly's; C2D and I3D are known here")
    return "3x3x3" if second > 1 else "3x1x1" if first > 1 or stem > 1 else "none"


def _their_name(key: str, network: nn.Module) -> str:
    if not key.startswith("layer"):
        return part_name(part_name(key, NETWORK_PARTS), BLOCK_PARTS)
    stage, index, part = key.removeprefix("layer").split(".", 2)
    prefix = f"s{int(stage) + 1}.pathway0"
    if part.startswith("mechanism."):
        return f"{prefix}_nonlocal{index}.{part_name(part.removeprefix('mechanism.'), BLOCK_PARTS)}"
    return f"{prefix}_res{index}.{part_name(part, RESIDUAL_PARTS)}"


def _their_shape(key: str, shape: Shape, spatial_dims: int) -> Shape:
    part = key.rpartition("mechanism.")[2]
    projection = part in ("theta.weight", "phi.weight", "g.weight", "out.weight")
    return (*shape, 1, 1, 1) if projection else shape


SLOWFAST = Publisher(
    "facebookresearch/SlowFast",
    _recognise,
    _their_name,
    _their_shape,
    free=("pairwise", "pool", "geometry", "stride_in"),
    inside=("pairwise", "pool"),
    values={
        "pairwise": ("embedded_gaussian", "dot_product"),
        "pool": ("none", "before"),
        "geometry": ("slowfast", "frames"),
    },
)
