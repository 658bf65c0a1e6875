"""ozan-oktay/Attention-Gated-Networks: the 3-D U-Nets with 0, 1 and 2 gates a skip connection, and AG-Sononet."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.layers import AttentionGate
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds
from foveate.networks.sononet import CONVS, AGSononet

__all__ = ["GATED_NETWORKS"]

LEVELS = (1, 2, 3, 4)
PAIR = (1, 2)
GATES = [(f"skips.{k}.gates.{i - 1}", f"attentionblock{k}.gate_block_{i}") for k in LEVELS for i in PAIR]
UNET_PARTS = (
    *((f"encoder.{k}.0.conv{i}", f"conv{k}.conv{i}.0") for k in LEVELS for i in PAIR),
    *((f"encoder.{k}.0.norm{i}", f"conv{k}.conv{i}.1") for k in LEVELS for i in PAIR),
    *((f"encoder.5.0.conv{i}", f"center.conv{i}.0") for i in PAIR),
    *((f"encoder.5.0.norm{i}", f"center.conv{i}.1") for i in PAIR),
    ("gating.conv", "gating.conv1.0"),
    ("gating.norm", "gating.conv1.1"),
    *((f"{ours}.out", f"{theirs}.W.0") for ours, theirs in GATES),
    *((f"{ours}.norm", f"{theirs}.W.1") for ours, theirs in GATES),
    *GATES,
    *((f"skips.{k}.combine.conv", f"attentionblock{k}.combine_gates.0") for k in LEVELS),
    *((f"skips.{k}.combine.norm", f"attentionblock{k}.combine_gates.1") for k in LEVELS),
    *((f"decoder.{k}.0.conv{i}", f"up_concat{k}.conv.conv{i}.0") for k in LEVELS for i in PAIR),
    *((f"decoder.{k}.0.norm{i}", f"up_concat{k}.conv.conv{i}.1") for k in LEVELS for i in PAIR),
    ("heads.1", "dsv1"),
    *((f"heads.{k}", f"dsv{k}.dsv.0") for k in LEVELS[1:]),
)
STAGES = [(stage, index) for stage, convs in enumerate(CONVS, start=1) for index in range(1, convs + 1)]
SONONET_PARTS = (
    *((f"stages.{k}.conv{i}", f"conv{k}.conv{i}.0") for k, i in STAGES),
    *((f"stages.{k}.norm{i}", f"conv{k}.conv{i}.1") for k, i in STAGES),
    *((f"gates.{k + 2}", f"compatibility_score{k}") for k in PAIR),
    *((f"classifiers.{k + 2}", f"classifier{k}") for k in (1, 2, 3)),
)


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if {"theta.weight", "phi.weight", "psi.weight"} <= set(shapes):
        return _gate(shapes)
    if holds(shapes, "compatibility_score1."):
        return _sononet(shapes)
    if not (holds(shapes, "up_concat4.conv.") and holds(shapes, "dsv2.dsv.")):
        return None
    spatial_dims = min(max(len(shapes["conv1.conv1.0.weight"]) - 2, 1), 3)
    axes = spatial_dims + 2
    blocks = [*(f"conv{k}" for k in LEVELS), "center"]
    network = {
        "in_channels": shapes.axes("conv1.conv1.0.weight", axes)[1],
        "num_classes": shapes.axes("final.weight", axes)[0],
        "widths": [shapes.axes(f"{block}.conv1.0.weight", axes)[0] for block in blocks],
        "gates": 2 if holds(shapes, ".gate_block_2.") else 1 if holds(shapes, ".gate_block_1.") else 0,
        "spatial_dims": spatial_dims,
    }
    return Found(Architecture("unet", network), {}, spatial_dims)


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
    joined, each = "classifier.weight" in shapes, "classifier3.weight" in shapes
    widths = [shapes.axes(f"conv{k}.conv1.0.weight", 4)[0] for k in LEVELS]
    classes, features = shapes.axes("classifier.weight" if joined else "classifier3.weight", 2)
    aggregation = "mean" if not joined else "concat" if not each else "ft" if features == 3 * classes else "deep_sup"
    assumed = {"normalisation": "mean_flow"}
    network = {
        "in_channels": shapes.axes("conv1.conv1.0.weight", 4)[1],
        "num_classes": classes,
        "widths": widths,
        "aggregation": aggregation,
    }
    return Found(Architecture("ag_sononet", network | assumed), assumed)


def _their_name(key: str, network: nn.Module) -> str:
    if isinstance(network, AttentionGate):
        return part_name(key, (("out", "W.0"), ("norm", "W.1")))
    return part_name(key, SONONET_PARTS if isinstance(network, AGSononet) else UNET_PARTS)


GATED_NETWORKS = Publisher(
    "ozan-oktay/Attention-Gated-Networks",
    _recognise,
    _their_name,
    free=("activation", "normalisation", "align_corners"),
)
