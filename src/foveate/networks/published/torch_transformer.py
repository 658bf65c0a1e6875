"""PyTorch: torch.nn.Transformer, the two stacks with a normalisation behind each, without embeddings and logits."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes

__all__ = ["TORCH"]

STACKS = ("encoder.", "decoder.")
KNOWN = {"decoder.layers.0.multihead_attn.in_proj_weight", "decoder.norm.weight"}
ASSUMED = {
    "num_heads": 8,
    "pre_norm": False,
    "norm_eps": 1e-5,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
}


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if not set(shapes) >= KNOWN or not all(key.startswith(STACKS) for key in shapes):
        return None
    hidden, channels = shapes.axes("decoder.layers.0.linear1.weight", 2)
    counts = {f"{stack}_layers": _count(shapes, f"{stack}.layers.") for stack in ("encoder", "decoder")}
    network = {"embed_dim": channels, "hidden_channels": hidden, **counts, "final_norm": True}
    return Found(Architecture("encoder_decoder", network | ASSUMED), ASSUMED)


def _count(shapes: Shapes, prefix: str) -> int:
    """Layers. Not the largest number: a number in a key is no reason to build that much."""
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


def _their_name(key: str, network: nn.Module) -> str:
    return key.replace(".cross_attn.", ".multihead_attn.")


TORCH = Publisher("pytorch/torch.nn.Transformer", _recognise, _their_name, free=("num_heads", "pre_norm", "norm_eps"))
