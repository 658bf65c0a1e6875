"""What the equations of the gates share: squeezes, activations, gates, and what becomes of a gate."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.auditing.equation import Switch, choice, rarely
from foveate.auditing.result import Finding

__all__ = [
    "activated",
    "activation_switches",
    "application_switches",
    "applied",
    "gate_switches",
    "gated",
    "squeezed",
    "width_note",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "none": lambda x: x,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "none": lambda x: x,
    "relu_sigmoid": lambda x: x.relu().sigmoid(),
    "softmax": lambda x: x.softmax(dim=1),
    "tanh_plus_one": lambda x: 1 + torch.tanh(x),
    "twice": lambda x: 2 * torch.sigmoid(x),
}


def squeezed(x: Tensor, kind: str) -> Tensor:
    """(batch, channel, *space) to (batch, channel, *ones)."""
    space = tuple(range(2, x.ndim))
    match kind:
        case "average":
            return x.mean(dim=space, keepdim=True)
        case "max":
            return x.amax(dim=space, keepdim=True)
        case "lp":
            return x.square().sum(dim=space, keepdim=True).sqrt()
        case "lse":
            return x.logsumexp(dim=space, keepdim=True)
        case "average_and_max":
            return squeezed(x, "average") + squeezed(x, "max")
        case "half_average_and_max":
            return 0.5 * squeezed(x, "average_and_max")
        case "none":
            return x
        case "batch":
            return x.mean(dim=(0, *space), keepdim=True).expand(x.shape[0], *[-1] * (x.ndim - 1))
        case _:
            raise ValueError(f"no squeeze {kind!r}")


def activated(x: Tensor, kind: str) -> Tensor:
    """The activation of a hidden layer."""
    return ACTIVATIONS[kind](x)


def gated(logits: Tensor, kind: str) -> Tensor:
    """The gate that logits become."""
    return GATES[kind](logits)


def applied(x: Tensor, gate: Tensor, how: str) -> Tensor:
    """What becomes of the gate."""
    match how:
        case "multiply":
            return x * gate
        case "residual":
            return x + x * gate
        case "double_residual":
            return 2 * x + x * gate
        case "add":
            return x + gate
        case "gate":
            return gate
        case "expanded_gate":
            return gate.expand_as(x)
        case _:
            return gate * gate * x


def application_switches(published: str = "the published output is x times the gate") -> list[Switch]:
    """What copies make of the gate, instead of multiplying by it."""
    return [
        *choice("application", "extra-residual", published, residual="adds x once more (x + x times the gate)"),
        *choice("application", "gate-only", published, gate="returns the gate alone", expanded_gate="returns the gate"),
        *choice("application", "added-gate", published, add="adds the gate to x"),
        *rarely(choice("application", "squared-gate", published, squared="multiplies by the gate twice")),
    ]


def activation_switches(option: str, where: str) -> list[Switch]:
    """What copies have in place of a ReLU."""
    published = f"the published {where} is a ReLU"
    others = {kind: f"has {kind}" for kind in ACTIVATIONS if kind not in ("relu", "none")}
    return rarely(choice(option, "activation", published, none="has none", **others))


def gate_switches(option: str, which: str = "gate") -> list[Switch]:
    """What copies have in place of a sigmoid."""
    published = f"the published {which} is a sigmoid"
    return [
        *choice(option, "missing-sigmoid", published, none="has no sigmoid: the bare number multiplies x"),
        *choice(option, "relu-before-sigmoid", published, relu_sigmoid="puts a ReLU before it: no gate is below 1/2"),
        *rarely(_rare_gates(option, published)),
    ]


def _rare_gates(option: str, published: str) -> list[Switch]:
    return [
        *choice(option, "softmax-gate", published, softmax="takes a softmax over the channels, so that gates sum to 1"),
        *choice(
            option,
            "gate-function",
            published,
            hardsigmoid="takes a hard sigmoid",
            tanh="takes a tanh, in (-1, 1)",
            relu="takes a ReLU, without upper bound",
            tanh_plus_one="takes 1 + tanh, in (0, 2)",
            twice="takes twice a sigmoid, in (0, 2)",
        ),
    ]


def width_note(hidden: int, channels: int, reduction: int) -> list[Finding]:
    """How a bottleneck's width compares with the published ratio."""
    published = channels // reduction
    if hidden == 0:
        said = f"the published bottleneck has {channels} / {reduction} channels and at least one"
        return [Finding("empty-bottleneck", f"{said}; this one has 0, so that the gate cannot depend on the input")]
    if hidden == max(1, published):
        return []
    said = f"the published ratio of {reduction} leaves {max(1, published)} of {channels} channels in the bottleneck"
    rounded = -(-channels // reduction // 8) * 8
    eight = max(8, (published + 4) // 8 * 8)
    if hidden in (rounded, eight) and channels % hidden == 0:
        why = f"rounded up to a multiple of 8, or a ratio of {channels // hidden}"
    elif hidden in (rounded, eight):
        why = "rounded to a multiple of 8"
    else:
        why = f"a ratio of {channels / hidden:.3g}"
    return [Finding("width", f"{said}; this one has {hidden} ({why})", deviates=False)]
