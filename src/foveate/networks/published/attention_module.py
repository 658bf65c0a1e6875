"""Jongchan/attention-module: CBAM- and BAM-ResNets for ImageNet and CIFAR."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.layers import BAM
from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes, part_name
from foveate.networks.published.residual import holds, once, read_residual, squeezes
from foveate.networks.resnet import ResNet

__all__ = ["JONGCHAN"]

CBAM_PARTS = (
    ("fc1", "ChannelGate.mlp.1"),
    ("fc2", "ChannelGate.mlp.3"),
    ("spatial.conv", "SpatialGate.spatial.conv"),
    ("spatial.norm", "SpatialGate.spatial.bn"),
)
BAM_PARTS = (
    ("channel.reduce", "channel_att.gate_c.gate_c_fc_0"),
    ("channel.norm", "channel_att.gate_c.gate_c_bn_1"),
    ("channel.expand", "channel_att.gate_c.gate_c_fc_final"),
    ("spatial.reduce", "spatial_att.gate_s.gate_s_conv_reduce0"),
    ("spatial.norm", "spatial_att.gate_s.gate_s_bn_reduce0"),
    ("spatial.conv1", "spatial_att.gate_s.gate_s_conv_di_0"),
    ("spatial.norm1", "spatial_att.gate_s.gate_s_bn_di_0"),
    ("spatial.conv2", "spatial_att.gate_s.gate_s_conv_di_1"),
    ("spatial.norm2", "spatial_att.gate_s.gate_s_bn_di_1"),
    ("spatial.project", "spatial_att.gate_s.gate_s_conv_final"),
)
PRODUCT = {"combine": "product"}  # the release multiplies the branches, the paper adds them
CHANNEL = "ChannelGate.mlp.1.weight"
REDUCE = "channel_att.gate_c.gate_c_fc_0.weight"


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if CHANNEL in shapes:
        hidden_channels, channels = shapes.axes(CHANNEL, 2)
        given = {"channels": channels, "hidden_channels": hidden_channels}
        return Found(Architecture("cbam", given | _spatial(shapes, "")))
    if REDUCE in shapes:
        hidden_channels, channels = shapes.axes(REDUCE, 2)
        given = {"channels": channels, "hidden_channels": hidden_channels}
        return Found(Architecture("bam", given | PRODUCT), PRODUCT)
    if holds(shapes, ".cbam.ChannelGate."):
        network = read_residual(shapes)
        given = squeezes(shapes, f"layer{{stage}}.0.cbam.{CHANNEL}", network["depths"])
        given = [stage | _spatial(shapes, "layer1.0.cbam.") for stage in given]
        return Found(Architecture("resnet", network | {"mechanism": "cbam", "options": once(given)}))
    if holds(shapes, "bam1.channel_att."):
        network = read_residual(shapes)
        given = [stage | PRODUCT for stage in squeezes(shapes, f"bam{{stage}}.{REDUCE}", network["depths"][:-1])]
        given.append(given[-1])  # the last stage has no BAM behind it
        return Found(Architecture("resnet", network | {"mechanism": "bam", "options": once(given)}), PRODUCT)
    return None


def _spatial(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The options that the spatial gate of a CBAM tells."""
    if not holds(shapes, "SpatialGate."):
        return {"spatial": False}
    kernel_size = shapes.axes(f"{prefix}SpatialGate.spatial.conv.weight", 4)[2]
    return {} if kernel_size == 7 else {"kernel_size": kernel_size}


def _their_name(key: str, network: nn.Module) -> str:
    if not isinstance(network, ResNet):
        return part_name(key, BAM_PARTS if isinstance(network, BAM) else CBAM_PARTS)
    block, inside, part = key.rpartition("mechanism.")
    if not inside:
        return key
    if isinstance(network.get_submodule(f"{block}mechanism"), BAM):
        stage = re.match(r"layer(\d)", block)
        return f"bam{stage[1] if stage else ''}.{part_name(part, BAM_PARTS)}"
    return f"{block}cbam.{part_name(part, CBAM_PARTS)}"


JONGCHAN = Publisher("Jongchan/attention-module", _recognise, _their_name, free=("pools",))
