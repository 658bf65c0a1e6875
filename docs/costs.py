"""The tables of costs in docs/mechanisms and docs/networks, counted on the meta device."""

from typing import Any

import torch

from foveate import networks
from foveate.compare.cost import count_macs, count_parameters
from foveate.layers import AttentionGate, VolumetricAttention, catalogue

AGGREGATIONS = ("concat", "mean", "deep_sup", "ft")
COUNTED = "MACs are those of convolutions, linear layers and matrix products.\n"


def of_mechanism(name: str) -> str:
    """What a mechanism adds to a ResNet-50 on a 224 x 224 picture, counted."""
    with torch.device("meta"):
        layer = catalogue.build(name, 256)
        plain, gated = networks.resnet50(), networks.resnet50(mechanism=name)
        picture = torch.empty(1, 3, 224, 224)
        parameters = [count_parameters(network) for network in (plain, gated)]
        macs = [count_macs(network.eval(), picture) for network in (plain, gated)]
    return (
        "| | parameters | MACs at 224 x 224 |\n|---|---:|---:|\n"
        f"| one layer, 256 channels | {count_parameters(layer):,} | |\n"
        f"| ResNet-50 | {parameters[0]:,} | {macs[0]:,} |\n"
        f"| ResNet-50 with `{name}` | {parameters[1]:,} (+{parameters[1] / parameters[0] - 1:.2%}) "
        f"| {macs[1]:,} (+{macs[1] / macs[0] - 1:.2%}) |\n\n"
        "MACs are those of convolutions, linear layers and matrix products. What a mechanism costs in time, on your\n"
        "machine and at your sizes, is what `foveate compare` and `foveate profile` measure.\n"
    )


def of_gates() -> str:
    """What attention gates add to a U-Net on a volume, counted."""
    with torch.device("meta"):
        gate = AttentionGate(64, 128, 64, spatial_dims=3)
        hosts = [networks.attention_unet(num_classes=4, spatial_dims=3, gates=gates).eval() for gates in (0, 1, 2)]
        volume = torch.empty(1, 1, 64, 64, 64)
        parameters, macs = map(count_parameters, hosts), [count_macs(host, volume) for host in hosts]
    names = ("U-Net in 3-D, four classes", "with a gate on each connection but the first", "with two")
    rows = "".join(
        f"| {name} | {count:,} | {work:,}{f' (+{work / macs[0] - 1:.2%})' if work > macs[0] else ''} |\n"
        for name, count, work in zip(names, parameters, macs, strict=True)
    )
    return (
        "| | parameters | MACs at 64 x 64 x 64 |\n|---|---:|---:|\n"
        f"| one gate in 3-D, 64 channels, 128 of the signal | {count_parameters(gate):,} | |\n{rows}\n{COUNTED}"
    )


def of_volumetric() -> str:
    """What volumetric attention adds to Mask R-CNN, counted; MACs of what stands before the regions, for one slice."""
    bag, size = 9, 512
    with torch.device("meta"):
        layer = VolumetricAttention(256).eval()
        plain, gated = networks.mask_rcnn_resnet50().eval(), networks.va_mask_rcnn_resnet50(bag=bag).eval()
        x, one = torch.empty(1, 256, size // 4, size // 4), torch.empty(1, 3, size, size)
        host, finest = count_macs(Features(plain.backbone), one), count_macs(layer, (x, x.expand(1, bag, *x.shape[1:])))
        anew = count_macs(Bag(gated.backbone), torch.empty(1, bag, 3, size, size))
    parameters = [count_parameters(network) for network in (plain, gated)]
    return (
        f"| | parameters | MACs at {size} x {size}, bags of {bag} |\n|---|---:|---:|\n"
        f"| one layer, 256 channels, on the finest level | {count_parameters(layer):,} | {finest:,} |\n"
        f"| Mask R-CNN on ResNet-50, two classes | {parameters[0]:,} | {host:,} |\n"
        f"| VA Mask R-CNN, the bag read anew | {parameters[1]:,} (+{parameters[1] / parameters[0] - 1:.2%}) "
        f"| {anew:,} |\n\n"
        "MACs are those of the residual network, the pyramid and attention: convolutions and linear layers.\n"
    )


class Features(torch.nn.Module):
    """The levels of a pyramid without attention."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> Any:
        return self.backbone.features(x)


class Bag(Features):
    """The levels of the middle slice of a bag, attended."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.backbone(x, x.shape[1] // 2, True)


def of_unets() -> str:
    """U-Net with and without gates, in 3-D with four classes and in 2-D with two, counted."""
    rows = [
        "| | 3-D, parameters | MACs at 64 x 64 x 64 | 2-D, parameters | MACs at 160 x 160 |",
        "|---|---:|---:|---:|---:|",
    ]
    given: dict[str, dict[str, Any]] = {
        "`unet()`": {"gates": 0},
        "`attention_unet()`": {"gates": 1},
        "`attention_unet(gates=2)`": {"gates": 2},
        "`unet(fused_heads=False)`": {"gates": 0, "fused_heads": False},
    }
    for name, options in given.items():
        cells = []
        for classes, space in ((4, (64, 64, 64)), (2, (160, 160))):
            with torch.device("meta"):
                network = networks.unet(num_classes=classes, spatial_dims=len(space), **options)
            cells += [f"{count_parameters(network):,}", f"{count_macs(network, (1, 1, *space)):,}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", COUNTED])


def of_sononets() -> str:
    """Sononet, and AG-Sononet with every aggregation, counted."""
    rows = [
        f"| | without gates | MACs at 208 x 272 | {' | '.join(AGGREGATIONS)} | MACs at 208 x 272 |",
        f"|---|{'---:|' * (3 + len(AGGREGATIONS))}",
    ]
    for width in (8, 16, 32):
        plain, gated = getattr(networks, f"sononet{width}"), getattr(networks, f"ag_sononet{width}")
        with torch.device("meta"):
            made = [plain(), *(gated(aggregation=aggregation) for aggregation in AGGREGATIONS)]
        parameters = [f"{count_parameters(network):,}" for network in made]
        macs = [f"{count_macs(network, (1, 1, 208, 272)):,}" for network in made[:2]]
        cells = [parameters[0], macs[0], *parameters[1:], macs[1]]
        rows.append(f"| {width} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"Parameters with one channel and 14 classes. {COUNTED}"])


def of_detrs() -> str:
    """DETR as released, and its head for masks, counted."""
    rows = ["| | parameters | trained | MACs at 480 x 640 | MACs at 800 x 1066 |", "|---|---:|---:|---:|---:|"]
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "`detr_resnet50()`": ("detr_resnet50", {}),
        "`detr_resnet50(dilation=True)`": ("detr_resnet50", {"dilation": True}),
        "`detr_resnet101()`": ("detr_resnet101", {}),
        "`detr_resnet101(dilation=True)`": ("detr_resnet101", {"dilation": True}),
        "`detr_resnet50(panoptic=True, num_classes=250)`": ("detr_resnet50", {"panoptic": True, "num_classes": 250}),
    }
    for name, (builder, options) in given.items():
        with torch.device("meta"):
            network = getattr(networks, builder)(**options).eval()
        trained = sum(each.numel() for each in network.parameters() if each.requires_grad)
        macs = [f"{count_macs(network, (1, 3, *space)):,}" for space in ((480, 640), (800, 1066))]
        rows.append(f"| {name} | {count_parameters(network):,} | {trained:,} | {' | '.join(macs)} |")
    return "\n".join([*rows, "", COUNTED])


def of_transformers() -> str:
    """The paper's Transformers and what their options change, counted."""
    rows = ["| | parameters | MACs of 40 source and 40 target tokens |", "|---|---:|---:|"]
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "`transformer_base()`": ("transformer_base", {}),
        "`transformer_base(bias=False)`": ("transformer_base", {"bias": False}),
        "`transformer_base(tied=False)`": ("transformer_base", {"tied": False}),
        "`transformer_big()`": ("transformer_big", {}),
    }
    for name, (builder, options) in given.items():
        with torch.device("meta"):
            network = getattr(networks, builder)(**options).eval()
            tokens = torch.zeros(1, 40, dtype=torch.long)
        rows.append(f"| {name} | {count_parameters(network):,} | {count_macs(network, (tokens, tokens)):,} |")
    return "\n".join([*rows, "", f"With 37,000 tokens. {COUNTED}"])
