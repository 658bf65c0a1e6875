"""What concurrent spatial and channel squeeze-and-excitation is, and what copies of it do."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from foveate.auditing.equation import Equation, Switch, Variant, choice
from foveate.auditing.equations import common
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.stages import Stage
from foveate.layers import ScSE

__all__ = ["EQUATION"]

ROLES = (
    Role("reduce", "hidden", "channels", "first layer of the bottleneck", bias=None, hints=("cse", "fc1")),
    Role("expand", "channels", "hidden", "second layer of the bottleneck", bias=None, hints=("cse", "fc2")),
    Role("place", 1, "channels", "projection of every position", bias=None, hints=("sse", "spatial")),
)


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    combine: str = "add",
    squeeze: str = "average",
    activation: str = "relu",
    channel_gate: str = "sigmoid",
    spatial_gate: str = "sigmoid",
    application: str = "multiply",
) -> Tensor:
    """x scaled per channel and x scaled per position, combined."""
    squeezed = common.squeezed(x, squeeze)
    logits = stages["expand"](common.activated(stages["reduce"](squeezed), activation))
    by_channel = x * common.gated(logits, channel_gate)
    by_place = x * common.gated(stages["place"](x), spatial_gate)
    match combine:
        case "add":
            both = by_channel + by_place
        case "max":
            both = torch.maximum(by_channel, by_place)
        case "multiply":
            both = by_channel * by_place
        case "in_turn":
            both = by_channel * common.gated(stages["place"](by_channel), spatial_gate)
        case "mean":
            both = (by_channel + by_place) / 2
        case _:
            both = torch.cat([by_channel, by_place], dim=1)
    return both + x if application == "residual" else both


def variants(match: Match) -> Sequence[Variant]:
    """The published choices for a match, the likeliest first."""

    forms = {
        "add": "adds the two scaled features, as in the first paper",
        "max": "takes the larger of the two scaled features, as the authors' code does",
    }
    return [Variant({"combine": how}, {"combine": how}, {"combine": said}) for how, said in forms.items()]


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    return [
        *choice(
            "combine",
            "combination",
            "the two scaled features are published added or as the larger of both",
            multiply="multiplies them (an option of the second paper)",
            concat="stacks them (an option of the second paper)",
            mean="takes their mean",
            in_turn="gates positions of what the channel gate has passed",
        ),
        *choice(
            "squeeze",
            "squeeze",
            "the published squeeze is the mean over space",
            max="takes the maximum",
            average_and_max="takes mean plus maximum",
        ),
        *common.activation_switches("activation", "activation in between"),
        *common.gate_switches("channel_gate", "channel gate"),
        *common.gate_switches("spatial_gate", "spatial gate"),
        *choice("application", "extra-residual", "the published output has no residual", residual="adds x to it"),
    ]


def layer(fit: Fit, match: Match | None, *, strict: bool, combine: str = "add") -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    hidden = match.sizes["hidden"] or None if match else None
    return ScSE(fit.channels, hidden_channels=hidden, combine=combine)


EQUATION = Equation(
    name="scse",
    structures=(Structure(ROLES),),
    compute=compute,
    variants=variants,
    switches=switches,
    remarks=lambda match, fit: common.width_note(match.sizes["hidden"], fit.channels, 2),
    layer=layer,
    keys={"reduce": ("fc1", None), "expand": ("fc2", None), "place": ("conv", None)},
    gate=(0.0, 2.0),
    varies=True,
)
