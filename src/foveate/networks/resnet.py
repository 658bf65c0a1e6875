"""Residual networks, with any mechanism at any of the places where one was published.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
Xie, Girshick, Dollar, Tu and He, "Aggregated Residual Transformations for Deep Neural Networks" (ResNeXt), CVPR 2017,
https://arxiv.org/abs/1611.05431.
Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks" (SENet-154), https://arxiv.org/abs/1709.01507.

foveate.networks.residual has the blocks, and a drawing of the positions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

from torch import Tensor, nn

from foveate.layers import catalogue
from foveate.networks.architecture import Architecture
from foveate.networks.places import Options, by_stage, chosen_blocks
from foveate.networks.residual import BasicBlock, Bottleneck, Position, ResidualBlock, Shortcut, StrideIn
from foveate.networks.stem import Stem, StemPool, stem_layers

__all__ = [
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_tiny",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "senet154",
]

Kind = Literal["basic", "bottleneck"]


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over space, linear classifier; keys as in torchvision.

    Stage k is `layer{k}`; the mechanism of a block is its child `mechanism`, and `sites` names each with its channels.
    The host's weights are drawn first (Kaiming normal, fan out), so one seed gives one host whatever the mechanism, and
    each mechanism keeps its own initial values. `architecture` says what builds the network again; it is None where the
    mechanism was given as a callable.

    Args:
        block: "basic" or "bottleneck".
        depths: Blocks in each stage, three or four stages.
        base_width: Channels of the stem and of the first stage; each stage doubles it, a bottleneck's output has four
            times as many.
        groups: Groups of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
        width_per_group: Channels of each of those groups in stage 1, when base_width is 64.
        num_classes: Outputs.
        in_channels: Channels of the picture.
        mechanism: A name of the catalogue or a chain such as "eca+spatial", or what makes a module from a number of
            channels. Default: none.
        options: Options of a mechanism given by name: one mapping, or one for each stage.
        position: Where in the block: see the drawing. Default: as published: "post" for bam and nonlocal, "standard"
            for the others.
        stages: Put the mechanism into these stages only, counted from 1. Default: as published.
        blocks: Put it into these blocks only: pairs (stage from 1, block from 0); or 1, 5 or 10, the blocks that
            non_local_blocks names. Default: as published: every block; the last block of every stage but the last for
            bam; non_local_blocks(depths, 5) for nonlocal.
        recompute: Do not keep what mechanisms read for their gradients; the backward pass normalises it again from what
            the normalisation keeps. A training step holds one map less for each block, and takes a little longer. For
            position "standard".
        stem: "imagenet" (7x7, stride 2), "deep" (three 3x3, the first with stride 2), "cifar" (3x3, stride 1) or "tiny"
            (3x3, stride 2).
        stem_channels: Channels of the stem, three numbers for the deep one. Default: base_width, and half of it in the
            first two convolutions of a deep stem.
        stem_pool: Behind the imagenet and the deep stem: "max" (default), "ceil" (the Caffe models: no padding, the
            last window cut off at the border) or "convolution" (3x3, stride 2).
        stride_in: Which convolution of a bottleneck makes the step, "3x3" or "1x1".
        shortcut: Where the shape changes: "1x1", "3x3" (with a step, SENet-154) or "pool" (a mean over 2x2 makes the
            step, timm's "d" networks).
        branch_relu: Whether the residual branch of a basic block ends with a ReLU (timm's legacy_seresnet18 and 34).
        first_width: Channels of a bottleneck's first 1x1 convolution as a share of those of its 3x3.
        dropout: Share of the features that training drops before the classifier.
        width: Multiplies every width; rounded, and kept divisible by groups.
        zero_init_last: Start every last normalisation of a block at zero (Goyal et al. 2017). A gate behind it then has
            no gradient at the first step.

    Shape:
        (batch, in_channels, height, width) -> (batch, num_classes).

    Raises:
        ValueError: An option that has no meaning here: a block that does not exist, stride_in="1x1" in a basic block, a
            position without a mechanism.
    """

    def __init__(
        self,
        block: Kind,
        depths: Sequence[int],
        *,
        base_width: int = 64,
        groups: int = 1,
        width_per_group: int = 64,
        num_classes: int = 1000,
        in_channels: int = 3,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Options | None = None,
        position: Position | None = None,
        stages: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | int | None = None,
        recompute: bool = False,
        stem: Stem = "imagenet",
        stem_channels: int | Sequence[int] | None = None,
        stem_pool: StemPool | None = None,
        stride_in: StrideIn = "3x3",
        shortcut: Shortcut = "1x1",
        branch_relu: bool = False,
        first_width: float = 1.0,
        dropout: float = 0.0,
        width: float = 1.0,
        zero_init_last: bool = False,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        _check_choice("block", block, Kind)
        _check_choice("stem", stem, Stem)
        _check_choice("stride_in", stride_in, StrideIn)
        _check_choice("shortcut", shortcut, Shortcut)
        if block == "bottleneck" and branch_relu:
            raise ValueError("branch_relu is for basic blocks; got block='bottleneck'")
        if len(depths) not in (3, 4):
            raise ValueError(f"depths must be of three or four stages; got {tuple(depths)}")
        if width <= 0:
            raise ValueError(f"width must be greater than 0; got {width}")
        if block == "basic" and (groups != 1 or stride_in != "3x3" or first_width != 1.0):
            raise ValueError(
                "groups, stride_in and first_width are for bottleneck blocks; basic blocks have no 1x1 convolution"
            )
        self.block, self.in_channels, self.depths, self.spatial_dims = block, in_channels, tuple(depths), 2
        self.stride_in = stride_in
        self.architecture = Architecture.of("resnet", arguments)
        widths = [_scale(channels, width) for channels in _stem_widths(stem, stem_channels, base_width)]
        pool = _checked_pool(stem, stem_pool)
        self.conv1, self.bn1, self.relu, self.maxpool = stem_layers(stem, in_channels, widths, pool)
        channels = widths[-1]
        for stage, depth in enumerate(self.depths):
            stage_width = _scale(base_width * 2**stage, width)
            inner = _scale(base_width * 2**stage * width_per_group / 64, width) * groups
            stage_blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                if block == "basic":
                    stage_blocks.append(BasicBlock(channels, stage_width, stride, shortcut, branch_relu))
                    channels = stage_width
                else:
                    first, out_channels = _scale(inner, first_width), 4 * stage_width
                    stage_blocks.append(
                        Bottleneck(channels, inner, out_channels, stride, groups, stride_in, shortcut, first)
                    )
                    channels = out_channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*stage_blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self._draw(zero_init_last)
        self.sites = self.place(mechanism, options, position, stages, blocks, recompute)

    def _draw(self, zero_init_last: bool) -> None:
        """The host's initial weights; runs before any mechanism is in place."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_last:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.last_norm.weight)

    def place(
        self,
        mechanism: str | Callable[[int], nn.Module] | None,
        options: Options | None = None,
        position: Position | None = None,
        stages: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | int | None = None,
        recompute: bool = False,
    ) -> dict[str, int]:
        """Build the mechanisms where they go; the name of each and its channels."""
        if mechanism is None:
            given = {"options": options, "position": position, "stages": stages, "blocks": blocks}
            given["recompute"] = recompute or None
            idle = [name for name, value in given.items() if value is not None]
            if idle:
                raise ValueError(f"{', '.join(idle)} need a mechanism; got mechanism=None")
            return {}
        place = catalogue.describe(mechanism).place if isinstance(mechanism, str) else "every block"
        builders = by_stage(mechanism, options, len(self.depths), self.spatial_dims)
        if position is None:
            position = "standard" if place == "every block" else "post"
        _check_choice("position", position, Position)
        sites = {}
        for stage, index in chosen_blocks(self.depths, place, stages, blocks):
            block = cast(ResidualBlock, self.get_submodule(f"layer{stage}.{index}"))
            block.place(builders[stage - 1](block.channels[position]), position, recompute)
            sites[f"layer{stage}.{index}.mechanism"] = block.channels[position]
        return sites

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{stage}") for stage in range(1, len(self.depths) + 1)]

    def check(self, x: Tensor) -> None:
        """Raise a ValueError unless x is a batch of what the network takes."""
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            space = "height, width" if self.spatial_dims == 2 else "time, height, width"
            name = type(self).__name__
            raise ValueError(f"{name} takes (batch, {self.in_channels}, {space}); got {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self._stages():
            x = stage(x)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


def _check_choice(option: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}; got {value!r}")


def _stem_widths(stem: Stem, given: int | Sequence[int] | None, base_width: int) -> Sequence[int]:
    """The channels of each convolution of a stem."""
    count = 3 if stem == "deep" else 1
    if given is None:
        return (max(1, base_width // 2), max(1, base_width // 2), base_width) if stem == "deep" else (base_width,)
    widths = (given,) if isinstance(given, int) else tuple(given)
    if len(widths) != count:
        raise ValueError(f"the {stem} stem has {count} convolutions; got stem_channels={given}")
    return widths


def _checked_pool(stem: Stem, pool: StemPool | None) -> StemPool | None:
    if stem in ("cifar", "tiny"):
        if pool is not None:
            raise ValueError(f"stem_pool is for the imagenet and the deep stem; the {stem} stem has none, got {pool!r}")
        return None
    _check_choice("stem_pool", pool or "max", StemPool)
    return pool or "max"


def _scale(width: float, factor: float) -> int:
    return max(1, round(width * factor))


class Settings(TypedDict, total=False):
    """What every builder takes; ResNet says what each means."""

    num_classes: int
    in_channels: int
    mechanism: str | Callable[[int], nn.Module] | None
    options: Options | None
    position: Position | None
    stages: Sequence[int] | None
    blocks: Sequence[tuple[int, int]] | int | None
    recompute: bool
    stem: Stem
    stem_channels: int | Sequence[int] | None
    stem_pool: StemPool | None
    stride_in: StrideIn
    shortcut: Shortcut
    dropout: float
    width: float
    zero_init_last: bool


def resnet18(**settings: Unpack[Settings]) -> ResNet:
    """ResNet-18: 11.7 million parameters, 1.81 G multiply-accumulates at 224x224."""
    return ResNet("basic", (2, 2, 2, 2), **settings)


def resnet34(**settings: Unpack[Settings]) -> ResNet:
    """ResNet-34: 21.8 million parameters, 3.66 G."""
    return ResNet("basic", (3, 4, 6, 3), **settings)


def resnet50(**settings: Unpack[Settings]) -> ResNet:
    """ResNet-50: 25.6 million parameters, 4.09 G (3.86 G with the stride in the 1x1)."""
    return ResNet("bottleneck", (3, 4, 6, 3), **settings)


def resnet101(**settings: Unpack[Settings]) -> ResNet:
    """ResNet-101: 44.5 million parameters, 7.80 G."""
    return ResNet("bottleneck", (3, 4, 23, 3), **settings)


def resnet152(**settings: Unpack[Settings]) -> ResNet:
    """ResNet-152: 60.2 million parameters, 11.5 G."""
    return ResNet("bottleneck", (3, 8, 36, 3), **settings)


def resnext50_32x4d(**settings: Unpack[Settings]) -> ResNet:
    """ResNeXt-50, 32 groups of 4 channels: 25.0 million parameters, 4.23 G."""
    return ResNet("bottleneck", (3, 4, 6, 3), groups=32, width_per_group=4, **settings)


def resnext101_32x4d(**settings: Unpack[Settings]) -> ResNet:
    """ResNeXt-101, 32 groups of 4 channels: 44.2 million parameters."""
    return ResNet("bottleneck", (3, 4, 23, 3), groups=32, width_per_group=4, **settings)


def resnext101_32x8d(**settings: Unpack[Settings]) -> ResNet:
    """ResNeXt-101, 32 groups of 8 channels: 88.8 million parameters."""
    return ResNet("bottleneck", (3, 4, 23, 3), groups=32, width_per_group=8, **settings)


def senet154(**settings: Unpack[Settings]) -> ResNet:
    """SENet-154: 115.1 million parameters, 20.7 G; SE in every block unless another mechanism is asked for.

    A ResNeXt-152 of 64 groups of 4 channels, with a deep stem, first 1x1 convolutions of half the width, 3x3 shortcuts
    and dropout.
    """
    defaults: Settings = {
        "mechanism": "se",
        "stem": "deep",
        "stem_channels": (64, 64, 128),
        "stem_pool": "ceil",
        "shortcut": "3x3",
        "dropout": 0.2,
    }
    return ResNet("bottleneck", (3, 8, 36, 3), groups=64, width_per_group=4, first_width=0.5, **(defaults | settings))


def resnet_tiny(**settings: Unpack[Settings]) -> ResNet:
    """Three stages of one basic block, 16, 32 and 64 channels, for pictures of about 40x40 on one processor core."""
    defaults: Settings = {"stem": "tiny", "num_classes": 10}
    return ResNet("basic", (1, 1, 1), base_width=16, **(defaults | settings))
