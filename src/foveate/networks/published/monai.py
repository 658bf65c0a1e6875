"""MONAI's AttentionUnet, a variant of its own: it runs as MONAI has it.

Unlike the release, it steps by strided convolutions, resizes by transposed ones, gates every skip connection by the
decoder's resized features with a normalisation behind each projection of the gate, and has one head.
"""

from collections.abc import Mapping
from typing import Any

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shapes
from foveate.networks.published.residual import holds

__all__ = ["MONAI"]


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if not (holds(shapes, "model.1.attention.W_g.0.conv.") and holds(shapes, "model.2.conv.")):
        return None
    first = "model.0.conv.0.conv.weight"
    spatial_dims = min(max(len(shapes[first]) - 2, 1), 3)
    axes = spatial_dims + 2
    channels, level = [shapes.axes(first, axes)[0]], "model.1"
    while holds(shapes, f"{level}.submodule.0.conv."):
        channels.append(shapes.axes(f"{level}.submodule.0.conv.0.conv.weight", axes)[0])
        level = f"{level}.submodule.1"
    channels.append(shapes.axes(f"{level}.submodule.conv.0.conv.weight", axes)[0])
    assumed = {"strides": [2] * (len(channels) - 1)}
    network = {
        "spatial_dims": spatial_dims,
        "in_channels": shapes.axes(first, axes)[1],
        "out_channels": shapes.axes("model.2.conv.weight", axes)[0],
        "channels": channels,
        "kernel_size": list(shapes.axes(first, axes)[2:]),
        "up_kernel_size": list(shapes.axes("model.1.upconv.up.conv.weight", axes)[2:]),
    }
    return Found(Architecture("monai_attention_unet", network | assumed), assumed, spatial_dims)


MONAI = Publisher("MONAI", _recognise, lambda key, network: key)
