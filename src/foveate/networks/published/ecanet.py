"""BangguWu/ECANet: ECA-ResNets, whose kernels were set by hand, and ECA-MobileNetV2."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.errors import CheckpointError
from foveate.networks.architecture import Architecture
from foveate.networks.mobilenet import STAGES, MobileNetV2
from foveate.networks.published.publisher import Found, Publisher, Shapes
from foveate.networks.published.residual import holds, once, read_residual

__all__ = ["ECANET", "read_mobilenet"]


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    if set(shapes) == {"conv.weight"}:
        kernel_size = shapes.axes("conv.weight", 3)[2]
        if "channels" not in options:
            raise CheckpointError("conv.weight alone does not tell the channels; give them as channels")
        return Found(Architecture("eca", {"channels": options["channels"], "kernel_size": kernel_size}))
    if any(
        key.startswith("features.") and key.endswith((".conv.3.conv.weight", ".conv.4.conv.weight")) for key in shapes
    ):
        network, first_blocks = read_mobilenet(shapes)
        keys = [f"features.{block}.conv.{3 if block == 1 else 4}.conv.weight" for block in first_blocks]
        kernels = [shapes.axes(key, 3)[2] for key in keys]
        given = {"mechanism": "eca", "options": once([{"kernel_size": size} for size in kernels]), "dropout": 0.25}
        return Found(Architecture("mobilenet_v2", network | given))
    if not holds(shapes, ".eca.conv."):
        return None
    network = read_residual(shapes)
    kernels = [shapes.axes(f"layer{stage}.0.eca.conv.weight", 3)[2] for stage in range(1, len(network["depths"]) + 1)]
    network |= {"mechanism": "eca", "options": once([{"kernel_size": size} for size in kernels])}
    return Found(Architecture("resnet", network))


def read_mobilenet(shapes: Shapes) -> tuple[dict[str, Any], list[int]]:
    """The options of a MobileNetV2 that its convolutions tell, and the number of the first block of each stage."""
    stem, in_channels, *_ = shapes.axes("features.0.0.weight", 4)
    first_blocks, channels, block = [], [stem], 1
    for _, _, depth, _ in STAGES:
        first_blocks.append(block)
        channels.append(shapes.axes(f"features.{block}.conv.{1 if block == 1 else 2}.weight", 4)[0])
        block += depth
    classes, last = shapes.axes("classifier.1.weight", 2)
    network: dict[str, Any] = {"num_classes": classes, "in_channels": in_channels}
    if [*channels, last] != [32, *(stage[1] for stage in STAGES), 1280]:
        network["channels"] = [*channels, last]
    return network, first_blocks


def _their_name(key: str, network: nn.Module) -> str:
    if isinstance(network, MobileNetV2):
        place = 3 if key.startswith("features.1.") else 4
        return key.replace(".mechanism.", f".conv.{place}.")
    return key.replace(".mechanism.", ".eca.")


ECANET = Publisher("BangguWu/ECANet", _recognise, _their_name, free=("channels",))
