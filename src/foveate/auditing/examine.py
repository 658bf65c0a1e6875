"""The audit itself: copy, match, compute, explain, probe, and say it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from foveate.auditing.case import Case
from foveate.auditing.catalogue import equation_of
from foveate.auditing.equation import Variant
from foveate.auditing.explain import AS_BUILT, Explanation, explain, published_difference
from foveate.auditing.inputs import find_fit, fit_of_example
from foveate.auditing.matching import Match, matches
from foveate.auditing.probes import probe
from foveate.auditing.result import Audit, Finding, Verdict
from foveate.auditing.stages import Stage, collect
from foveate.auditing.structure import geometry_sentence, structure_findings
from foveate.auditing.subject import Refusal, Subject

__all__ = ["audit"]


def audit(
    module: nn.Module,
    name: str,
    *,
    channels: int | None = None,
    spatial_dims: int | None = None,
    example: Tensor | tuple[Tensor, ...] | None = None,
) -> Audit:
    """Compare somebody's copy of a published mechanism with the published one, and say in words what differs.

    The module is copied: the copy gets drawn weights, float64, the CPU and eval mode, and the module itself stays as it
    is. Its weights are matched with ours by shape, name and order of use. Where the outputs differ, the deviations that
    are known from public copies are tried, up to three at once beside those that the shapes show; those that give
    exactly the module's output are named.

    Args:
        module: Anybody's layer, with forward(x); for an attention gate with forward(x, g) or forward(g, x).
        name: What it claims to be: "CBAM", "BAM", "ECA", "SE", "ScSE", "NonLocal" or "AttentionGate", in any case, or
            the name in the catalogue.
        channels: Channels of its input; found from its weights unless given.
        spatial_dims: Spatial axes of its input, 1 to 3; found unless given.
        example: An input, or all of them in the order of its forward, where those that are tried would not do. Only
            the shapes count.

    Raises:
        TypeError: If the module is none of torch.nn, or is TorchScript, whose parts cannot be watched.
        LookupError: If no published mechanism has that name.
        ValueError: If channels or spatial_dims is no number that a layer can have.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"audit takes a torch.nn.Module; got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"audit takes a module that is no TorchScript; got {module.original_name} as TorchScript")
    if channels is not None and channels < 1:
        raise ValueError(f"channels must be at least 1; got {channels}")
    if spatial_dims is not None and spatial_dims not in (1, 2, 3):
        raise ValueError(f"spatial_dims must be 1, 2 or 3; got {spatial_dims}")
    equation = equation_of(name)
    with torch.random.fork_rng(devices=[]), _one_thread():  # building a layer of ours draws its start
        try:
            subject = Subject(module)
        except Refusal as refusal:
            return _incomparable(module, equation.name, str(refusal))
        if example is None:
            fit, said = find_fit(subject, channels, spatial_dims, gated=equation.gated)
        else:
            fit, said = fit_of_example(subject, example, gated=equation.gated)
        if fit is None:
            return _incomparable(module, equation.name, f"it takes none of the inputs that were tried: {said}")
        subject.draw_lively(*fit.arranged(fit.inputs(equation.input_size(fit.channels))))
        return _compared(module, Case.of(equation, subject, fit))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of forms of small inputs: several threads take longer to meet than to compute."""
    held = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(held)


def _compared(module: nn.Module, case: Case) -> Audit:
    stages, loose = collect(case.subject, *case.fit.arranged(case.inputs))
    known = matches(case.equation.structures, stages, loose, case.fit.sizes)
    case, explanation = explain(case, known)
    match, variant, largest = _closest(case, known, explanation)
    findings = [
        *([] if match is None else _of_weights(case, match, explanation)),
        *([] if explanation is None else _of_numbers(case, explanation)),
        *([] if explanation or match is None else [_unexplained(largest)]),
        *probe(case, pooled=_pooled(variant), explanation=explanation),
        *case.equation.start(case),
    ]
    if match is None:
        findings.append(Finding("weights", f"its weights fit no form that we know: {_listed(stages)}", deviates=False))
    layer = case.equation.layer(case.fit, match, strict=True, **(variant.build if variant else {}))
    return Audit(
        name=case.equation.name,
        module=type(module).__name__,
        channels=case.fit.channels,
        verdict=_verdict(findings, explanation),
        parameters=_count(module),
        our_parameters=_count(layer),
        largest_difference=largest,
        remaining_difference=explanation.difference if explanation else None,
        findings=tuple(sorted(findings, key=lambda finding: not finding.deviates)),
    )


def _closest(
    case: Case, known: Sequence[Match], explanation: Explanation | None
) -> tuple[Match | None, Variant | None, float | None]:
    """The assignment and the published choice that come closest, and how far our layer is from the module with them."""
    if explanation is not None:
        match, variant = explanation.match, explanation.variant
        return match, variant, published_difference(case, match, variant)
    pairs = [(match, variant) for match in known for variant in case.equation.variants(match)]
    measured = [(apart, *pair) for pair in pairs if (apart := published_difference(case, *pair)) is not None]
    if measured:
        apart, match, variant = min(measured, key=lambda item: item[0])
        return match, variant, apart
    return (*pairs[0], None) if pairs else (None, None, None)


def _of_weights(case: Case, match: Match, explanation: Explanation | None) -> list[Finding]:
    accounted = explanation is not None and any(switch.option == "factor" for switch in explanation.switches)
    loose = {name: value for name, value in match.loose.items() if not accounted or value.numel() > 1}
    return [*structure_findings(replace(match, loose=loose)), *case.equation.remarks(match, case.fit)]


def _of_numbers(case: Case, explanation: Explanation) -> list[Finding]:
    """The deviations that explain the output, each with what it does to it; and which published choice it is."""
    findings = []
    for switch, effect in zip(explanation.switches, explanation.effects, strict=True):
        said = geometry_sentence(explanation.match) if switch is AS_BUILT else switch.sentence
        percent = 100 * effect
        moved = f"; this alone is {percent:{'.0f' if percent >= 10 else '.2g'}} % of the largest output"
        findings.append(Finding(switch.kind, said + (moved if effect < float("inf") else "")))
    return [*findings, *explanation.variant.note(explanation.switches)]


def _unexplained(largest: float | None) -> Finding:
    known = "no deviation that we know explains it, nor do those that were tried together"
    if largest is None:
        return Finding("unexplained", f"the published layer has no place for all of these weights, and {known}")
    said = f"at the same weights the published output and this one differ by {largest:.2g} of the largest"
    return Finding("unexplained", f"{said}; {known}")


def _incomparable(module: nn.Module, name: str, said: str) -> Audit:
    finding = Finding("input", said, deviates=False)
    return Audit(name, type(module).__name__, None, "cannot be compared", _count(module), None, None, None, (finding,))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if not isinstance(p, nn.UninitializedParameter))


def _verdict(findings: Sequence[Finding], explanation: Explanation | None) -> Verdict:
    if any(finding.deviates for finding in findings):
        return "deviates"
    return "agrees" if explanation is not None else "cannot be compared"


def _pooled(variant: Variant | None) -> bool:
    return variant is not None and variant.compute.get("pool", "none") != "none"


def _listed(stages: Sequence[Stage]) -> str:
    return ", ".join(f"{stage.name or 'weight'} {tuple(stage.weight.shape)}" for stage in stages) or "it has none"
