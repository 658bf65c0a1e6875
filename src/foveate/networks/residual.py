"""Residual blocks, with the places in them where a mechanism can stand.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.

A block computes x' = relu(F(x) + S(x)): F is the residual branch, S the identity, or a convolution where the shape
changes. A mechanism M can stand at five positions of a block (the names are those of Hu et al.,
"Squeeze-and-Excitation Networks", section 6.5):

                  x
          +-------+--------+
          |               pre           F(M(x)) + S(x)
          |          convolution
          |           after_3x3         behind the (first) 3x3 convolution, its normalisation and its ReLU
       shortcut      convolution
          |         normalisation
       identity        standard         identity: F(x) + M(S(x)); standard: M(F(x)) + S(x)
          +------ + -------+
                 relu
                 post                   M(relu(F(x) + S(x)))
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Literal

from torch import Tensor, nn

from foveate.layers import recomputing

__all__ = ["BasicBlock", "Bottleneck", "Position", "ResidualBlock", "Shortcut", "StrideIn"]

Position = Literal["standard", "pre", "post", "identity", "after_3x3"]
StrideIn = Literal["3x3", "1x1"]
Shortcut = Literal["1x1", "3x3", "pool"]


class ResidualBlock(nn.Module, ABC):
    """relu(F(x) + S(x)), with room for one mechanism; a child class is its residual branch F.

    Args:
        in_channels: Channels of the input.
        inner_channels: Channels behind the (first) 3x3 convolution.
        out_channels: Channels of the output.

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    downsample: nn.Module | None
    mechanism: nn.Module | None

    def __init__(self, in_channels: int, inner_channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = {"pre": in_channels, "after_3x3": inner_channels}
        self.channels |= dict.fromkeys(("identity", "standard", "post"), out_channels)
        self.position: Position | None = None
        self.mechanism = None
        self.branch_relu = self.recompute = False
        self.relu = nn.ReLU(inplace=True)

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """F(x), up to its last convolution."""

    @property
    @abstractmethod
    def last_norm(self) -> nn.BatchNorm2d:
        """The last normalisation of F."""

    def place(self, mechanism: nn.Module, position: Position, recompute: bool = False) -> None:
        """Put the mechanism at a position of this block.

        recompute, at position "standard": what it reads is not kept for its gradient but normalised again.
        """
        if recompute and (position != "standard" or self.branch_relu):
            found = "with branch_relu=True" if self.branch_relu else f"at position={position!r}"
            raise ValueError(f"recompute is for a mechanism behind a block's last normalisation; got one {found}")
        self.mechanism, self.position, self.recompute = mechanism, position, recompute

    def at(self, position: Position, x: Tensor) -> Tensor:
        """What the mechanism makes of x if it stands at this position; else x."""
        return self.mechanism(x) if self.mechanism is not None and self.position == position else x

    def extra_repr(self) -> str:
        return f"position={self.position!r}" if self.position is not None else ""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.at("identity", x if self.downsample is None else self.downsample(x))
        features = self.residual(self.at("pre", x))
        branch = self.last_norm(features)
        if self.branch_relu:
            branch = self.relu(branch)
        with recomputing.normalised_again(self.last_norm, features, branch) if self.recompute else nullcontext():
            branch = self.at("standard", branch)
        return self.at("post", self.relu(branch + shortcut))


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: Shortcut) -> nn.Module | None:
    """S: nothing where the shape stays, else a convolution with a normalisation.

    The convolution is 1x1. kind="3x3" (SENet-154): 3x3 where it makes a step. kind="pool" (timm's "d" networks): 1x1,
    behind a mean over 2x2 that makes the step; where there is no step, nothing stands in the mean's place.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    norm = nn.BatchNorm2d(out_channels)
    if kind == "pool":
        pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, nn.Conv2d(in_channels, out_channels, 1, bias=False), norm)
    size = 3 if kind == "3x3" and stride != 1 else 1
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False), norm)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions: the block of ResNet-18 and 34.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the first convolution.
        shortcut: What stands in S: "1x1", "3x3" or "pool".
        branch_relu: Whether F ends with a ReLU behind its last normalisation (timm's legacy_seresnet18 and 34).

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: Shortcut = "1x1",
        branch_relu: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, out_channels)
        self.branch_relu = branch_relu
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, shortcut)

    def residual(self, x: Tensor) -> Tensor:
        x = self.at("after_3x3", self.relu(self.bn1(self.conv1(x))))
        return self.conv2(x)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (super().extra_repr(), "branch_relu=True" if self.branch_relu else "")))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn2


class Bottleneck(ResidualBlock):
    """Convolutions 1x1, 3x3 and 1x1: the block of ResNet-50 and deeper, and of ResNeXt.

    Args:
        in_channels: Channels of the input.
        inner_channels: Channels of the 3x3 convolution.
        out_channels: Channels of the output.
        stride: Step of the grid.
        groups: Groups of the 3x3 convolution.
        stride_in: Which convolution makes the step: "3x3" (torchvision, timm and most code) or the first "1x1" (the
            paper, and the Caffe models).
        shortcut: What stands in S: "1x1", "3x3" or "pool".
        first_channels: Channels of the first 1x1 convolution. Default: inner_channels.

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        out_channels: int,
        stride: int = 1,
        groups: int = 1,
        stride_in: StrideIn = "3x3",
        shortcut: Shortcut = "1x1",
        first_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels, inner_channels, out_channels)
        strides = (stride, 1) if stride_in == "1x1" else (1, stride)
        first_channels = inner_channels if first_channels is None else first_channels
        self.conv1 = nn.Conv2d(in_channels, first_channels, 1, strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(first_channels)
        self.conv2 = nn.Conv2d(first_channels, inner_channels, 3, strides[1], padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner_channels)
        self.conv3 = nn.Conv2d(inner_channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, shortcut)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.at("after_3x3", self.relu(self.bn2(self.conv2(x))))
        return self.conv3(x)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn3
