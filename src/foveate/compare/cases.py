"""Arms paired case by case: what the cases of a test set allow to be said of two sets of runs that segment.

Every arm is tested on the same cases, so the difference of two arms is taken in each: the mean over the classes of a
case, averaged over the seeds that both arms finished, arm minus baseline. Its t interval and test are over the cases.
Cases do not speak of the randomness of training; therefore the mean difference in each seed is kept beside it.

A structure that is not there and was not predicted has no Dice and no distance. Where both arms leave it out, so do
the means; where only one does, the other raised a false alarm, and against that an empty answer stands as perfect: were
the case left out, a false alarm would cost nothing.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from foveate.compare.statistics import Difference, paired_difference
from foveate.tasks.segment.metrics import Score

__all__ = ["case_values", "more_missed", "paired_by_case"]

PERFECT = {"dice": 1.0, "precision": 1.0, "surface_dice": 1.0, "hd95_mm": 0.0, "assd_mm": 0.0}

Runs = Mapping[int, Sequence[Score]]  # the scores of each seed's run


def case_values(runs: Runs, measure: str) -> dict[str, float]:
    """A measure of each case: the mean over its classes where it is defined, averaged over the seeds."""
    found: dict[str, list[float]] = {}
    for scores in runs.values():
        for case, values in _by_case(scores, measure).items():
            known = [value for value in values.values() if value is not None]
            if known:
                found.setdefault(case, []).append(_mean(known))
    return {case: _mean(values) for case, values in found.items()}


def paired_by_case(arm: Runs, baseline: Runs, measure: str) -> Difference:
    """Compare two arms case by case, over the seeds and the cases that both have."""
    pairs: dict[int, dict[str, tuple[float, float]]] = {}
    for seed in sorted(arm.keys() & baseline.keys()):
        ours, theirs = _by_case(arm[seed], measure), _by_case(baseline[seed], measure)
        both = {case: _pair(ours[case], theirs[case], measure) for case in ours if case in theirs}
        pairs[seed] = {case: pair for case, pair in both.items() if pair is not None}
    sides = [
        {case: _mean([pairs[seed][case][side] for seed in pairs if case in pairs[seed]]) for case in _cases(pairs)}
        for side in (0, 1)
    ]
    seeds = tuple(_mean([ours - theirs for ours, theirs in each.values()]) for each in pairs.values() if each)
    return dataclasses.replace(paired_difference(*sides), seeds=seeds)


def more_missed(arm: Runs, baseline: Runs) -> int:
    """How many more structures the arm missed than the baseline, over the seeds that both have."""
    ours, theirs = (
        sum(score.state == "missed" for seed in arm.keys() & baseline.keys() for score in runs[seed])
        for runs in (arm, baseline)
    )
    return ours - theirs


def _by_case(scores: Sequence[Score], measure: str) -> dict[str, dict[str, float | None]]:
    """The measure of each structure of each case; None where it is not defined."""
    found: dict[str, dict[str, float | None]] = {}
    for score in scores:
        found.setdefault(score.case, {})[score.structure] = getattr(score, measure)
    return found


def _pair(
    ours: Mapping[str, float | None], theirs: Mapping[str, float | None], measure: str
) -> tuple[float, float] | None:
    """Both arms' means over the structures of a case that one of them has a value for; None where there is none."""
    kept = [name for name in ours if ours[name] is not None or theirs.get(name) is not None]
    if not kept:
        return None
    filled = [[value if (value := side.get(name)) is not None else PERFECT[measure] for name in kept]
              for side in (ours, theirs)]  # fmt: skip
    return _mean(filled[0]), _mean(filled[1])


def _cases(pairs: Mapping[int, Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(case for each in pairs.values() for case in each))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
