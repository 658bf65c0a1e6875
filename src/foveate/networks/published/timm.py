"""timm: seresnet*, seresnext*, ecaresnet* and resnet* with their "d", "t" and "rs" stems and shortcuts."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shape, Shapes
from foveate.networks.published.residual import holds, is_residual, once, read_residual, squeezes

__all__ = ["TIMM"]


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    se, eca = holds(shapes, ".se.fc1."), holds(shapes, ".se.conv.")
    own_stem = holds(shapes, "conv1.0.") or holds(shapes, "maxpool.0.") or holds(shapes, "layer2.0.downsample.2.")
    if not (se or eca or own_stem) or not is_residual(shapes):
        return None
    network = read_residual(shapes)
    depths = network["depths"]
    if se:
        network |= {
            "mechanism": "se",
            "options": once(squeezes(shapes, "layer{stage}.0.se.fc1.weight", depths, axes=4)),
        }
    elif eca:
        kernels = [shapes.axes(f"layer{stage + 1}.0.se.conv.weight", 3)[2] for stage in range(len(depths))]
        network |= {"mechanism": "eca", "options": once([{"kernel_size": size} for size in kernels])}
    assumed = {"stride_in": "3x3"} if network["block"] == "bottleneck" else {}
    return Found(Architecture("resnet", network), assumed)


def _their_name(key: str, network: nn.Module) -> str:
    return key.replace(".mechanism.", ".se.")


def _their_shape(key: str, shape: Shape, spatial_dims: int) -> Shape:
    projection = ".mechanism.fc" in key and key.endswith(".weight")
    return (*shape, 1, 1) if projection else shape


TIMM = Publisher("timm", _recognise, _their_name, _their_shape)
