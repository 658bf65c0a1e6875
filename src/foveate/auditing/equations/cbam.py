"""What CBAM and its spatial half are, and what copies of them do."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from foveate.auditing.case import Case, trained
from foveate.auditing.equation import Equation, Switch, choice, rarely
from foveate.auditing.equations import common
from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Role, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage
from foveate.layers import CBAM, SpatialGate

__all__ = ["EQUATION", "SPATIAL"]

Gate = Callable[..., Tensor]
FIRST = Role("fc1", "hidden", "channels", "first layer of the perceptron", hints=("fc1", "avg"))
SECOND = Role("fc2", "channels", "hidden", "second layer of the perceptron", hints=("fc2", "avg"))
KERNEL = Role("kernel", 1, 2, "kernel over space", kernel="space", bias=False, norm=True, sizes=(3, 7))
OF_MAXIMUM = (
    Role("fc1_max", "hidden", "channels", "first layer of the maxima's perceptron", hints=("max",)),
    Role("fc2_max", "channels", "hidden", "second layer of the maxima's perceptron", hints=("max",)),
)
SINGLE = Role("single", "channels", "channels", "only layer of the channel gate")
UNSHARED = "the published perceptron is one, shared by means and maxima; this one has a perceptron for each"
NO_SPATIAL = "the published layer ends in a spatial gate; this one has none (an option of the release)"
NO_BOTTLENECK = "the published perceptron has two layers with a bottleneck of channels / 16; this has one square layer"


def compute(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    pools: tuple[str, ...] = ("average", "max"),
    squash: str = "sum",
    activation: str = "relu",
    last: str = "none",
    channel_gate: str = "sigmoid",
    stacked: tuple[str, ...] = ("max", "mean"),
    spatial_gate: str = "sigmoid",
    order: str = "channel_first",
    application: str = "multiply",
) -> Tensor:
    """F' = Mc(F) F, F'' = Ms(F') F'."""

    def channel(features: Tensor, gate: str = channel_gate) -> Tensor:
        answers = [
            common.activated(_perceptron(common.squeezed(features, kind), stages, place, activation), last)
            for place, kind in enumerate(pools)
        ]
        return _squashed(answers, squash, gate)

    def spatial(features: Tensor, gate: str = spatial_gate) -> Tensor:
        return common.gated(spatial_logits(features, stages["kernel"], stacked), gate)

    return common.applied(x, _ordered(x, channel, spatial, order, "kernel" in stages), application)


def _ordered(x: Tensor, channel: Gate, spatial: Gate, order: str, both: bool) -> Tensor:
    """Both gates in one, as they follow each other."""
    if not both:
        return channel(x)
    match order:
        case "channel_first":
            gate = channel(x)
            return gate * spatial(x * gate)
        case "spatial_first":
            gate = spatial(x)
            return gate * channel(x * gate)
        case "both_of_x":
            return channel(x) * spatial(x)
        case "parallel":
            return (channel(x, "none") + spatial(x, "none")).sigmoid()
        case _:
            return channel(x) + spatial(x)


def _perceptron(z: Tensor, stages: Mapping[str, Stage], place: int, activation: str) -> Tensor:
    if "single" in stages:
        return stages["single"](z)
    second = place == 1 and "fc1_max" in stages
    first, last = ("fc1_max", "fc2_max") if second else ("fc1", "fc2")
    return stages[last](common.activated(stages[first](z), activation))


def _squashed(answers: list[Tensor], squash: str, gate: str) -> Tensor:
    total = torch.stack(answers)
    match squash:
        case "sum":
            return common.gated(total.sum(dim=0), gate)
        case "mean":
            return common.gated(total.mean(dim=0), gate)
        case "max":
            return common.gated(total.amax(dim=0), gate)
        case "product":
            return common.gated(total.prod(dim=0), gate)
        case _:
            return torch.stack([common.gated(answer, gate) for answer in answers]).sum(dim=0)


def spatial_logits(x: Tensor, kernel: Stage, stacked: tuple[str, ...]) -> Tensor:
    """The kernel's answer to what is stacked over the channels."""
    maps = {"max": x.amax(dim=1), "mean": x.mean(dim=1), "sum": x.sum(dim=1), "min": x.amin(dim=1)}
    return kernel(torch.stack([maps[kind] for kind in stacked], dim=1))


def switches(match: Match) -> Sequence[Switch]:
    """What copies get wrong, for a match."""

    perceptron = [] if "single" in match.stages else common.activation_switches("activation", "activation in between")
    channel = [
        *_pool_switches(),
        *_squash_switches(),
        *choice(
            "last",
            "relu-after-second-layer",
            "the published perceptron ends in its second layer",
            relu="puts a ReLU behind it, so that no gate is below 1/2",
        ),
        *perceptron,
        *common.gate_switches("channel_gate", "channel gate"),
    ]
    both = [*spatial_switches(), *_order_switches()] if "kernel" in match.stages else []
    return [*both, *channel, *common.application_switches("the published output is x times the gates")]


def _pool_switches() -> list[Switch]:
    published = "the published channel gate hears means and maxima"
    common_faults = {
        ("average",): ("missing-pool", "the means alone"),
        ("max",): ("missing-pool", "the maxima alone"),
        ("average", "average"): ("pooled-twice", "the means twice"),
        ("max", "max"): ("pooled-twice", "the maxima twice"),
    }
    offered = [pools for count in (1, 2, 3, 4) for pools in combinations(("average", "max", "lp", "lse"), count)]
    options = [pools for pools in offered if {"lp", "lse"} & set(pools)]
    return [
        *(Switch("pools", k, kind, f"{published}; this one hears {what}") for k, (kind, what) in common_faults.items()),
        *(
            Switch(
                "pools",
                pools,
                "pools",
                f"{published}; this one hears {', '.join(pools)} (options of the release)",
                True,
            )
            for pools in options
        ),
    ]


def _squash_switches() -> list[Switch]:
    published = "the published channel gate adds the perceptron's two answers and takes the sigmoid of the sum"
    return [
        *choice("squash", "sigmoid-before-sum", published, each="adds two sigmoids, so that a gate can reach 2"),
        *rarely(
            choice(
                "squash",
                "combination",
                published,
                mean="takes their mean",
                max="takes the larger",
                product="takes their product",
            )
        ),
    ]


def _order_switches() -> list[Switch]:
    published = "the published spatial gate sees what the channel gate has passed"
    return choice(
        "order",
        "gate-order",
        published,
        spatial_first="comes before the channel gate (an ablation of the paper)",
        both_of_x="sees the input, as the channel gate does",
        parallel="sees the input, and one sigmoid takes both logits (an ablation of the paper)",
        sum="sees the input, and the two gates are added",
    )


def spatial_switches() -> list[Switch]:
    """What copies do in the spatial gate."""
    released = "the release stacks [maximum, mean] before the kernel over space"
    stacks = {
        ("mean", "max"): "pool-order",
        ("max", "max"): "stacked-twice",
        ("mean", "mean"): "stacked-twice",
        ("max", "sum"): "stacked-sum",
    }
    return [
        *(
            Switch("stacked", stack, kind, f"{released}; this one [{', '.join(stack)}]".replace("max]", "maximum]"))
            for stack, kind in stacks.items()
        ),
        *common.gate_switches("spatial_gate", "spatial gate"),
    ]


def remarks(match: Match, fit: Fit) -> Sequence[Finding]:
    """Findings on the sizes of a match, at shapes that the module takes."""

    return [] if "hidden" not in match.sizes else common.width_note(match.sizes["hidden"], fit.channels, 16)


def start(case: Case) -> Sequence[Finding]:
    """Where the spatial normalisation starts: only its weight is one channel wide and stands beside statistics."""
    if trained(case.subject.given):
        return []
    owners = [part for part in case.subject.given.modules() if hasattr(part, "running_var")]
    weights = [getattr(part, "weight", None) for part in owners]
    last = [weight.item() for weight in weights if isinstance(weight, Tensor) and weight.numel() == 1]
    if not last or last[0] == 0:
        return []
    said = "the release starts the spatial normalisation's weight at 0, so that every spatial gate starts at 1/2"
    return [Finding("start", f"{said}; this one's is {last[0]:.3g} as it stands", deviates=False)]


def layer(fit: Fit, match: Match | None, *, strict: bool) -> nn.Module:
    """Our layer, with the sizes of a match or else the published ones."""

    hidden = match.sizes.get("hidden") or None if match else None
    size = match.extent("kernel", 7, strict=strict) if match else 7
    return CBAM(fit.channels, hidden_channels=hidden, kernel_size=size, spatial_dims=len(fit.space))


EQUATION = Equation(
    name="cbam",
    structures=(
        Structure((FIRST, SECOND, KERNEL)),
        Structure((FIRST, SECOND, *OF_MAXIMUM, KERNEL), "unshared-perceptron", UNSHARED),
        Structure((SINGLE, KERNEL), "no-bottleneck", NO_BOTTLENECK),
        Structure((FIRST, SECOND), "no-spatial-gate", NO_SPATIAL),
    ),
    compute=compute,
    switches=switches,
    remarks=remarks,
    layer=layer,
    keys={"fc1": ("fc1", None), "fc2": ("fc2", None), "kernel": ("spatial.conv", "spatial.norm")},
    start=start,
    varies=True,
    moves=False,
)


def compute_spatial(
    x: Tensor,
    stages: Mapping[str, Stage],
    *,
    stacked: tuple[str, ...] = ("max", "mean"),
    spatial_gate: str = "sigmoid",
    application: str = "multiply",
) -> Tensor:
    """Ms(F) F."""
    gate = common.gated(spatial_logits(x, stages["kernel"], stacked), spatial_gate)
    return common.applied(x, gate, application)


def layer_spatial(fit: Fit, match: Match | None, *, strict: bool) -> nn.Module:
    """Our spatial gate, with the sizes of a match or else the published ones."""

    size = match.extent("kernel", 7, strict=strict) if match else 7
    return SpatialGate(fit.channels, size, spatial_dims=len(fit.space))


SPATIAL = Equation(
    name="spatial",
    structures=(Structure((KERNEL,)),),
    compute=compute_spatial,
    switches=lambda match: [*spatial_switches(), *common.application_switches()],
    layer=layer_spatial,
    keys={"kernel": ("spatial.conv", "spatial.norm")},
    start=start,
    varies=True,
    moves=False,
)
