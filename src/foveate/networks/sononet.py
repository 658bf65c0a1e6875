"""Sononet, a VGG-like classifier, and AG-Sononet, whose coarsest features say where the finer ones are looked at.

Baumgartner et al., "SonoNet: Real-Time Detection and Localisation of Fetal Standard Scan Planes in Freehand
Ultrasound", IEEE TMI 2017, https://arxiv.org/abs/1612.05601; Schlemper, Oktay et al., "Attention Gated Networks:
Learning to Leverage Salient Regions in Medical Images", Medical Image Analysis 2019, https://arxiv.org/abs/1808.08114,
whose release has the sizes, gates and initial weights of these.

    stage 1 - pool - stage 2 - pool - stage 3 - pool - stage 4 - pool - stage 5
                                         |                |                |
                                       gate <----------- gate <------------+  with gates; without, stage 5 alone goes
                                         |                |                |  through two 1x1 convolutions, and the
                                   sum over space   sum over space   mean over space   mean over space gives the logits
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, cast

import torch
from torch import Tensor, nn

from foveate.layers import AttentionGate, functional
from foveate.layers.attention_gate import start_as_gated_networks
from foveate.networks.architecture import Architecture
from foveate.networks.conv_block import ConvBlock, conv_norm, mechanism_maker
from foveate.networks.unet import POOLS

__all__ = [
    "AGSononet",
    "Sononet",
    "ag_sononet8",
    "ag_sononet16",
    "ag_sononet32",
    "sononet8",
    "sononet16",
    "sononet32",
]

CONVS = (3, 3, 3, 2, 2)
AGGREGATIONS = ("concat", "mean", "deep_sup", "ft")
ANSWER_WEIGHTS = {"mean": (1.0, 1.0, 1.0), "deep_sup": (1.0, 0.1, 0.1, 0.1)}  # of the release's losses
PSI_BIASES = {"sigmoid": 3.0, "softmax": 10.0}  # where the release starts psi's bias; else where torch does


class Stages(nn.Module):
    """What both networks share: five stages of 3x3 convolutions with max pooling between them.

    Args:
        in_channels: Channels of the picture.
        widths: Channels of stages 1 to 4; stage 5 has those of stage 4.
        convs: Convolutions of each stage.
        width: Multiplies every width, rounded.
        spatial_dims: Spatial axes of the input, 1 to 3.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], convs: Sequence[int], width: float, spatial_dims: int
    ) -> None:
        super().__init__()
        functional.check_spatial_dims(spatial_dims)
        if len(widths) != 4 or min(widths) < 1 or width <= 0:
            raise ValueError(f"widths are positive, of four stages; got {tuple(widths)} times {width}")
        if len(convs) != 5 or min(convs) < 1:
            raise ValueError(f"convs are positive, of five stages; got {tuple(convs)}")
        self.in_channels, self.spatial_dims, self.convs = in_channels, spatial_dims, tuple(convs)
        self.channels = [max(1, round(stage * width)) for stage in (*widths, widths[-1])]
        self.stages = nn.ModuleDict()
        sizes = zip([in_channels, *self.channels], self.channels, convs, strict=False)
        for stage, (given, made, count) in enumerate(sizes, start=1):
            self.stages[str(stage)] = ConvBlock(given, made, convs=count, spatial_dims=spatial_dims)
        self.pool = POOLS[spatial_dims](2)

    def place(
        self,
        mechanism: str | Callable[[int], nn.Module] | None,
        options: Mapping[str, Any] | None,
        stages: Sequence[int] | None,
    ) -> dict[str, int]:
        """Build the mechanisms where they go; the name of each and its channels."""
        maker = mechanism_maker(mechanism, options, self.spatial_dims, stages=stages)
        if maker is None:
            return {}
        make, place = maker
        usual = {"every block": range(1, 6), "between stages": range(1, 5), "chosen blocks": (5,)}[place]
        if stages is not None and not (stages and set(stages) <= set(range(1, 6))):
            raise ValueError(f"stages are 1 to 5; got {tuple(stages)}")
        sites = {}
        for stage in sorted(set(usual if stages is None else stages)):
            block = cast(ConvBlock, self.stages[str(stage)])
            block.place(make(block.channels), inside=False)
            sites[f"stages.{stage}.mechanism"] = block.channels
        return sites

    def features(self, x: Tensor) -> list[Tensor]:
        """The features of each stage."""
        name = type(self).__name__
        functional.check_input(name, x, self.in_channels, self.spatial_dims)
        if min(x.shape[2:]) < 16:
            raise ValueError(f"{name} takes at least 16 positions along each axis; got {tuple(x.shape[2:])}")
        found = [self.stages["1"](x)]
        for stage in range(2, 6):
            found.append(self.stages[str(stage)](self.pool(found[-1])))
        return found

    @property
    def head_names(self) -> list[str]:
        """The modules that give classes."""
        return [name for name, _ in self.named_children() if name.startswith("classifier")]


class Sononet(Stages):
    """Five stages of 3x3 convolutions and two 1x1; the logits are the mean of the last over space.

    Both 1x1 convolutions are normalised, as released: the first, to the width of stage 3, with a ReLU, and the second,
    to the classes, without one.

    Args:
        in_channels: Channels of the picture.
        num_classes: Outputs.
        widths: Channels of stages 1 to 4; stage 5 has those of stage 4. Default: Sononet-16.
        convs: Convolutions of each stage. Default: those of AG-Sononet, which the release calls sononet2; its sononet
            has (2, 2, 3, 3, 3).
        mechanism: A name of the catalogue or a chain such as "eca+spatial", or what makes a module from a number of
            channels; it stands behind the last ReLU of a stage. Default: none.
        options: Options of a mechanism given by name.
        stages: Put the mechanism behind these stages only, counted from 1. Default: behind all; behind all but the last
            for mechanisms that go between stages; behind the last for those of chosen blocks.
        width: Multiplies every width, rounded.
        spatial_dims: Spatial axes of the input, 1 to 3.

    Shape:
        (batch, in_channels, *space), at least 16 positions along each axis -> (batch, num_classes).

    Raises:
        ValueError: A stage that does not exist, options or stages without a mechanism, an input that is too small.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        convs: Sequence[int] = CONVS,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Mapping[str, Any] | None = None,
        stages: Sequence[int] | None = None,
        width: float = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        arguments = dict(locals())
        super().__init__(in_channels, widths, convs, width, spatial_dims)
        self.architecture = Architecture.of("sononet", arguments)
        _, _, hidden, _, deepest = self.channels
        self.hidden = nn.Sequential(conv_norm(deepest, hidden, "batch", spatial_dims)).append(nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(conv_norm(hidden, num_classes, "batch", spatial_dims))
        start_as_gated_networks(self)
        self.sites = self.place(mechanism, options, stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.hidden(self.features(x)[-1])).flatten(2).mean(dim=2)


class AGSononet(Stages):
    """Five stages of 3x3 convolutions; attention gates on stages 3 and 4, with stage 5 as their signal.

    Args:
        in_channels: Channels of the picture.
        num_classes: Outputs.
        widths: Channels of stages 1 to 4; stage 5 has those of stage 4. Default: Sononet-16.
        aggregation: What becomes of the three features, those of the two gates and the mean of stage 5. "concat": one
            classifier of all three; the release's default, which it cannot run. "mean": a classifier each, and a list
            of three logits. "deep_sup": a list of four, that of "concat", then those of "mean". "ft": a classifier of
            the three logits, meant to be tuned from a network trained with "mean".
        normalisation: That of the gates: see AttentionGate.
        mechanism: A name of the catalogue or a chain such as "eca+spatial", or what makes a module from a number of
            channels; it stands behind the last ReLU of a stage. Default: none.
        options: Options of a mechanism given by name.
        stages: Put the mechanism behind these stages only, counted from 1. Default: behind all; behind all but the last
            for mechanisms that go between stages; behind the last for those of chosen blocks.
        align_corners: Of the gates' resizes: see AttentionGate.
        width: Multiplies every width, rounded.
        spatial_dims: Spatial axes of the input, 1 to 3.

    Shape:
        (batch, in_channels, *space), at least 16 positions along each axis -> (batch, num_classes), or a list of these.

    Raises:
        ValueError: A stage that does not exist, options or stages without a mechanism, an input that is too small.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        aggregation: str = "concat",
        normalisation: str = "mean_flow",
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Mapping[str, Any] | None = None,
        stages: Sequence[int] | None = None,
        align_corners: bool = False,
        width: float = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        arguments = dict(locals())
        super().__init__(in_channels, widths, CONVS, width, spatial_dims)
        self.architecture = Architecture.of("ag_sononet", arguments)
        functional.check_choice("aggregation", aggregation, AGGREGATIONS)
        self.aggregation, channels = aggregation, self.channels
        self._add_classifiers(dict(zip("345", channels[2:], strict=True)), num_classes)
        start_as_gated_networks(self)
        gate = partial(AttentionGate, stride=1, bias=False, output=False, normalisation=normalisation)
        self.gates = nn.ModuleDict()
        for stage in (3, 4):
            self.gates[str(stage)] = gate(
                channels[stage - 1], channels[4], channels[4], align_corners=align_corners, spatial_dims=spatial_dims
            )
        if normalisation in PSI_BIASES:
            for module in self.gates.values():
                nn.init.constant_(module.get_parameter("psi.bias"), PSI_BIASES[normalisation])
        self.sites = self.place(mechanism, options, stages)

    def _add_classifiers(self, channels: Mapping[str, int], num_classes: int) -> None:
        self.classifiers = nn.ModuleDict()
        if self.aggregation != "concat":
            self.classifiers.update({stage: nn.Linear(count, num_classes) for stage, count in channels.items()})
        if self.aggregation != "mean":
            joined = 3 * num_classes if self.aggregation == "ft" else sum(channels.values())
            self.classifier = nn.Linear(joined, num_classes)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.features(x)
        signal = features[4]
        gated = [self.gates[str(stage)](features[stage - 1], signal).flatten(2).sum(dim=2) for stage in (3, 4)]
        return self.aggregate([*gated, signal.flatten(2).mean(dim=2)])

    def aggregate(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """The logits from the features of the two gates and of stage 5, each (batch, channel)."""
        logits = [classifier(feature) for classifier, feature in zip(self.classifiers.values(), features, strict=False)]
        match self.aggregation:
            case "mean":
                return logits
            case "ft":
                return self.classifier(torch.cat(logits, dim=1))
            case _:
                joined = self.classifier(torch.cat(features, dim=1))
                return joined if self.aggregation == "concat" else [joined, *logits]

    @property
    def answer_weights(self) -> tuple[float, ...]:
        """How much the loss of each logits counts in training, where forward gives a list."""
        return ANSWER_WEIGHTS.get(self.aggregation, (1.0,))

    def probabilities(self, logits: Tensor | list[Tensor]) -> Tensor:
        """One answer of forward's, as released: the mean of the three probabilities, the first of four, or the one."""
        if isinstance(logits, Tensor):
            return logits.softmax(dim=1)
        answers = torch.stack(logits if self.aggregation == "mean" else logits[:1])
        return answers.softmax(dim=2).mean(dim=0)


class Settings(TypedDict, total=False):
    """What every builder takes; Sononet says what each means."""

    in_channels: int
    num_classes: int
    mechanism: str | Callable[[int], nn.Module] | None
    options: Mapping[str, Any] | None
    stages: Sequence[int] | None
    width: float
    spatial_dims: int


class PlainSettings(Settings, total=False):
    """What builders of the network without gates take."""

    convs: Sequence[int]


class GatedSettings(Settings, total=False):
    """What builders of the network with gates take; AGSononet says what each means."""

    aggregation: str
    normalisation: str
    align_corners: bool


def sononet8(**settings: Unpack[PlainSettings]) -> Sononet:
    """Sononet-8: 0.16 million parameters with 14 classes."""
    return Sononet(widths=(8, 16, 32, 64), **settings)


def sononet16(**settings: Unpack[PlainSettings]) -> Sononet:
    """Sononet-16: 0.65 million parameters with 14 classes."""
    return Sononet(widths=(16, 32, 64, 128), **settings)


def sononet32(**settings: Unpack[PlainSettings]) -> Sononet:
    """Sononet-32: 2.58 million parameters with 14 classes."""
    return Sononet(widths=(32, 64, 128, 256), **settings)


def ag_sononet8(**settings: Unpack[GatedSettings]) -> AGSononet:
    """AG-Sononet-8: 0.18 million parameters with 14 classes."""
    return AGSononet(widths=(8, 16, 32, 64), **settings)


def ag_sononet16(**settings: Unpack[GatedSettings]) -> AGSononet:
    """AG-Sononet-16: 0.70 million parameters with 14 classes."""
    return AGSononet(widths=(16, 32, 64, 128), **settings)


def ag_sononet32(**settings: Unpack[GatedSettings]) -> AGSononet:
    """AG-Sononet-32: 2.79 million parameters with 14 classes."""
    return AGSononet(widths=(32, 64, 128, 256), **settings)
