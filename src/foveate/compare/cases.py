"""Values by arm, seed and case from the scores of runs that segment, ready for `compare_to_baseline_by_case`.

A structure that is not there and was not predicted has no Dice and no distance. A structure that no run of the study
finds, nor should find, is left out of the case's mean. If any run raises a false alarm there, every silent run counts
as perfect in that structure: were the structure left out of the silent runs, a false alarm would cost nothing.
"""

import math
from collections.abc import Mapping, Sequence

from foveate.tasks.segment.metrics import Score

__all__ = ["case_values", "comparable_values", "more_missed"]

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


def comparable_values(scores: Mapping[str, Runs], measure: str) -> dict[str, dict[int, dict[str, float]]]:
    """Return the measure by arm, seed and case, over the same structures of a case in every run.

    Args:
        scores: The scores by arm and seed.
        measure: A field of `Score`.
    """
    runs = {arm: {seed: _by_case(each, measure) for seed, each in by_seed.items()} for arm, by_seed in scores.items()}
    scored = {
        (case, name)
        for by_seed in runs.values()
        for run in by_seed.values()
        for case, structures in run.items()
        for name, value in structures.items()
        if value is not None
    }
    return {
        arm: {seed: _filled(run, scored, measure) for seed, run in by_seed.items()} for arm, by_seed in runs.items()
    }


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


def _filled(
    run: Mapping[str, Mapping[str, float | None]], scored: set[tuple[str, str]], measure: str
) -> dict[str, float]:
    """Return the mean of each case over the structures that some run is scored in."""
    means = {}
    for case, structures in run.items():
        values = [
            PERFECT.get(measure) if value is None else value
            for name, value in structures.items()
            if (case, name) in scored
        ]
        known = [value for value in values if value is not None]
        if known:
            means[case] = _mean(known)
    return means


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
