"""torchvision: resnet*, resnext*, wide_resnet* and mobilenet_v2; most code gives its plain ResNets the same keys."""

from collections.abc import Mapping
from typing import Any

from foveate.networks.architecture import Architecture
from foveate.networks.published.ecanet import read_mobilenet
from foveate.networks.published.publisher import Found, Publisher, Shapes
from foveate.networks.published.residual import holds, is_residual, read_residual

__all__ = ["TORCHVISION"]


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if holds(shapes, "features.0.0.weight") and holds(shapes, "features.18.0.weight"):
        return Found(Architecture("mobilenet_v2", read_mobilenet(shapes)[0]))
    if not (is_residual(shapes) and holds(shapes, "bn1.running_mean")):
        return None
    network = read_residual(shapes)
    assumed = {"stride_in": "3x3"} if network["block"] == "bottleneck" else {}
    return Found(Architecture("resnet", network), assumed)


TORCHVISION = Publisher("torchvision", _recognise, lambda key, network: key)
