"""What the bottleneck attention module is, and what copies of it do."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from foveate.auditing.equation import Equation, Switch, Variant, choice
from foveate.auditing.equations import common
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.stages import Stage
from foveate.layers import BAM

__all__ = ["EQUATION"]

OF_CHANNELS, OF_SPACE = ("channel", "ca", "gate", "fc", "mlp"), ("spatial", "sa", "conv")
REDUCE = Role("reduce", "hidden", "channels", "first layer of the channel branch", norm=True, hints=OF_CHANNELS)
EXPAND = Role("expand", "channels", "hidden", "second layer of the channel branch", hints=OF_CHANNELS)
NARROW = Role("narrow", "hidden", "channels", "first convolution of the spatial branch", norm=True, hints=OF_SPACE)
PROJECT = Role("project", 1, "hidden", "last convolution of the spatial branch")
PUBLISHED_CONVS = 2


def _conv(place: int) -> Role:
    says = f"{('first', 'second', 'third', 'fourth')[place - 1]} kernel of the spatial branch"
    return Role(f"conv{place}", "hidden", "hidden", says, kernel="space", norm=True, dilation=4, sizes=(3,))


def _structure(convs: int) -> Structure:
    roles = (REDUCE, EXPAND, NARROW, *(_conv(place + 1) for place in range(convs)), PROJECT)
    if convs == PUBLISHED_CONVS:
        return Structure(roles)
    said = f"the published spatial branch has {PUBLISHED_CONVS} dilated kernels in a row; this one has {convs}"
    return Structure(roles, "number-of-kernels", said)


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    combine: str = "sum",
    activation: str = "relu",
    squash: str = "after",
    application: str = "residual",
) -> Tensor:
    """x * (1 + sigmoid(channel branch + spatial branch))."""
    channel = stages["expand"](common.activated(stages["reduce"](common.squeezed(x, "average")), activation))
    features = common.activated(stages["narrow"](x), activation)
    for name in sorted(name for name in stages if name.startswith("conv")):
        features = common.activated(stages[name](features), activation)
    spatial = stages["project"](features)
    if squash == "before":
        return common.applied(x, _combined(channel.sigmoid(), spatial.sigmoid(), combine), application)
    if squash == "none":
        return common.applied(x, _combined(channel, spatial, combine), application)
    return common.applied(x, _combined(channel, spatial, combine).sigmoid(), application)


def _combined(channel: Tensor, spatial: Tensor, how: str) -> Tensor:
    match how:
        case "sum":
            return channel + spatial
        case "product":
            return channel * spatial
        case "max":
            return torch.maximum(channel, spatial)
        case "channel":
            return channel + 0 * spatial
        case _:
            return spatial + 0 * channel


def variants(match: Match) -> Sequence[Variant]:
    """The published choices for a match, the likeliest first."""

    forms = {"sum": "adds the two branches, as in the paper", "product": "multiplies the two branches, as the release"}
    return [Variant({"combine": how}, {"combine": how}, {"combine": said}) for how, said in forms.items()]


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    return [
        *choice(
            "combine",
            "combination",
            "the two branches are published added (paper) or multiplied (release)",
            max="takes the larger (an ablation of the paper)",
            channel="leaves the spatial branch out",
            spatial="leaves the channel branch out",
        ),
        *choice(
            "squash",
            "sigmoid-before-sum",
            "the published gate is one sigmoid of both branches together",
            before="takes a sigmoid of each branch",
        ),
        *choice(
            "squash",
            "missing-sigmoid",
            "the published gate is a sigmoid",
            none="has none: the bare number multiplies x",
        ),
        *choice(
            "application",
            "extra-residual",
            "the published output is x * (1 + gate)",
            double_residual="adds x once more (x + x * (1 + gate))",
        ),
        *choice(
            "application", "missing-residual", "the published output is x * (1 + gate)", multiply="leaves x * gate"
        ),
        *choice("application", "gate-only", "the published output is x * (1 + gate)", gate="returns the gate alone"),
        *common.activation_switches("activation", "activation of both branches"),
    ]


def layer(fit: Fit, match: Match | None, *, strict: bool, combine: str = "sum") -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    hidden = match.sizes["hidden"] or None if match else None
    return BAM(fit.channels, hidden_channels=hidden, combine=combine, spatial_dims=len(fit.space))


EQUATION = Equation(
    name="bam",
    structures=[_structure(convs) for convs in (PUBLISHED_CONVS, 1, 3, 4)],
    compute=compute,
    variants=variants,
    switches=switches,
    remarks=lambda match, fit: common.width_note(match.sizes["hidden"], fit.channels, 16),
    layer=layer,
    keys={
        "reduce": ("channel.reduce", "channel.norm"),
        "expand": ("channel.expand", None),
        "narrow": ("spatial.reduce", "spatial.norm"),
        "conv1": ("spatial.conv1", "spatial.norm1"),
        "conv2": ("spatial.conv2", "spatial.norm2"),
        "project": ("spatial.project", None),
    },
    gate=(1.0, 2.0),
    varies=True,
    moves=False,
)
