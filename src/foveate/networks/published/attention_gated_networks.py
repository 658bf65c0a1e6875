"""ozan-oktay/Attention-Gated-Networks: the 3-D U-Nets with 0, 1 and 2 gates a skip connection, and the Sononets."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.layers import AttentionGate
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds
from foveate.networks.sononet import Stages
from foveate.networks.unet import UNet

__all__ = ["GATED_NETWORKS"]

LEVELS = (1, 2, 3, 4)
PAIR = (1, 2)
UNET_PARTS = (
    *((f"encoder.{k}.0.conv{i}", f"conv{k}.conv{i}.0") for k in LEVELS for i in PAIR),
    *((f"encoder.{k}.0.norm{i}", f"conv{k}.conv{i}.1") for k in LEVELS for i in PAIR),
    *((f"encoder.5.0.conv{i}", f"center.conv{i}.0") for i in PAIR),
    *((f"encoder.5.0.norm{i}", f"center.conv{i}.1") for i in PAIR),
    ("gating.conv", "gating.conv1.0"),
    ("gating.norm", "gating.conv1.1"),
    *((f"skips.{k}.combine.conv", f"attentionblock{k}.combine_gates.0") for k in LEVELS),
    *((f"skips.{k}.combine.norm", f"attentionblock{k}.combine_gates.1") for k in LEVELS),
    *((f"decoder.{k}.0.conv{i}", f"up_concat{k}.conv.conv{i}.0") for k in LEVELS for i in PAIR),
    *((f"decoder.{k}.0.norm{i}", f"up_concat{k}.conv.conv{i}.1") for k in LEVELS for i in PAIR),
)
HEADS = (("heads.1", "dsv1"), *((f"heads.{k}", f"dsv{k}.dsv.0") for k in LEVELS[1:]))
LONE_HEAD = (("heads.1", "final"),)
GATE_PARTS = (("out", "W.0"), ("norm", "W.1"))
GATES = tuple((f"skips.{k}.gates.{i - 1}", f"attentionblock{k}.gate_block_{i}") for k in LEVELS for i in PAIR)
LONE_GATES = tuple((f"skips.{k}.gates.0", f"attentionblock{k}") for k in LEVELS)
SONONET_PARTS = (
    ("hidden.conv", "conv5_p.cbr_unit.0"),
    ("hidden.norm", "conv5_p.cbr_unit.1"),
    ("classifier.conv", "conv6_p.cb_unit.0"),
    ("classifier.norm", "conv6_p.cb_unit.1"),
    *((f"gates.{k + 2}", f"compatibility_score{k}") for k in PAIR),
    *((f"classifiers.{k + 2}", f"classifier{k}") for k in (1, 2, 3)),
)


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if {"theta.weight", "phi.weight", "psi.weight"} <= set(shapes):
        return _gate(shapes)
    if holds(shapes, "compatibility_score1."):
        return _ag_sononet(shapes)
    if holds(shapes, "conv6_p.cb_unit."):
        return _sononet(shapes)
    return _unet(shapes) if holds(shapes, "up_concat4.conv.") and holds(shapes, "center.conv1.") else None


def _unet(shapes: Shapes) -> Found:
    spatial_dims = min(max(len(shapes["conv1.conv1.0.weight"]) - 2, 1), 3)
    axes = spatial_dims + 2
    blocks = [*(f"conv{k}" for k in LEVELS), "center"]
    _, channels, *kernel = shapes.axes("conv1.conv1.0.weight", axes)
    older = holds(shapes, "attentionblock4.theta.")
    network = {
        "in_channels": channels,
        "num_classes": shapes.axes("final.weight", axes)[0],
        "widths": [shapes.axes(f"{block}.conv1.0.weight", axes)[0] for block in blocks],
        "gates": 2 if holds(shapes, ".gate_block_2.") else 1 if older or holds(shapes, ".gate_block_1.") else 0,
        "spatial_dims": spatial_dims,
    }
    if set(kernel) != {3}:
        network["kernel_size"] = kernel
    if network["gates"]:
        theta = shapes.axes(f"attentionblock4{'' if older else '.gate_block_1'}.theta.weight", axes)
        network["gate_options"] = {"stride": list(theta[2:])}
    if older:
        network |= {"shared_signal": True, "fused_gates": False}
    if holds(shapes, "dsv2.dsv."):
        return Found(Architecture("unet", network), {}, spatial_dims)
    # The networks without joined heads are for hearts, whose slices are thick: no step leads across them.
    assumed = {"strides": [2, 2, 1][:spatial_dims]}
    return Found(Architecture("unet", network | {"fused_heads": False} | assumed), assumed, spatial_dims)


def _gate(shapes: Shapes) -> Found:
    spatial_dims = min(max(len(shapes["theta.weight"]) - 2, 1), 3)
    hidden_channels, channels, *stride = shapes.axes("theta.weight", spatial_dims + 2)
    assumed = {"activation": "relu", "normalisation": "sigmoid"}
    gate = {
        "channels": channels,
        "gating_channels": shapes.axes("phi.weight", spatial_dims + 2)[1],
        "hidden_channels": hidden_channels,
        "stride": stride,
        "bias": "phi.bias" in shapes,
        "output": holds(shapes, "W.0.weight"),
        "spatial_dims": spatial_dims,
    }
    return Found(Architecture("attention_gate", gate | assumed), assumed, spatial_dims)


def _sononet(shapes: Shapes) -> Found:
    counted = [
        sum(key.startswith(f"conv{k}.conv") and key.endswith(".0.weight") for key in shapes) for k in (*LEVELS, 5)
    ]
    network = _stages(shapes) | {"num_classes": shapes.axes("conv6_p.cb_unit.0.weight", 4)[0], "convs": counted}
    return Found(Architecture("sononet", network))


def _ag_sononet(shapes: Shapes) -> Found:
    joined, each = "classifier.weight" in shapes, "classifier3.weight" in shapes
    classes, features = shapes.axes("classifier.weight" if joined else "classifier3.weight", 2)
    aggregation = "mean" if not joined else "concat" if not each else "ft" if features == 3 * classes else "deep_sup"
    assumed = {"normalisation": "mean_flow"}
    network = _stages(shapes) | {"num_classes": classes, "aggregation": aggregation}
    return Found(Architecture("ag_sononet", network | assumed), assumed)


def _stages(shapes: Shapes) -> dict[str, Any]:
    widths = [shapes.axes(f"conv{k}.conv1.0.weight", 4)[0] for k in LEVELS]
    return {"in_channels": shapes.axes("conv1.conv1.0.weight", 4)[1], "widths": widths}


def _their_name(key: str, network: nn.Module) -> str:
    if isinstance(network, AttentionGate):
        return part_name(key, GATE_PARTS)
    if isinstance(network, Stages):
        convs = [(k, i) for k, count in enumerate(network.convs, start=1) for i in range(1, count + 1)]
        parts = [
            (f"stages.{k}.{name}{i}", f"conv{k}.conv{i}.{n}")
            for k, i in convs
            for n, name in enumerate(("conv", "norm"))
        ]
        return part_name(key, (*SONONET_PARTS, *parts))
    if isinstance(network, UNet):
        heads = HEADS if network.fused_heads else LONE_HEAD
        for ours, theirs in LONE_GATES if network.shared_signal else GATES:
            if key.startswith(f"{ours}."):
                return f"{theirs}.{part_name(key.removeprefix(f'{ours}.'), GATE_PARTS)}"
        return part_name(key, (*UNET_PARTS, *heads))
    return key


GATED_NETWORKS = Publisher(
    "ozan-oktay/Attention-Gated-Networks",
    _recognise,
    _their_name,
    free=("activation", "normalisation", "align_corners"),
)
