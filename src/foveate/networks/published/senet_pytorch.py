"""moskomule/senet.pytorch: SE-ResNets with linear layers, released without and at first with biases."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds, once, read_residual, squeezes

__all__ = ["MOSKOMULE"]

PARTS = (("fc1", "fc.0"), ("fc2", "fc.2"))


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if set(shapes) <= {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"}:
        hidden_channels, channels = shapes.axes("fc.0.weight", 2)
        bias = "fc.0.bias" in shapes
        return Found(Architecture("se", {"channels": channels, "hidden_channels": hidden_channels, "bias": bias}))
    if not holds(shapes, ".se.fc.0."):
        return None
    network = read_residual(shapes)
    given = squeezes(shapes, "layer{stage}.0.se.fc.0.weight", network["depths"])
    if not holds(shapes, ".se.fc.0.bias"):
        given = [stage | {"bias": False} for stage in given]
    return Found(Architecture("resnet", network | {"mechanism": "se", "options": once(given)}))


def _their_name(key: str, network: nn.Module) -> str:
    block, inside, part = key.rpartition("mechanism.")
    if inside:
        return f"{block}se.{part_name(part, PARTS)}"
    return key if hasattr(network, "layer1") else part_name(key, PARTS)


MOSKOMULE = Publisher("moskomule/senet.pytorch", _recognise, _their_name)
