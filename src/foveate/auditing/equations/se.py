"""What squeeze-and-excitation is, and what copies of it do."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from foveate.auditing.equation import Equation, Switch, choice
from foveate.auditing.equations import common
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage
from foveate.layers import SE

__all__ = ["EQUATION"]

REDUCE = Role("reduce", "hidden", "channels", "first layer of the bottleneck", bias=None)
EXPAND = Role("expand", "channels", "hidden", "second layer of the bottleneck", bias=None)
SINGLE = Role("single", "channels", "channels", "only layer", bias=None)


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    squeeze: str = "average",
    activation: str = "relu",
    gate: str = "sigmoid",
    application: str = "multiply",
) -> Tensor:
    """x * sigmoid(W2 relu(W1 z)), z the mean over space."""
    z = common.squeezed(x, squeeze)
    if "single" in stages:
        logits = stages["single"](z)
    else:
        logits = stages["expand"](common.activated(stages["reduce"](z), activation))
    return common.applied(x, common.gated(logits, gate), application)


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    inner = () if "single" in match.stages else common.activation_switches("activation", "activation in between")
    return [
        *squeeze_switches(),
        *inner,
        *common.gate_switches("gate"),
        *common.application_switches(),
    ]


def squeeze_switches() -> list[Switch]:
    """What copies squeeze the channels by, instead of the mean."""
    return choice(
        "squeeze",
        "squeeze",
        "the published squeeze is the mean over space",
        max="takes the maximum (an ablation of SE's paper)",
        average_and_max="takes mean plus maximum",
        half_average_and_max="takes half of mean plus maximum",
        batch="takes the mean over space and batch",
        none="has none: every position is gated by itself (an ablation of SE's paper)",
    )


def remarks(match: Match, fit: Fit) -> Sequence[Finding]:
    """Findings on the sizes of a match, at shapes that the module takes."""

    hidden = match.sizes.get("hidden")
    return [] if hidden is None else common.width_note(hidden, fit.channels, 16)


def layer(fit: Fit, match: Match | None, *, strict: bool) -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    if match is None or "hidden" not in match.sizes:
        return SE(fit.channels)
    biased = any(stage.bias is not None for stage in match.stages.values())
    return SE(fit.channels, hidden_channels=match.sizes["hidden"] or None, bias=biased)


EQUATION = Equation(
    name="se",
    structures=(
        Structure((REDUCE, EXPAND)),
        Structure(
            (SINGLE,),
            kind="no-bottleneck",
            sentence="the published gate comes from two layers with a bottleneck between; this one from a single layer",
        ),
    ),
    compute=compute,
    switches=switches,
    remarks=remarks,
    layer=layer,
    keys={"reduce": ("fc1", None), "expand": ("fc2", None)},
)
