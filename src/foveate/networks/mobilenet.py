"""MobileNetV2, with any mechanism in its inverted residual blocks.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
https://arxiv.org/abs/1801.04381.
"""

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack, cast

from torch import Tensor, nn

from foveate.networks.architecture import Architecture
from foveate.networks.places import Options, by_stage

__all__ = ["MobileNetV2", "mobilenet_v2"]

# Of each of the seven stages: expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """x + M(project(depthwise(expand(x)))), without x where the shape changes.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the depthwise convolution.
        expansion: The hidden channels as a multiple of in_channels; at 1 there is no expanding convolution.
        mechanism: M, behind the last normalisation.

    Shape:
        (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int, mechanism: nn.Module | None
    ) -> None:
        super().__init__()
        hidden_channels = in_channels * expansion
        expand = [] if expansion == 1 else [_conv_norm(in_channels, hidden_channels, 1)]
        self.conv = nn.Sequential(
            *expand,
            _conv_norm(hidden_channels, hidden_channels, 3, stride, groups=hidden_channels),
            nn.Conv2d(hidden_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.mechanism = mechanism
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.mechanism is not None:
            y = self.mechanism(y)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """Stem, seven stages of inverted residual blocks, a 1x1 convolution, mean over space, linear classifier.

    Keys are torchvision's; the mechanism of block k is `features.{k}.mechanism`, behind the projection's normalisation
    (the place of Wang et al., ECA-Net), and `sites` names each with its channels. The host's weights do not depend on
    the mechanism. `architecture` says what builds the network again; it is None where the mechanism is a callable.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the picture.
        mechanism: A name of the catalogue or a chain, or what makes a module from a number of channels. Default: none.
        options: Options of a mechanism given by name: one mapping, or one for each of the seven stages.
        channels: Channels of the stem, of the seven stages and of the last convolution. Default: the paper's.
        width: Multiplies every width but the last, which never shrinks; rounded to multiples of 8.
        dropout: Share of the features that training drops before the classifier.

    Shape:
        (batch, in_channels, height, width) -> (batch, num_classes).

    Raises:
        ValueError: If channels are not nine numbers, options not one mapping or seven, or width is not positive.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Options | None = None,
        channels: Sequence[int] = (32, *(stage[1] for stage in STAGES), 1280),
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        if len(channels) != len(STAGES) + 2:
            raise ValueError(f"channels are of the stem, seven stages and the last convolution; got {tuple(channels)}")
        if not width > 0:
            raise ValueError(f"width must be greater than 0; got {width}")
        self.architecture = Architecture.of("mobilenet_v2", arguments)
        self.in_channels, self.spatial_dims = in_channels, 2
        stem, *stages = (_rounded(count, width) for count in channels[:-1])
        last = _rounded(channels[-1], max(1.0, width))
        layers: list[nn.Module] = [_conv_norm(in_channels, stem, 3, 2)]
        blocks: list[tuple[int, int]] = []  # the stage and the channels of each
        before = stem
        for index, ((expansion, _, depth, stride), after) in enumerate(zip(STAGES, stages, strict=True)):
            for step in [stride] + [1] * (depth - 1):
                layers.append(InvertedResidual(before, after, step, expansion, None))
                blocks.append((index, after))
                before = after
        self.features = nn.Sequential(*layers, _conv_norm(before, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self._draw()
        if mechanism is None and options is not None:
            raise ValueError("options need a mechanism; got mechanism=None")
        self.sites = self._place(by_stage(mechanism, options, len(STAGES)), blocks) if mechanism is not None else {}

    def _draw(self) -> None:
        """The host's initial weights; runs before any mechanism is in place."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def _place(self, builders: list[Callable[[int], nn.Module]], blocks: list[tuple[int, int]]) -> dict[str, int]:
        """Put a mechanism into every block; the name of each and its channels."""
        sites = {}
        for index, (stage, channels) in enumerate(blocks, start=1):
            cast(InvertedResidual, self.features[index]).mechanism = builders[stage](channels)
            sites[f"features.{index}.mechanism"] = channels
        return sites

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            space = "height, width" if self.spatial_dims == 2 else "time, height, width"
            raise ValueError(f"MobileNetV2 takes (batch, {self.in_channels}, {space}); got {tuple(x.shape)}")
        return self.classifier(self.features(x).flatten(2).mean(dim=2))


class Settings(TypedDict, total=False):
    """What the builder takes; MobileNetV2 says what each means."""

    num_classes: int
    in_channels: int
    mechanism: str | Callable[[int], nn.Module] | None
    options: Options | None
    width: float
    dropout: float


def mobilenet_v2(**settings: Unpack[Settings]) -> MobileNetV2:
    """MobileNetV2: 3.50 million parameters, 0.301 G multiply-accumulates at 224x224."""
    return MobileNetV2(**settings)


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU6(inplace=True))


def _rounded(channels: int, width: float) -> int:
    """A width that is a multiple of 8 and not below nine tenths of what was asked for; the paper's own stay."""
    if width == 1.0:
        return channels
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8
