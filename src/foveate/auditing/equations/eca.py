"""What efficient channel attention is, and what copies of it do."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from foveate.auditing.equation import Equation, Switch, choice
from foveate.auditing.equations import common
from foveate.auditing.equations.se import squeeze_switches
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import PADDING_MODES, Geometry, Stage
from foveate.layers import ECA
from foveate.layers.eca import adaptive_kernel_size

__all__ = ["EQUATION"]

PUBLISHED_SIZES = (1, 3, 5, 7, 9)
CONV = Role("conv", 1, 1, "convolution across channels", kernel="line", bias=False, sizes=PUBLISHED_SIZES)
UNSHARED = Role("conv", "channels", 1, "convolution across channels", kernel="line", bias=False)


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    squeeze: str = "average",
    edges: str = "zeros",
    axis: str = "channel",
    gate: str = "sigmoid",
    application: str = "multiply",
) -> Tensor:
    """x * sigmoid(conv(z)), z the means over space as a sequence of channels."""
    z = common.squeezed(x, squeeze).flatten(1)  # (batch, channel)
    logits = across(z.mT, stages["conv"], edges).mT if axis == "batch" else across(z, stages["conv"], edges)
    return common.applied(x, common.gated(logits.reshape(*logits.shape, *[1] * (x.ndim - 2)), gate), application)


def across(z: Tensor, conv: Stage, edges: str) -> Tensor:
    """The convolution along the last axis of (batch, channel); with unshared weights each place has its own kernel."""
    moves = conv.geometry or Geometry.centred(conv.kernel)
    size, dilation, padding = conv.kernel[0], moves.dilation[0], moves.padding[0]
    mode = PADDING_MODES[moves.mode] if edges in ("zeros", "shifted") else edges
    padded = F.pad(z.unsqueeze(1), (padding, padding), mode=mode).squeeze(1)
    neighbours = padded.unfold(1, (size - 1) * dilation + 1, 1)[..., ::dilation]  # (batch, place, size)
    even = 1 - size % 2  # an even kernel has two middles
    first = even if edges == "shifted" else 0
    answered = (neighbours * conv.weight.squeeze(1)).sum(dim=-1)[:, first : neighbours.shape[1] - even + first]
    return answered if conv.bias is None else answered + conv.bias


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    even = match.stages["conv"].kernel[0] % 2 == 0
    middle = "an odd kernel has a middle; this one's stands left of its two middles"
    return [
        *([Switch("edges", "shifted", "shifted-kernel", middle)] if even else []),
        *choice(
            "edges",
            "padding",
            "the published kernel finds zeros beyond the first and last channel",
            circular="runs in a circle, so that the first channel hears the last",
            reflect="finds the channels mirrored",
            replicate="finds the outermost channel repeated",
        ),
        *choice(
            "axis",
            "wrong-axis",
            "the published convolution runs across the channels of a sample",
            batch="runs across the samples of a batch, so that a sample's answer depends on its neighbours",
        ),
        *squeeze_switches()[:-1],
        *common.gate_switches("gate"),
        *common.application_switches(),
    ]


def remarks(match: Match, fit: Fit) -> Sequence[Finding]:
    """Findings on the sizes of a match, at shapes that the module takes."""

    size, formula = match.stages["conv"].kernel[0], adaptive_kernel_size(fit.channels)
    if size not in PUBLISHED_SIZES:
        return [Finding("kernel-size", f"the published kernels are odd and at most 9 long; this one's is {size}")]
    if fit.assumed:
        said = f"nothing in it says how many channels it takes, so that its kernel of {size} is not held to the formula"
        return [Finding("channels", f"{said}; give channels=... for that", deviates=False)]
    if size == formula:
        return []
    said = f"the formula gives a kernel of {formula} for {fit.channels} channels; this one has {size}"
    released = "the released code fixes 3, the released weights have sizes set by hand, such as 3, 5, 5, 7 in ResNet-50"
    return [Finding("kernel-size", f"{said}; {released}", deviates=False)]


def layer(fit: Fit, match: Match | None, *, strict: bool) -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    formula = adaptive_kernel_size(fit.channels)
    size = match.extent("conv", formula, strict=strict) if match else formula
    return ECA(fit.channels, size if size % 2 else formula)


EQUATION = Equation(
    name="eca",
    structures=(
        Structure((CONV,)),
        Structure(
            (UNSHARED,),
            kind="unshared-kernel",
            sentence="the published kernel is shared by all channels; this one has one for each (the release's ECA-NS)",
        ),
    ),
    compute=compute,
    switches=switches,
    remarks=remarks,
    layer=layer,
    keys={"conv": ("conv", None)},
)
