"""The backbone of DETR: a residual network without its classifier, whose batch normalisations are constants.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, https://arxiv.org/abs/2005.12872; the dilated
last stage (DC5) is that of Li et al., "Fully Convolutional Instance-aware Semantic Segmentation", CVPR 2017.
"""

import math

import torch
from torch import Tensor, nn

from foveate.networks.residual import ResidualBlock
from foveate.networks.resnet import ResNet

__all__ = ["Backbone", "FrozenBatchNorm2d"]

HEAD = ("avgpool", "dropout", "fc")
KEPT = ("conv1.", "bn1.", "maxpool.", "layer1.")  # what training leaves as it is


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation by fixed numbers: (x - mean) / sqrt(var + eps) * weight + bias, none of which is trained.

    Args:
        channels: Channels of the input.
        eps: Added to the variance.
        inplace: Whether the output is written over the input, as a ReLU does; behind a convolution nobody needs it.

    Shape:
        (batch, channels, height, width) -> the same.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, inplace: bool = False) -> None:
        super().__init__()
        self.eps, self.inplace = eps, inplace
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = (self.bias - self.running_mean * scale).to(x.dtype)[:, None, None]
        scale = scale.to(x.dtype)[:, None, None]
        scaled = x.mul_(scale) if self.inplace else x * scale
        return scaled.add_(shift)  # the backward pass needs neither x nor this: it scales the gradient alone

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}" + ", inplace=True" * self.inplace


class Backbone(nn.Module):
    """The stages of a ResNet, under its names.

    Args:
        network: The ResNet, which is taken apart.
        dilation: Whether the last stage keeps the grid of the stage before, its 3x3 convolutions dilated by 2 (DC5).
        frozen: Whether batch normalisations are constants and the stem and stage 1 keep their weights, as published.

    Shape:
        (batch, in_channels, height, width) -> a list with each stage's (batch, channel, height, width).
    """

    def __init__(self, network: ResNet, *, dilation: bool, frozen: bool) -> None:
        super().__init__()
        self.in_channels = network.in_channels
        for name, module in network.named_children():
            if name not in HEAD:
                self.add_module(name, module)
        self.stages = [f"layer{stage}" for stage in range(1, len(network.depths) + 1)]
        blocks = [network.get_submodule(f"{stage}.0") for stage in self.stages]
        self.channels = [block.channels["post"] for block in blocks if isinstance(block, ResidualBlock)]
        self.stride = _step(network.conv1) * _step(network.maxpool) * 2 ** (len(blocks) - 1)
        if dilation:
            self.stride //= 2
            for index, block in enumerate(self.get_submodule(self.stages[-1]).children()):
                _dilate(block, strided=index == 0)
        if frozen:
            self._freeze()

    def _freeze(self) -> None:
        for parent in list(self.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    parent.add_module(name, FrozenBatchNorm2d(child.num_features, child.eps, inplace=True))
        for name, parameter in self.named_parameters():
            if name.startswith(KEPT):
                parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"a backbone takes (batch, {self.in_channels}, height, width); got {tuple(x.shape)}")
        x = self.get_submodule("conv1")(x)
        for name in ("bn1", "relu", "maxpool"):
            x = self.get_submodule(name)(x)
        features = []
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
            features.append(x)
        return features


def _step(part: nn.Module) -> int:
    """How many positions of the input one of the output stands for."""
    strides = [each.stride for each in part.modules() if isinstance(each, nn.Conv2d | nn.MaxPool2d)]
    return math.prod(stride if isinstance(stride, int) else stride[0] for stride in strides)


def _dilate(block: nn.Module, *, strided: bool) -> None:
    """Take the step out of a block; 3x3 convolutions behind the step see every second position, as they did before."""
    passed = not strided
    for name, part in block.named_children():
        if name == "downsample":
            for module_name, module in part.named_children():
                if isinstance(module, nn.AvgPool2d):
                    part.add_module(module_name, nn.Identity())
                elif isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
        elif isinstance(part, nn.Conv2d):
            if passed and part.kernel_size == (3, 3):
                part.dilation = part.padding = (2, 2)
            passed, part.stride = passed or part.stride != (1, 1), (1, 1)
