"""What stands before the first stage of a residual network."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

__all__ = ["Stem", "StemPool", "stem_layers"]

Stem = Literal["imagenet", "cifar", "tiny", "deep"]
StemPool = Literal["max", "ceil", "convolution"]


def stem_layers(
    stem: Stem, in_channels: int, channels: Sequence[int], pool: StemPool | None
) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """A stem's convolution (or three of them), normalisation, ReLU and pool; inside, keys are as in timm.

    Args:
        stem: "imagenet" (7x7, stride 2), "deep" (three 3x3, the first with stride 2), "cifar" (3x3, stride 1) or "tiny"
            (3x3, stride 2).
        in_channels: Channels of the picture.
        channels: Channels of the stem's convolutions.
        pool: Behind them "max", padded; "ceil", the max pool of the Caffe models: no padding, the last window cut off
            at the border; "convolution", a 3x3 with stride 2 (ResNet-RS); or None.
    """
    out_channels = channels[-1]
    if stem == "deep":
        first, second, third = channels
        conv = nn.Sequential(
            *_conv_norm_relu(in_channels, first, stride=2),
            *_conv_norm_relu(first, second),
            nn.Conv2d(second, third, 3, padding=1, bias=False),
        )
    else:
        kernel_size, stride = {"imagenet": (7, 2), "cifar": (3, 1), "tiny": (3, 2)}[stem]
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    pools = {
        None: nn.Identity,
        "max": lambda: nn.MaxPool2d(3, 2, padding=1),
        "ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
        "convolution": lambda: nn.Sequential(*_conv_norm_relu(out_channels, out_channels, stride=2)),
    }
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True), pools[pool]()


def _conv_norm_relu(in_channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
