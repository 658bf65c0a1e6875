"""A published layer as an audit needs it: its roles, its published choices, and what copies get wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from foveate.auditing.inputs import Fit
from foveate.auditing.matching import Match, Structure
from foveate.auditing.result import Finding
from foveate.auditing.stages import Stage

if TYPE_CHECKING:
    from foveate.auditing.case import Case

__all__ = ["Equation", "Switch", "Variant", "choice", "difference", "load", "rarely"]


@dataclass(frozen=True)
class Switch:
    """One option of an equation set to what copies do instead of what is published.

    Args:
        option: The option of `Equation.compute`, or "geometry".
        value: What the copy does.
        kind: The kind of finding.
        sentence: What is published and what the copy does.
        rare: Whether it is tried alone and beside one other only.
    """

    option: str
    value: Any
    kind: str
    sentence: str
    rare: bool = False


@dataclass(frozen=True)
class Variant:
    """A published choice of options.

    Args:
        compute: Options of `Equation.compute`.
        build: Options of our layer.
        says: The choice in words, by option, where a reader will want to know it.
    """

    compute: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)

    def note(self, switches: Sequence[Switch]) -> list[Finding]:
        """Which of the published choices this is, but for what the switches change."""
        changed = {switch.option for switch in switches}
        said = [words for option, words in self.says.items() if option not in changed]
        return [Finding("form", f"of the published forms, this one {'; '.join(said)}", deviates=False)] if said else []


@dataclass(frozen=True)
class Equation:
    """A published layer.

    Args:
        name: Its name in the catalogue.
        structures: The published structure of its weights, and those that copies have.
        compute: The output from inputs, stages by role and options; without options, as published.
        variants: The published choices for a match, the likeliest first.
        switches: What copies get wrong, for a match.
        layer: Our layer for shapes that the module takes, with the sizes of a match, or the published ones without a
            match; with strict=True a kernel of a size that was never published counts as the published one.
        keys: Our layer's submodules by role: of the projection and of its normalisation.
        remarks: Findings on the sizes of a match, at shapes that the module takes.
        start: Findings on the weights that the module came with.
        gate: The interval in which output / input lies, or None where the layer is no gate.
        varies: Whether that gate differs between positions.
        moves: Whether the layer treats every position alike, so that permuted positions give a permuted output.
        input_size: The size of drawn features, from the channels.
        gated: Whether there is a second input, the gating signal.
    """

    name: str
    structures: Sequence[Structure]
    compute: Callable[..., Tensor]
    layer: Callable[..., nn.Module]
    keys: Mapping[str, tuple[str, str | None]]
    variants: Callable[[Match], Sequence[Variant]] = lambda match: (Variant(),)
    switches: Callable[[Match], Sequence[Switch]] = lambda match: ()
    remarks: Callable[[Match, Fit], Sequence[Finding]] = lambda match, fit: ()
    start: Callable[["Case"], Sequence[Finding]] = lambda case: ()
    gate: tuple[float, float] | None = (0.0, 1.0)
    varies: bool = False
    moves: bool = True
    input_size: Callable[[int], float] = lambda channels: 1.0
    gated: bool = False


def choice(option: str, kind: str, published: str, **values: str) -> list[Switch]:
    """Switches of one option, from the value to what the copy does."""
    return [Switch(option, value, kind, f"{published}; this one {says}") for value, says in values.items()]


def rarely(switches: Sequence[Switch]) -> list[Switch]:
    """The same switches, marked as rare."""
    return [replace(switch, rare=True) for switch in switches]


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference relative to the largest of theirs; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    largest = theirs.abs().max().item()
    return (ours - theirs).abs().max().item() / (largest or 1.0)


def load(layer: nn.Module, stages: Mapping[str, Stage], keys: Mapping[str, tuple[str, str | None]]) -> nn.Module:
    """Our layer with the weights of the stages, in float64 and eval mode.

    What they lack is made to do nothing: a bias is zero and a normalisation passes its input on.

    Raises:
        ValueError: If a stage has weights that our layer has no place for.
    """
    layer = layer.double().eval()
    with torch.no_grad():
        for role, stage in stages.items():
            projection, norm = keys[role]
            ours = layer.get_submodule(projection)
            weight, bias = ours.get_parameter("weight"), getattr(ours, "bias", None)
            weight.copy_(stage.weight.reshape(weight.shape))
            if bias is not None:
                bias.copy_(torch.zeros_like(bias) if stage.bias is None else stage.bias)
            if norm is not None:
                _load_norm(layer.get_submodule(norm), stage.norm)
    return layer


def _load_norm(ours: nn.Module, theirs: nn.Module | None) -> None:
    if not isinstance(ours, nn.modules.batchnorm._BatchNorm):
        return
    for key, neutral in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
        value = getattr(theirs, key, None)
        getattr(ours, key).copy_(torch.as_tensor(neutral) if value is None else value)
    ours.eps = getattr(theirs, "eps", 0.0)
