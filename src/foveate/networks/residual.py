"""Residual blocks, with the places in them where a mechanism can stand.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.

A block computes x' = relu(F(x) + S(x)): F is the residual branch, S the identity, or a 1x1 convolution where the shape
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
from typing import Literal

from torch import Tensor, nn

__all__ = ["BasicBlock", "Bottleneck", "Position", "ResidualBlock", "StrideIn"]

Position = Literal["standard", "pre", "post", "identity", "after_3x3"]
StrideIn = Literal["3x3", "1x1"]


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
        self.relu = nn.ReLU(inplace=True)

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """F(x), up to its last normalisation."""

    @property
    @abstractmethod
    def last_norm(self) -> nn.BatchNorm2d:
        """The last normalisation of F."""

    def place(self, mechanism: nn.Module, position: Position) -> None:
        """Put the mechanism at a position of this block."""
        self.mechanism, self.position = mechanism, position

    def at(self, position: Position, x: Tensor) -> Tensor:
        """What the mechanism makes of x if it stands at this position; else x."""
        return self.mechanism(x) if self.mechanism is not None and self.position == position else x

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.at("identity", x if self.downsample is None else self.downsample(x))
        branch = self.at("standard", self.residual(self.at("pre", x)))
        return self.at("post", self.relu(branch + shortcut))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """S: nothing where the shape stays, else a 1x1 convolution with a normalisation."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions: the block of ResNet-18 and 34.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the first convolution.

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        x = self.at("after_3x3", self.relu(self.bn1(self.conv1(x))))
        return self.bn2(self.conv2(x))

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
    ) -> None:
        super().__init__(in_channels, inner_channels, out_channels)
        strides = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner_channels, 1, strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(inner_channels)
        self.conv2 = nn.Conv2d(inner_channels, inner_channels, 3, strides[1], padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner_channels)
        self.conv3 = nn.Conv2d(inner_channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.at("after_3x3", self.relu(self.bn2(self.conv2(x))))
        return self.bn3(self.conv3(x))

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn3
