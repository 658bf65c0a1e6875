"""Which of the deviations that we know gives exactly what a module computes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from foveate.auditing.case import Case
from foveate.auditing.equation import Equation, Switch, Variant, difference, load
from foveate.auditing.matching import Match
from foveate.auditing.subject import Refusal

__all__ = ["AS_BUILT", "Explanation", "difference_of", "explain", "published_difference"]

MOST = 3
"""Deviations at once, beside those that the shapes show; rare ones alone, or one of them beside another."""

AS_BUILT = Switch("geometry", "as built", "geometry", "")


@dataclass(frozen=True, eq=False)
class Explanation:
    """A form of the equation that gives what the module gives.

    Args:
        match: Its weights by role.
        variant: The published choice that it starts from.
        switches: The deviations from it.
        difference: What is left between the two.
        effects: How far the output moves if one deviation is put right, for each of them.
    """

    match: Match
    variant: Variant
    switches: tuple[Switch, ...]
    difference: float
    effects: tuple[float, ...]


def explain(case: Case, known: Sequence[Match]) -> tuple[Case, Explanation | None]:
    """The form with the fewest deviations whose output is the module's, and the case for which it is.

    A square input is tried beside an oblong one: some modules are right on squares only. What is found has to hold for
    larger inputs too.
    """
    square = case.square()
    for count in range(MOST + 1):
        for tried in (case,) if square is None or count > 1 else (case, square):
            for match, variant, switches in _forms(case.equation, known, count):
                left = difference_of(tried, match, variant, switches)
                if left <= case.tolerance and _holds(tried, match, variant, switches):
                    return tried, Explanation(match, variant, switches, left, _effects(tried, match, variant, switches))
    return case, None


def _holds(case: Case, match: Match, variant: Variant, switches: Sequence[Switch]) -> bool:
    try:
        loud = case.loud()
    except Refusal:
        return True
    return difference_of(loud, match, variant, switches) <= 10 * case.tolerance


def _effects(case: Case, match: Match, variant: Variant, switches: Sequence[Switch]) -> tuple[float, ...]:
    rest = [tuple(other for other in switches if other is not switch) for switch in switches]
    return tuple(difference_of(case, match, variant, others) for others in rest)


def published_difference(case: Case, match: Match, variant: Variant) -> float | None:
    """How far our layer is from the module at the same weights; None where it has no place for them all."""
    if not match.structure.published:
        return None
    layer = case.equation.layer(case.fit, match, strict=False, **variant.build)
    try:
        ours = load(layer, match.stages, case.equation.keys)(*case.inputs)
    except (RuntimeError, ValueError):  # weights or inputs of shapes that ours has not
        return None
    return None if ours.shape != case.theirs.shape else difference(ours.detach(), case.theirs)


def difference_of(case: Case, match: Match, variant: Variant, switches: Sequence[Switch]) -> float:
    """How far a form is from the module; infinite where the form cannot be computed."""
    options: dict[str, Any] = {**variant.compute, **{switch.option: switch.value for switch in switches}}
    moved = match.moving(options.pop("geometry", "published"))
    try:
        return difference(case.equation.compute(*case.inputs, moved.stages, **options), case.theirs)
    except (RuntimeError, ValueError, IndexError):  # a form that these shapes do not admit
        return float("inf")


def _forms(
    equation: Equation, known: Sequence[Match], count: int
) -> Iterator[tuple[Match, Variant, tuple[Switch, ...]]]:
    """All forms with so many deviations; most of those with several for the likeliest assignment of weights alone."""
    for place, match in enumerate(known):
        for variant, chosen in product(equation.variants(match), combinations(_switches(equation, match), count)):
            likely = place == 0 or count < 2 or (count < MOST and not any(switch.rare for switch in chosen))
            if likely and _consistent(variant.compute, chosen):
                yield match, variant, chosen


def _switches(equation: Equation, match: Match) -> list[Switch]:
    return [*([AS_BUILT] if match.built_otherwise else []), *equation.switches(match)]


def _consistent(published: Mapping[str, Any], chosen: Sequence[Switch]) -> bool:
    """Whether every option is set once, and to something else than the published choice; rare ones not in company."""
    options = [switch.option for switch in chosen]
    if len(set(options)) < len(options) or sum(switch.rare for switch in chosen) > MOST - len(chosen):
        return False
    return all(published.get(switch.option) != switch.value for switch in chosen)
