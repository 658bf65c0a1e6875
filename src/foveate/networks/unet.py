"""U-Nets for pictures and volumes, with attention gates on their skip connections and any mechanism of the catalogue.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
https://arxiv.org/abs/1505.04597; Oktay, Schlemper et al., "Attention U-Net: Learning Where to Look for the Pancreas",
MIDL 2018, https://arxiv.org/abs/1804.03999, whose release has the geometry and the initial weights of these.

    level 1  encoder 1 ------------- skip 1 ------------- decoder 1 -- head 1 -+- final
                 | max pool                                 ^ resized, joined  |
    level 2  encoder 2 ------------- skip 2 <- gates ----- decoder 2 -- head 2 +
                 | max pool                     |           ^                  |
    level 3  encoder 3 ------------- skip 3 <- gates ----- decoder 3 -- head 3 +
                 | max pool                     |           ^
    level 4  encoder 4 ---------------------- gating        |
                 +------------------------------------------+
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.layers import functional
from foveate.layers.attention_gate import RESIZES, start_as_gated_networks
from foveate.networks.architecture import Architecture
from foveate.networks.conv_block import ConvBlock, conv_norm, mechanism_maker
from foveate.networks.skip import Skip

__all__ = ["UNet", "attention_unet", "unet"]

POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
Strides = int | Sequence[int] | Sequence[Sequence[int]]


class UNet(nn.Module):
    """Encoder, decoder and the skip connections between them; logits on the grid of the input.

    Sizes that the steps do not divide are padded with zeros at their ends, as convolutions pad, and the logits are cut
    to size; taps see the padded grid. The weights of the plain network are drawn first, then those of the gates, so one
    seed gives one host whatever stands on it, and each mechanism keeps its own initial values.

    Args:
        in_channels: Channels of the picture or volume.
        num_classes: Channels of the logits.
        widths: Channels of each level, two levels or more. Default: as released.
        depths: Blocks of each level, one number for all or one for each; in the decoder too.
        strides: Step from each level to the next: one number, one for each axis, or one for each axis for each step.
        kernel_size: Of the blocks' convolutions, odd: one number or one for each axis.
        block: "plain" or "residual".
        norm: "batch" or "instance".
        gates: Attention gates on each skip connection but the first; the release has networks with 0, 1 and 2.
        gate_options: Options of AttentionGate.
        shared_signal: One signal, the deepest feature through a convolution to the width of the level above it, goes to
            every gate, as in the release's older network. False: it goes to the deepest gates in its own width, and the
            decoder's feature of the level below to each of the others.
        fused_gates: Whether a 1x1 convolution with normalisation and ReLU stands behind the gates of a skip connection;
            several need it.
        fused_heads: Every level of the decoder has a head, and a 1x1 convolution over the resized heads gives the
            logits, as released (and called deep supervision there, with one loss). False: the head of level 1 alone.
        deep_supervision: In training, return a list of logits for a loss each, all on the grid of the input: the
            network's own, then those of the heads (without fused_heads, of levels 2 and coarser), finest first.
        mechanism: A name of the catalogue or a chain such as "eca+spatial", or what makes a module from a number of
            channels. Default: none.
        options: Options of a mechanism given by name.
        position: "block" (default): behind a plain block; in a residual one on its branch, or behind it for mechanisms
            that do not go into every block. "skip": on the skip connections, behind the gates.
        levels: Put the mechanism into these levels only, counted from 1. Default: for mechanisms that go into every
            block, all; for those between stages, the encoder's levels before a step; for those of chosen blocks, the
            last block of the deepest level, or the deepest skip connection.
        align_corners: Of every resize: see AttentionGate.
        width: Multiplies every width, rounded.
        spatial_dims: Spatial axes of the input, 1 to 3.

    Shape:
        (batch, in_channels, *space) -> (batch, num_classes, *space), of any size.

    Raises:
        ValueError: An option that has no meaning here: a level that does not exist, gates with two levels (only the
            first skip connection), a position without a mechanism.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        depths: int | Sequence[int] = 1,
        strides: Strides = 2,
        kernel_size: int | Sequence[int] = 3,
        block: str = "plain",
        norm: str = "batch",
        gates: int = 0,
        gate_options: Mapping[str, Any] | None = None,
        shared_signal: bool = False,
        fused_gates: bool = True,
        fused_heads: bool = True,
        deep_supervision: bool = False,
        mechanism: str | Callable[[int], nn.Module] | None = None,
        options: Mapping[str, Any] | None = None,
        position: str | None = None,
        levels: Sequence[int] | None = None,
        align_corners: bool = False,
        width: float = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        functional.check_spatial_dims(spatial_dims)
        self.architecture = Architecture.of("unet", arguments)
        if len(widths) < 2 or min(widths) < 1 or width <= 0:
            raise ValueError(f"widths are positive, of two levels or more; got {tuple(widths)} times {width}")
        self.in_channels, self.spatial_dims, self.norm = in_channels, spatial_dims, norm
        self.align_corners, self.fused_heads, self.deep_supervision = align_corners, fused_heads, deep_supervision
        self.widths = tuple(max(1, round(channels * width)) for channels in widths)
        self.depths = _per_level(depths, len(widths))
        self.strides = _steps(strides, len(widths) - 1, spatial_dims)
        self.shared_signal = shared_signal
        make = partial(ConvBlock, kernel_size=kernel_size, kind=block, norm=norm, spatial_dims=spatial_dims)
        self._make_host(num_classes, make)
        start_as_gated_networks(self)
        self._add_gates(gates, gate_options, fused_gates)
        self.sites = self._place(mechanism, options, position, levels)

    def _make_host(self, num_classes: int, make: Callable[..., ConvBlock]) -> None:
        """The plain U-Net."""
        dims, channels = self.spatial_dims, self.in_channels
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        self.skips, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for level, width in enumerate(self.widths, start=1):
            self.encoder[str(level)] = self._blocks(channels, level, make)
            channels = width
        self.pools = nn.ModuleList(POOLS[dims](stride) for stride in self.strides)
        for level, width in enumerate(self.widths[:-1], start=1):
            self.skips[str(level)] = Skip(width)
            self.decoder[str(level)] = self._blocks(width + self.widths[level], level, make)
            if level == 1 or self.fused_heads or self.deep_supervision:
                self.heads[str(level)] = functional.CONVOLUTIONS[dims](width, num_classes, 1)
        self.gating: nn.Module = nn.Identity()
        if self.fused_heads:
            self.final = functional.CONVOLUTIONS[dims](len(self.heads) * num_classes, num_classes, 1)

    def _blocks(self, in_channels: int, level: int, make: Callable[..., ConvBlock]) -> nn.Sequential:
        """The blocks of a level, for the encoder or for the decoder."""
        width = self.widths[level - 1]
        channels = [in_channels] + [width] * (self.depths[level - 1] - 1)
        return nn.Sequential(*(make(given, width) for given in channels))

    def _add_gates(self, gates: int, options: Mapping[str, Any] | None, fused: bool) -> None:
        """The gates of every skip connection but the first, and the signal that gates the deepest, or all."""
        if gates < 0 or (gates > 0 and len(self.widths) < 3):
            raise ValueError(
                f"gates stand on every skip connection but the first; got {gates} for widths {self.widths}"
            )
        if gates > 1 and not fused:
            raise ValueError(
                f"several gates on a skip connection need fused_gates; got gates={gates}, fused_gates=False"
            )
        if gates == 0:
            given = {"gate_options": options, "shared_signal": self.shared_signal, "fused_gates=False": not fused}
            if idle := [name for name, value in given.items() if value not in (None, False)]:
                raise ValueError(f"{', '.join(idle)} need gates; got gates=0")
            return
        dims, deepest = self.spatial_dims, self.widths[-1]
        signal = self.widths[-2] if self.shared_signal else deepest
        self.gating = nn.Sequential(conv_norm(deepest, signal, self.norm, dims)).append(nn.ReLU(inplace=True))
        start_as_gated_networks(self.gating)
        for level in range(2, len(self.widths)):
            given = {"stride": self.strides[level - 1], "align_corners": self.align_corners} | dict(options or {})
            skip = cast(Skip, self.skips[str(level)])
            gating = signal if self.shared_signal else self.widths[level]
            skip.add_gates(gates, gating, fused=fused, norm=self.norm, spatial_dims=dims, **given)

    def _place(
        self,
        mechanism: str | Callable[[int], nn.Module] | None,
        options: Mapping[str, Any] | None,
        position: str | None,
        levels: Sequence[int] | None,
    ) -> dict[str, int]:
        """Build the mechanisms where they go; the name of each and its channels."""
        maker = mechanism_maker(mechanism, options, self.spatial_dims, position=position, levels=levels)
        if maker is None:
            return {}
        make, place = maker
        functional.check_choice("position", position or "block", ("block", "skip"))
        sites = {}
        for name in self._sites(place, position == "skip", levels):
            site = cast(ConvBlock | Skip, self.get_submodule(name))
            site.place(make(site.channels), inside=place == "every block")
            sites[f"{name}.mechanism"] = site.channels
        return sites

    def _sites(self, place: str, skips: bool, levels: Sequence[int] | None) -> list[str]:
        """The blocks or skip connections of some levels, or else of those where such a mechanism usually goes."""
        every = list(range(1, len(self.widths) + (not skips)))
        if levels is not None and not (levels and set(levels) <= set(every)):
            raise ValueError(f"levels are 1 to {every[-1]}; got {tuple(levels)}")
        usual = {"every block": every, "between stages": every[: len(self.strides)], "chosen blocks": every[-1:]}
        chosen = usual[place] if levels is None else [level for level in every if level in levels]
        if skips:
            return [f"skips.{level}" for level in chosen]
        if place != "every block":
            return [f"encoder.{level}.{self.depths[level - 1] - 1}" for level in chosen]
        parts = [("encoder", level) for level in chosen]
        parts += [("decoder", level) for level in reversed(chosen) if level < len(self.widths)]
        return [f"{part}.{level}.{index}" for part, level in parts for index in range(self.depths[level - 1])]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        functional.check_input("UNet", x, self.in_channels, self.spatial_dims)
        size = x.shape[2:]
        decoded = self.decode(self.encode(F.pad(x, self.padding(x))))
        supervised = self.deep_supervision and self.training
        levels = range(len(decoded)) if self.fused_heads or supervised else range(1)
        answers = [self._resized(self.heads[str(level + 1)](decoded[level]), decoded[0]) for level in levels]
        if self.fused_heads:
            answers.insert(0, self.final(torch.cat(answers, dim=1)))
        answers = [answer[(..., *(slice(length) for length in size))] for answer in answers]
        return answers if supervised else answers[0]

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's features of each level, finest first."""
        features = [self.encoder["1"](x)]
        for level, pool in enumerate(self.pools, start=2):
            features.append(self.encoder[str(level)](pool(features[-1])))
        return features

    def decode(self, features: list[Tensor]) -> list[Tensor]:
        """The decoder's features of each level but the deepest, finest first."""
        coarse, decoded = features[-1], []
        signal = self.gating(coarse)
        for level in range(len(self.strides), 0, -1):
            skip = self.skips[str(level)](features[level - 1], signal)
            coarse = self.decoder[str(level)](torch.cat([skip, self._resized(coarse, skip)], dim=1))
            signal = signal if self.shared_signal else coarse
            decoded.insert(0, coarse)
        return decoded

    def _resized(self, x: Tensor, like: Tensor) -> Tensor:
        if x.shape[2:] == like.shape[2:] and not torch.compiler.is_compiling():
            return x
        mode = RESIZES[self.spatial_dims]
        return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=self.align_corners)

    def padding(self, x: Tensor) -> list[int]:
        """What lacks of x at the end of each axis, the last axis first; taps see the grid with it."""
        steps = [math.prod(axis) for axis in zip(*self.strides, strict=True)]
        lack = [-size % step for size, step in zip(x.shape[2:], steps, strict=True)]
        alone = self.norm == "instance" or (self.training and x.shape[0] == 1)
        if alone and not torch.compiler.is_compiling() and all(map(operator.le, x.shape[2:], steps)):
            lack[-1] += steps[-1]  # the deepest level would be one position, which has no variance
        return [pad for missing in reversed(lack) for pad in (0, missing)]


def _per_level(depths: int | Sequence[int], levels: int) -> tuple[int, ...]:
    given = (depths,) * levels if isinstance(depths, int) else tuple(depths)
    if len(given) != levels or min(given) < 1:
        raise ValueError(f"depths is one positive number or one for each of {levels} levels; got {depths}")
    return given


def _steps(strides: Strides, count: int, spatial_dims: int) -> list[tuple[int, ...]]:
    """The step along each axis, for each step between levels."""
    given = (strides,) * spatial_dims if isinstance(strides, int) else tuple(strides)
    axes = tuple(step for step in given if isinstance(step, int))
    each = [tuple(step) for step in given if not isinstance(step, int)]
    steps = each if each else [axes] * count
    if (axes and each) or len(steps) != count or any(len(step) != spatial_dims or min(step) < 1 for step in steps):
        wanted = f"one positive number, one for each of {spatial_dims} axes, or such a tuple for each of {count} steps"
        raise ValueError(f"strides is {wanted}; got {strides}")
    return steps


class Settings(TypedDict, total=False):
    """What every builder takes; UNet says what each means."""

    in_channels: int
    num_classes: int
    widths: Sequence[int]
    depths: int | Sequence[int]
    strides: Strides
    kernel_size: int | Sequence[int]
    block: str
    norm: str
    gates: int
    gate_options: Mapping[str, Any] | None
    shared_signal: bool
    fused_gates: bool
    fused_heads: bool
    deep_supervision: bool
    mechanism: str | Callable[[int], nn.Module] | None
    options: Mapping[str, Any] | None
    position: str | None
    levels: Sequence[int] | None
    align_corners: bool
    width: float
    spatial_dims: int


def unet(**settings: Unpack[Settings]) -> UNet:
    """The U-Net to which Attention U-Net was compared: 5.89 million parameters in 3-D with four classes."""
    defaults: Settings = {"widths": (16, 32, 64, 128, 256), "gates": 0}
    return UNet(**(defaults | settings))


def attention_unet(**settings: Unpack[Settings]) -> UNet:
    """Attention U-Net, one gate a skip connection: 6.21 million parameters in 3-D with four classes; gates=2: 6.47."""
    defaults: Settings = {"widths": (16, 32, 64, 128, 256), "gates": 1}
    return UNet(**(defaults | settings))
