"""What papers call a network or a layer."""

from collections.abc import Mapping
from typing import Any

from foveate.networks.architecture import Architecture, defaults_of
from foveate.networks.resnet import ResNet

__all__ = ["title"]

MECHANISMS = {"nonlocal": "NL", "scse": "scSE", "volumetric": "VA"}


def title(architecture: Architecture) -> str:
    """Such as "CBAM-ResNet-50", "SE-ResNeXt-101 (32x4d)" or "ECA, kernel 5"."""
    options = defaults_of(architecture.type) | dict(architecture.options)
    if architecture.kind == "resnet":
        name = _residual(options)
        return name if options["mechanism"] == "se" and name.startswith("SENet") else _mechanism(options) + name
    if architecture.kind == "video_resnet":
        kind = "C2D" if options["inflation"] == "none" else f"I3D {options['inflation']}"
        return f"{_mechanism(options)}{kind}, {_residual(options)}"
    if architecture.kind == "detr":
        host = defaults_of(ResNet) | {**options["backbone"], "mechanism": options["mechanism"]}
        kind = "DETR-DC5" if options["dilation"] else "DETR"
        return f"{'panoptic ' if options['panoptic'] else ''}{kind}, {_mechanism(host)}{_residual(host)}"
    if architecture.kind == "mask_rcnn":
        host = defaults_of(ResNet) | {**options["backbone"], "mechanism": None}
        bag = f", bags of {options['bag']}" if options["bag"] > 1 else ""
        kind = "Mask R-CNN" if options["mask_channels"] else "Faster R-CNN"
        return f"{_mechanism(options)}{kind}, {_residual(host)}{bag}"
    if architecture.kind in ("transformer", "encoder_decoder"):
        kind = "Transformer" if architecture.kind == "transformer" else "the stacks of a Transformer"
        layers = f"{options['encoder_layers']} + {options['decoder_layers']} layers"
        return f"{kind}, {layers} of {options['embed_dim']} channels"
    if architecture.kind == "unet":
        gates = {0: "U-Net", 1: "Attention U-Net"}.get(
            options["gates"], f"Attention U-Net, {options['gates']} gates a skip connection"
        )
        signal = ", one signal for all gates" if options["shared_signal"] else ""
        return f"{gates}{signal}, {options['spatial_dims']}-D"
    if architecture.kind == "sononet":
        return f"{_mechanism(options)}Sononet, {'-'.join(map(str, options['convs']))} convolutions"
    if architecture.kind == "ag_sononet":
        return f"AG-Sononet, {options['aggregation']}"
    if architecture.kind == "monai_attention_unet":
        return f"MONAI's AttentionUnet, a variant of Attention U-Net, {options['spatial_dims']}-D"
    if architecture.kind == "mobilenet_v2":
        return f"{_mechanism(options)}MobileNetV2"
    return f"a layer of {architecture.type.__name__}"


def _mechanism(options: Mapping[str, Any]) -> str:
    name = options["mechanism"]
    return f"{MECHANISMS.get(name, name.upper())}-" if name else ""


def _residual(options: Mapping[str, Any]) -> str:
    depth = sum(options["depths"]) * (2 if options["block"] == "basic" else 3) + 2
    groups, per_group = options["groups"], options["width_per_group"]
    if options["first_width"] != 1.0:
        name = f"SENet-{depth + 2}"
    elif groups > 1:
        name = f"ResNeXt-{depth} ({groups}x{per_group}d)"
    elif per_group > 64:
        name = f"Wide ResNet-{depth}-{per_group // 64}"
    else:
        name = f"ResNet-{depth}"
    return f"{name} for small pictures" if options["stem"] == "cifar" else name
