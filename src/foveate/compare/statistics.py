"""All arms of a study against its baseline: simultaneous intervals, adjusted p values and verdicts.

Arms that are trained with the same seeds are paired by seed. The variance of a difference is that of its two arms'
residuals after the seed's effect, moderated by the other arms (`foveate.compare.moderated`); critical values are
Dunnett's, over all arms (`foveate.compare.dunnett`). If every training is tested on the same cases, seeds and cases are
crossed random effects (`foveate.compare.crossed`). docs/statistics.md has the equations, error rates and power.

The 95 % intervals are simultaneous: in 95 % of studies all of them hold the true difference. An arm is called better or
worse exactly where its interval excludes zero, which is where its adjusted p is below 0.05.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtrit

from foveate.compare.crossed import crossed_variance
from foveate.compare.dunnett import adjusted_p, critical_value
from foveate.compare.moderated import Variance, fit_balanced_variances, fit_variances

__all__ = ["ALPHA", "BETTER", "LARGEST", "POWER", "SHARED_BASELINE", "UNSHOWN", "WORSE", "Difference", "Interval"]
__all__ += ["compare_pairs", "compare_pairs_by_case", "compare_to_baseline", "compare_to_baseline_by_case"]
__all__ += ["mean_interval"]

ALPHA = 0.05
POWER = 0.8
BETTER, WORSE, UNSHOWN = "better", "worse", "no difference shown"
WIDENING = 0.2  # share by which intervals are widened, divided by the number of arms: few arms make a poor pool
ARMS_BY_CASE = 4  # by case no more arms than these count there: the pool says little about few cases
WIDENING_TWO_SEEDS = 0.2  # share for two seeds, which lean most on the pool
ROUNDING = 1e-9  # differences below this share of the largest value are zero: 0.92 - 0.91 is not 0.93 - 0.92
LARGEST = 1e70  # a value beyond it is no measurement, and the square of its variance overflows
SHARED_BASELINE, ANY_PAIRS = 0.5, 0.0  # correlation of the differences
DF_STEP = 0.05  # degrees of freedom are rounded down to a multiple, so that critical values can be remembered
Key = TypeVar("Key", int, str)
Values = Mapping[int, float | None]  # by seed
CaseValues = Mapping[int, Mapping[str, float | None]]  # by seed, then by case


@dataclass(frozen=True)
class Interval:
    """A mean and its t interval; a single value has no interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline.

    Args:
        mean: Over the shared seeds (and cases); None if there are none.
        low: Lower end of the simultaneous 95 % interval; None if nothing can be claimed, whatever the mean.
        high: Upper end, likewise.
        p: Adjusted over all arms; below 0.05 exactly if the interval excludes zero.
        verdict: "better", "worse" or "no difference shown".
        trainings: Number of trainings behind the difference, of both arms.
        cases: Number of cases in every training; 0 if arms are paired by seed alone.
        by_seed: The difference at each shared seed.
        detectable: The smallest true difference that a study like this one calls in 80 % of repetitions.
        remark: Why something is missing or wider than elsewhere; empty if nothing is.
        error: The standard error of the mean.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: str = UNSHOWN
    trainings: int = 0
    cases: int = 0
    by_seed: tuple[float, ...] = ()
    detectable: float | None = None
    remark: str = ""
    error: float | None = None

    @property
    def seeds(self) -> int:
        """The number of seeds that both arms have."""
        return len(self.by_seed)


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean and its 95 % interval, mean -+ t(n - 1) * s / sqrt(n)."""
    if not values:
        raise ValueError("an interval takes one value or more; got none")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, None, None)
    squares = math.fsum((value - mean) ** 2 for value in values)
    error = math.sqrt(squares / (len(values) - 1) / len(values))
    reach = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * error
    return Interval(mean, mean - reach, mean + reach)


def compare_to_baseline(
    values: Mapping[str, Values], baseline: str, *, higher_is_better: bool = True, alpha: float = ALPHA
) -> dict[str, Difference]:
    """Compare every arm with the baseline, paired by seed.

    Args:
        values: Value by arm and seed. Missing seeds, None and NaN are runs that are not there.
        baseline: The arm that the others are compared with.
        higher_is_better: The direction of the metric.
        alpha: The error of one look at the study, where it is looked at more than once (`foveate.compare.sequential`).

    Returns:
        The difference of each arm but the baseline, in the order of `values`.

    Raises:
        ValueError: If the baseline is not among the arms.
    """
    others = _others(values, baseline)
    found = _compare(values, [(arm, baseline) for arm in others], SHARED_BASELINE, higher_is_better, alpha)
    return dict(zip(others, found, strict=True))


def compare_to_baseline_by_case(
    values: Mapping[str, CaseValues], baseline: str, *, higher_is_better: bool = True, alpha: float = ALPHA
) -> dict[str, Difference]:
    """Compare every arm with the baseline, paired by seed and by case.

    Args:
        values: Value by arm, seed and case. Cases that a run lacks, or has None or NaN for, are left out of all runs.
        baseline: The arm that the others are compared with.
        higher_is_better: The direction of the metric.
        alpha: The error of one look at the study, where it is looked at more than once (`foveate.compare.sequential`).

    Returns:
        The difference of each arm but the baseline, in the order of `values`.

    Raises:
        ValueError: If the baseline is not among the arms.
    """
    others = _others(values, baseline)
    found = _compare_by_case(values, [(arm, baseline) for arm in others], SHARED_BASELINE, higher_is_better, alpha)
    return dict(zip(others, found, strict=True))


def compare_pairs(
    values: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    higher_is_better: bool = True,
    alpha: float = ALPHA,
) -> list[Difference]:
    """Compare pairs of arms, paired by seed; the intervals are simultaneous over these pairs (Sidak).

    Args:
        values: Value by arm and seed; arms outside the pairs help to estimate the variances.
        pairs: (arm, the arm it is compared with).
        higher_is_better: The direction of the metric.
        alpha: As in `compare_to_baseline`.
    """
    return _compare(values, pairs, ANY_PAIRS, higher_is_better, alpha)


def compare_pairs_by_case(
    values: Mapping[str, CaseValues],
    pairs: Sequence[tuple[str, str]],
    *,
    higher_is_better: bool = True,
    alpha: float = ALPHA,
) -> list[Difference]:
    """Compare pairs of arms, paired by seed and by case, as `compare_pairs` does."""
    return _compare_by_case(values, pairs, ANY_PAIRS, higher_is_better, alpha)


def _others(values: Mapping[str, object], baseline: str) -> list[str]:
    if baseline not in values:
        raise ValueError(f'the baseline must be one of the arms {", ".join(values)}; got "{baseline}"')
    return [arm for arm in values if arm != baseline]


def _compare(
    values: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    correlation: float,
    higher_is_better: bool,
    alpha: float,
) -> list[Difference]:
    known = {arm: _known(by_seed) for arm, by_seed in values.items()}
    found = [_paired(known, arm, other) for arm, other in pairs]
    first = _first_of_equal(known)
    fitted = fit_variances({arm: known[arm] for arm in first.values()})
    variances = [
        fitted.of_difference(first[arm], first[other], each.seeds) if _is_open(each) else None
        for (arm, other), each in zip(pairs, found, strict=True)
    ]
    return _judged(found, variances, _repeated(known), correlation, higher_is_better, alpha)


def _compare_by_case(
    values: Mapping[str, CaseValues],
    pairs: Sequence[tuple[str, str]],
    correlation: float,
    higher_is_better: bool,
    alpha: float,
) -> list[Difference]:
    rows, cases, all_cases = _shared_cases(values)
    means = {arm: {seed: float(row.mean()) for seed, row in by_seed.items()} for arm, by_seed in rows.items()}
    found = [_paired(means, arm, other) for arm, other in pairs]
    if all_cases and not cases:
        return [dataclasses.replace(each, remark="no case that every run has") for each in found]
    told = "" if cases == all_cases else f"{cases} of {all_cases} cases are in every run"
    found = [
        dataclasses.replace(each, cases=cases if each.seeds else 0, remark=_joined(each.remark, told)) for each in found
    ]
    if cases == 1:
        return [
            dataclasses.replace(each, low=None, high=None, p=None, remark=_joined(each.remark, "one case: no interval"))
            for each in found
        ]
    variances = _crossed_variances(rows, means, pairs, found)
    arms = min(_repeated(means), ARMS_BY_CASE)
    return _judged(found, variances, arms, correlation, higher_is_better, alpha)


def _crossed_variances(
    rows: Mapping[str, Mapping[int, np.ndarray]],
    means: Mapping[str, Mapping[int, float]],
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Difference],
) -> list[Variance | None]:
    """Return the variance over seeds and cases of each difference that needs an interval."""
    first = _first_of_equal(means)
    trained = [arm for arm in dict.fromkeys(first.values()) if rows[arm]]
    if len(trained) < 2:
        return [None for _ in pairs]
    over_seeds = fit_variances({arm: means[arm] for arm in trained})
    over_cases = fit_balanced_variances(
        trained, np.array([np.mean(list(rows[arm].values()), axis=0) for arm in trained])
    )
    variances: list[Variance | None] = []
    for (arm, other), each in zip(pairs, found, strict=True):
        if not _is_open(each):
            variances.append(None)
            continue
        table = np.array([rows[arm][seed] - rows[other][seed] for seed in rows[arm] if seed in rows[other]])
        seeds, cases = table.shape
        parts = [
            over_seeds.of_difference(first[arm], first[other], seeds),
            over_cases.of_difference(first[arm], first[other], cases),
        ]
        variances.append(crossed_variance(table, *parts))
    return variances


def _known(values: Mapping[Key, float | None]) -> dict[Key, float]:
    """Return the values that are finite numbers whose squares can be summed."""
    return {key: float(value) for key, value in values.items() if value is not None and abs(value) < LARGEST}


def _shared_cases(values: Mapping[str, CaseValues]) -> tuple[dict[str, dict[int, np.ndarray]], int, int]:
    """Return each run's values of the cases that every run has, and the number of these and of all cases."""
    known = {
        arm: {seed: cases for seed, by_case in by_seed.items() if (cases := _known(by_case))}
        for arm, by_seed in values.items()
    }
    runs = [set(cases) for by_seed in known.values() for cases in by_seed.values()]
    every = set[str]().union(*runs)
    shared = sorted(every.intersection(*runs))
    if not shared:
        return {arm: {} for arm in known}, 0, len(every)
    rows = {
        arm: {seed: np.array([cases[case] for case in shared]) for seed, cases in by_seed.items()}
        for arm, by_seed in known.items()
    }
    return rows, len(shared), len(every)


def _paired(values: Mapping[str, Mapping[int, float]], arm: str, other: str) -> Difference:
    """Return the mean difference at the shared seeds, with an interval only if every difference is zero."""
    ours, theirs = values[arm], values[other]
    shared, every = sorted(ours.keys() & theirs.keys()), ours.keys() | theirs.keys()
    if not shared:
        return Difference(remark=f"no seed in common with {other}" if every else "not measured")
    by_seed = tuple(ours[seed] - theirs[seed] for seed in shared)
    size = max(abs(value) for seed in shared for value in (ours[seed], theirs[seed]))
    told = [] if len(shared) == len(every) else [f"{len(shared)} of {len(every)} seeds in common with {other}"]
    if max(map(abs, by_seed)) <= ROUNDING * size:
        by_seed = (0.0,) * len(shared)
    found = Difference(mean=math.fsum(by_seed) / len(shared), by_seed=by_seed, trainings=2 * len(shared))
    if len(shared) == 1:
        told.append("one seed: no interval")
    elif not any(by_seed):
        told.append(f"equal to {other} in every seed")
        found = dataclasses.replace(found, low=0.0, high=0.0, p=1.0)
    return dataclasses.replace(found, remark=_joined(*told))


def _is_open(difference: Difference) -> bool:
    """Return True if the difference needs an interval and has seeds enough for one."""
    return difference.seeds > 1 and difference.low is None


def _first_of_equal(values: Mapping[str, Mapping[int, float]]) -> dict[str, str]:
    """Return for each arm the first arm with equal values at two shared seeds or more, or the arm itself.

    A placebo repeats its baseline's noise, which must not count as the noise of two arms.
    """
    first: dict[str, str] = {}
    for arm in values:
        same = (other for other in first.values() if len(_paired(values, arm, other).by_seed) > 1)
        first[arm] = next((other for other in same if not any(_paired(values, arm, other).by_seed)), arm)
    return first


def _repeated(values: Mapping[str, Mapping[int, float]]) -> int:
    """Return the number of different arms with two seeds or more."""
    return sum(len(values[arm]) > 1 for arm in set(_first_of_equal(values).values()))


def _judged(
    found: Sequence[Difference],
    variances: Sequence[Variance | None],
    arms: int,
    correlation: float,
    higher_is_better: bool,
    alpha: float,
) -> list[Difference]:
    """Give every difference with a variance its simultaneous interval, its adjusted p and its verdict."""
    comparisons = sum(variance is not None for variance in variances)
    return [
        each
        if variance is None
        else _with_interval(each, variance, 1 + WIDENING / arms, comparisons, correlation, higher_is_better, alpha)
        for each, variance in zip(found, variances, strict=True)
    ]


def _with_interval(
    difference: Difference,
    variance: Variance,
    widening: float,
    comparisons: int,
    correlation: float,
    higher_is_better: bool,
    alpha: float,
) -> Difference:
    """Give a difference its interval, adjusted p and verdict; without any variance there is none."""
    mean, told = difference.mean or 0.0, difference.remark
    if variance.value == 0:
        return dataclasses.replace(difference, remark=_joined(told, "equal differences: no spread to judge by"))
    if difference.seeds == 2:
        widening, told = 1 + WIDENING_TWO_SEEDS, _joined(told, "two seeds: a wider interval")
    df = max(1.0, math.floor(variance.df / DF_STEP + ROUNDING) * DF_STEP)
    error = widening * math.sqrt(variance.value)
    critical = critical_value(comparisons, df, correlation, alpha)
    low, high = mean - critical * error, mean + critical * error
    verdict = UNSHOWN
    if low > 0 or high < 0:
        verdict = BETTER if (mean > 0) == higher_is_better else WORSE
    return dataclasses.replace(
        difference,
        low=low,
        high=high,
        p=min(1.0, adjusted_p(mean / error, comparisons, df, correlation) * ALPHA / alpha),
        verdict=verdict,
        detectable=(critical + float(stdtrit(df, POWER)) / widening) * error,
        remark=told,
        error=math.sqrt(variance.value),
    )


def _joined(*words: str) -> str:
    return "; ".join(word for word in words if word)
