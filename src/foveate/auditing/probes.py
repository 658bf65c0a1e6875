"""What a module does, whatever its weights are called: properties that the published layer has."""

from collections.abc import Callable

import torch
from torch import Tensor

from foveate.auditing.case import Case
from foveate.auditing.equation import difference
from foveate.auditing.explain import Explanation, difference_of
from foveate.auditing.inputs import SPACES
from foveate.auditing.result import Finding
from foveate.auditing.stages import dead_leaves
from foveate.auditing.subject import SEED, Refusal

__all__ = ["probe"]

NEAR_ZERO = 0.05
"""Of the largest input: below it output / input says little."""


def probe(case: Case, *, pooled: bool, explanation: Explanation | None) -> list[Finding]:
    """Every property of the published layer that the module lacks.

    Args:
        case: The module, with an input and its answer.
        pooled: Whether positions are pooled, so that they are not all treated alike and a single one is refused.
        explanation: The form whose output the module gives, if we know one.
    """
    properties: list[Callable[[Case], list[Finding]]] = [_repeatable, _alone]
    if case.fit.keeps and case.equation.gate is not None:
        properties.append(_gates)
    if case.fit.keeps and case.equation.moves and not pooled:
        properties.append(_permuted)
    findings = [finding for property_of in properties for finding in property_of(case)]
    return [*findings, *_sizes(case, pooled, explanation), *_parts(case, explanation is not None)]


def _repeatable(case: Case) -> list[Finding]:
    if difference(case.answer(*case.inputs), case.theirs) <= case.tolerance:
        return []
    return [Finding("random", "the published layer answers an input always alike; this one does not, in eval mode")]


def _alone(case: Case) -> list[Finding]:
    """A sample without the others of its batch."""
    try:
        single, expected = case.answer(*(x[:1] for x in case.inputs)), case.theirs[:1]
    except Refusal as refusal:
        return [Finding("batch-of-one", f"the published layer takes a batch of one; this one raises {refusal}")]
    if single.shape != expected.shape:
        said = f"the published output keeps the shape of a batch of one, {tuple(expected.shape)}"
        return [Finding("batch-of-one", f"{said}; this one has {tuple(single.shape)}")]
    apart = difference(single, expected)
    if apart <= case.tolerance:
        return []
    said = "the published answer to a sample does not depend on the others in its batch"
    return [
        Finding("batch-dependence", f"{said}; this one's changes by {apart:.2g} of the largest when it comes alone")
    ]


def _gates(case: Case) -> list[Finding]:
    """Output over input, where the input is not near zero."""
    assert case.equation.gate is not None
    far = case.x.abs() > NEAR_ZERO * case.x.abs().max()
    ratio = torch.where(far, case.theirs / case.x, torch.nan)
    findings = _range(case.equation.gate, ratio[far], case.tolerance)
    spread, positions = _spread(ratio), case.x[0, 0].numel()
    constant = spread <= 1e3 * case.tolerance
    if case.equation.varies and constant:
        said = "the published gate differs between the positions of a channel"
        findings.append(
            Finding("constant-map", f"{said}; this one's map has 1 distinct value at {positions} positions")
        )
    if not case.equation.varies and not constant:
        said = "the published gate is one number for all positions of a channel"
        findings.append(Finding("varying-gate", f"{said}; this one's differs by up to {spread:.2g} between them"))
    if (ratio[1:] - ratio[:1]).nan_to_num().abs().max().item() <= 1e3 * case.tolerance:
        said = "the published gate depends on the input; this one is the same for every sample"
        findings.append(Finding("input-independent", said))
    return findings


def _range(published: tuple[float, float], seen: Tensor, tolerance: float) -> list[Finding]:
    lowest, highest = seen.min().item(), seen.max().item()
    if published[0] - tolerance <= lowest and highest <= published[1] + tolerance:
        return []
    said = f"the published output is the input times a number in ({published[0]:g}, {published[1]:g})"
    return [Finding("gate-range", f"{said}; this one's is the input times {lowest:.2g} to {highest:.2g}")]


def _spread(ratio: Tensor) -> float:
    """The largest difference between two positions of a channel, unknown ones left out."""
    flat = ratio.flatten(2)
    highest, lowest = flat.nan_to_num(-torch.inf).amax(dim=2), flat.nan_to_num(torch.inf).amin(dim=2)
    return (highest - lowest).max().item()


def _permuted(case: Case) -> list[Finding]:
    order = torch.randperm(case.x[0, 0].numel(), generator=torch.Generator().manual_seed(SEED))

    def shuffled(features: Tensor) -> Tensor:
        return features.flatten(2)[:, :, order].reshape(features.shape)

    apart = difference(case.answer(shuffled(case.x)), shuffled(case.theirs))
    if apart <= case.tolerance:
        return []
    said = "the published layer treats all positions alike, so that permuted ones give a permuted output"
    return [Finding("position-dependence", f"{said}; this one's is {apart:.2g} of the largest away from it")]


def _sizes(case: Case, pooled: bool, explanation: Explanation | None) -> list[Finding]:
    """Sizes that the module refuses, or answers otherwise than at the size at which it was explained."""
    single = 2 if pooled or case.equation.gated else 1
    tried = [space for space in SPACES[case.spatial_dims] if min(space) >= single]
    wrong = {space: said for space in tried if (said := _at(case, space, explanation))}
    if not wrong:
        return []
    space, said = next(iter(wrong.items()))
    example = f"at {_by(space)} it gives {said}"
    squares = [space for space in tried if len(set(space)) == 1 and max(space) > 1]
    oblong = {space for space in tried if len(set(space)) > 1}
    published = "the published layer takes any size"
    if oblong == set(wrong) and squares:
        return [Finding("square-only", f"{published}; this one takes square inputs only: {example}")]
    sizes = f"{len(wrong)} of the {len(tried)} sizes tried ({', '.join(map(_by, wrong))})"
    return [Finding("sizes", f"{published}; this one does not take {sizes}: {example}")]


def _at(case: Case, space: tuple[int, ...], explanation: Explanation | None) -> str:
    """What is wrong with the module's answer at another size; nothing if it is right."""
    try:
        other = case.at(space)
    except Refusal as refusal:
        return str(refusal)
    if case.fit.keeps and other.theirs.shape != other.x.shape:
        return f"an output of {tuple(other.theirs.shape)}"
    if explanation is None:
        return ""
    apart = difference_of(other, explanation.match, explanation.variant, explanation.switches)
    if apart <= 10 * case.tolerance or apart == float("inf"):
        return ""
    return f"an output {apart:.2g} of the largest away from that of the form that it has at {_by(case.fit.space)}"


def _parts(case: Case, explained: bool) -> list[Finding]:
    """Parameters that the output does not use, submodules that are never called, and further outputs."""
    findings = []
    gradients = case.subject.gradients(*case.fit.arranged(case.inputs))
    unused = [name for name, gradient in gradients.items() if gradient is None]
    if unused:
        said = "every parameter of the published layer has a gradient"
        findings.append(Finding("unused-parameters", f"{said}; this one's output does not use {', '.join(unused)}"))
    owners = {name.rpartition(".")[0] for name in unused}
    dead = [said for name, said in dead_leaves(case.subject, *case.fit.arranged(case.inputs)) if name not in owners]
    if dead:
        said = f"the published layer has no idle part; this one builds and never calls {', '.join(dead)}"
        findings.append(Finding("dead-part", said, deviates=not explained))
    if case.subject.outputs > 1:
        said = (
            f"the published layer answers with one tensor; this one with {case.subject.outputs}, one of them compared"
        )
        findings.append(Finding("outputs", said, deviates=False))
    return findings


def _by(space: tuple[int, ...]) -> str:
    return "x".join(map(str, space))
