"""Cadene/pretrained-models.pytorch: the SENets of the original Caffe release; timm has the same files as legacy_se*."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shape, Shapes, part_name
from foveate.networks.published.residual import holds, once, read_residual, squeezes

__all__ = ["CADENE"]

HEAD = ("fc", "last_linear")
STEM = (("conv1", "layer0.conv1"), ("bn1", "layer0.bn1"), HEAD)
DEEP_STEM = (
    ("conv1.0", "layer0.conv1"),
    ("conv1.1", "layer0.bn1"),
    ("conv1.3", "layer0.conv2"),
    ("conv1.4", "layer0.bn2"),
    ("conv1.6", "layer0.conv3"),
    ("bn1", "layer0.bn3"),
    HEAD,
)


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if set(shapes) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}:
        hidden_channels, channels, *_ = shapes.axes("fc1.weight", 4)
        return Found(Architecture("se", {"channels": channels, "hidden_channels": hidden_channels}))
    if not holds(shapes, ".se_module."):
        return None
    stem = ("layer0.conv1", "layer0.conv2", "layer0.conv3") if holds(shapes, "layer0.conv2.") else ("layer0.conv1",)
    network = read_residual(shapes, stem=stem, head="last_linear")
    given = squeezes(shapes, "layer{stage}.0.se_module.fc1.weight", network["depths"], axes=4)
    network |= {"mechanism": "se", "options": once(given)}
    # The Caffe release steps in the first 1x1 convolution; its ResNeXts and SENet-154 in the 3x3.
    first = network["block"] == "bottleneck" and network["groups"] == 1
    assumed: dict[str, Any] = {"stem_pool": "ceil", "stride_in": "1x1" if first else "3x3"}
    if network["block"] == "basic":  # these are timm's alone
        assumed = {"stem_pool": "ceil", "branch_relu": True}
    if len(stem) == 3:
        network["dropout"] = 0.2
    return Found(Architecture("resnet", network | assumed), assumed)


def _their_name(key: str, network: nn.Module) -> str:
    if not hasattr(network, "layer1"):
        return key
    deep = isinstance(network.conv1, nn.Sequential)
    return part_name(key, DEEP_STEM if deep else STEM).replace(".mechanism.", ".se_module.")


def _their_shape(key: str, shape: Shape, spatial_dims: int) -> Shape:
    projection = key.endswith(("fc1.weight", "fc2.weight"))
    return (*shape, 1, 1) if projection else shape


CADENE = Publisher("Cadene/pretrained-models.pytorch", _recognise, _their_name, _their_shape)
