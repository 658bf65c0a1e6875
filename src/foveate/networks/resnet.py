"""Residual networks, with any mechanism at any of the places where one was published.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
Xie, Girshick, Dollar, Tu and He, "Aggregated Residual Transformations for Deep Neural Networks" (ResNeXt), CVPR 2017,
https://arxiv.org/abs/1611.05431.

foveate.networks.residual has the blocks, and a drawing of the positions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

from torch import Tensor, nn

from foveate.layers import catalogue
from foveate.networks.places import chosen_blocks
from foveate.networks.residual import BasicBlock, Bottleneck, Position, ResidualBlock, StrideIn

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
]

Kind = Literal["basic", "bottleneck"]
Stem = Literal["imagenet", "cifar", "tiny"]


class ResNet(nn.Module):
    """Stem, stages of residual blocks, mean over space, linear classifier; keys as in torchvision.

    Stage k is `layer{k}`; the mechanism of a block is its child `mechanism`, and `sites` names each with its channels.
    The host's weights are drawn first (Kaiming normal, fan out), so one seed gives one host whatever the mechanism, and
    each mechanism keeps its own initial values.

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
        options: Options of a mechanism given by name.
        position: Where in the block: see the drawing. Default: as published: "post" for bam and nonlocal, "standard"
            for the others.
        stages: Put the mechanism into these stages only, counted from 1. Default: as published.
        blocks: Put it into these blocks only: pairs (stage from 1, block from 0); or 1, 5 or 10, the blocks that
            non_local_blocks names. Default: as published: every block; the last block of every stage but the last for
            bam; non_local_blocks(depths, 5) for nonlocal.
        stem: "imagenet" (7x7, stride 2, max pool), "cifar" (3x3, stride 1) or "tiny" (3x3, stride 2).
        ceil_pool: The max pool of the Caffe models: no padding, the last window cut off at the border.
        stride_in: Which convolution of a bottleneck makes the step, "3x3" or "1x1".
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
        options: Mapping[str, Any] | None = None,
        position: Position | None = None,
        stages: Sequence[int] | None = None,
        blocks: Sequence[tuple[int, int]] | int | None = None,
        stem: Stem = "imagenet",
        ceil_pool: bool = False,
        stride_in: StrideIn = "3x3",
        width: float = 1.0,
        zero_init_last: bool = False,
    ) -> None:
        super().__init__()
        _check_choice("block", block, Kind)
        _check_choice("stem", stem, Stem)
        _check_choice("stride_in", stride_in, StrideIn)
        if len(depths) not in (3, 4):
            raise ValueError(f"depths must be of three or four stages; got {tuple(depths)}")
        if width <= 0:
            raise ValueError(f"width must be greater than 0; got {width}")
        if block == "basic" and (groups != 1 or stride_in != "3x3"):
            raise ValueError("groups and stride_in are for bottleneck blocks; basic blocks have no 1x1 convolution")
        self.in_channels, self.depths = in_channels, tuple(depths)
        stem_channels = _scale(base_width, width)
        self._make_stem(stem, stem_channels, ceil_pool)
        channels = stem_channels
        for stage, depth in enumerate(self.depths):
            stage_width = _scale(base_width * 2**stage, width)
            inner = _scale(base_width * 2**stage * width_per_group / 64, width) * groups
            stage_blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                if block == "basic":
                    stage_blocks.append(BasicBlock(channels, stage_width, stride))
                    channels = stage_width
                else:
                    stage_blocks.append(Bottleneck(channels, inner, 4 * stage_width, stride, groups, stride_in))
                    channels = 4 * stage_width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*stage_blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self._draw(zero_init_last)
        self.sites = self._place(mechanism, options, position, stages, blocks)

    def _make_stem(self, stem: Stem, channels: int, ceil_pool: bool) -> None:
        """The convolution before the first stage, its normalisation and, for large pictures, a max pool."""
        kernel_size, stride = {"imagenet": (7, 2), "cifar": (3, 1), "tiny": (3, 2)}[stem]
        self.conv1 = nn.Conv2d(self.in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        if stem == "imagenet":
            self.maxpool = nn.MaxPool2d(3, 2, padding=0 if ceil_pool else 1, ceil_mode=ceil_pool)
        elif ceil_pool:
            raise ValueError(f"ceil_pool is for the imagenet stem; the {stem} stem has no max pool")
        else:
            self.maxpool = nn.Identity()

    def _draw(self, zero_init_last: bool) -> None:
        """The host's initial weights; runs before any mechanism is in place."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_last:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.last_norm.weight)

    def _place(
        self,
        mechanism: str | Callable[[int], nn.Module] | None,
        options: Mapping[str, Any] | None,
        position: Position | None,
        stages: Sequence[int] | None,
        blocks: Sequence[tuple[int, int]] | int | None,
    ) -> dict[str, int]:
        """Build the mechanisms where they go; the name of each and its channels."""
        if mechanism is None:
            given = {"options": options, "position": position, "stages": stages, "blocks": blocks}
            idle = [name for name, value in given.items() if value is not None]
            if idle:
                raise ValueError(f"{', '.join(idle)} need a mechanism; got mechanism=None")
            return {}
        place = "every block"
        if isinstance(mechanism, str):
            place = catalogue.describe(mechanism).place
            mechanism = partial(catalogue.build, mechanism, **(options or {}))
        elif options is not None:
            raise ValueError("options are for a mechanism given by name; a callable has its own")
        if position is None:
            position = "standard" if place == "every block" else "post"
        _check_choice("position", position, Position)
        sites = {}
        for stage, index in chosen_blocks(self.depths, place, stages, blocks):
            block = cast(ResidualBlock, self.get_submodule(f"layer{stage}.{index}"))
            block.place(mechanism(block.channels[position]), position)
            sites[f"layer{stage}.{index}.mechanism"] = block.channels[position]
        return sites

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{stage}") for stage in range(1, len(self.depths) + 1)]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"ResNet takes (batch, {self.in_channels}, height, width); got {tuple(x.shape)}")
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self._stages():
            x = stage(x)
        return self.fc(self.avgpool(x).flatten(1))


def _check_choice(option: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}; got {value!r}")


def _scale(width: float, factor: float) -> int:
    return max(1, round(width * factor))


class Settings(TypedDict, total=False):
    """What every builder takes; ResNet says what each means."""

    num_classes: int
    in_channels: int
    mechanism: str | Callable[[int], nn.Module] | None
    options: Mapping[str, Any] | None
    position: Position | None
    stages: Sequence[int] | None
    blocks: Sequence[tuple[int, int]] | int | None
    stem: Stem
    ceil_pool: bool
    stride_in: StrideIn
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


def resnet_tiny(**settings: Unpack[Settings]) -> ResNet:
    """Three stages of one basic block, 16, 32 and 64 channels, for pictures of about 40x40 on one processor core."""
    defaults: Settings = {"stem": "tiny", "num_classes": 10}
    return ResNet("basic", (1, 1, 1), base_width=16, **(defaults | settings))
