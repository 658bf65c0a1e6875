"""Intervals, paired differences, corrected p values, and a careful verdict.

Student, "The probable error of a mean", Biometrika 1908, https://doi.org/10.1093/biomet/6.1.1: t intervals and tests.
Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 1979: correction over the arms.

A difference is claimed ("better", "worse") only where its own 95 % interval excludes zero and Holm's p, over all arms
by that metric, is below 0.05; else it is "no difference shown". Intervals are not widened for the number of arms.
Differences that are all equal have no interval, and p alone decides. Where cases were paired, which say nothing of the
randomness of training, the mean difference must have one sign in every seed too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scipy.special import stdtr, stdtrit

__all__ = [
    "ALPHA",
    "BETTER",
    "UNSHOWN",
    "WORSE",
    "Difference",
    "Interval",
    "holm",
    "mean_interval",
    "paired_difference",
    "verdict",
]

Key = TypeVar("Key", int, str)
ALPHA = 0.05
BETTER, WORSE, UNSHOWN = "better", "worse", "no difference shown"

# Differences that are equal on paper differ by rounding (0.92 - 0.91 and 0.93 - 0.92): a spread below this share of the
# values themselves is none.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean and its t interval; one value has no interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """The mean over pairs of (arm - baseline), its t interval and the p value of the paired test.

    Args:
        pairs: How many seeds, or cases, both have; only these are compared. What they are too few for is None.
        seeds: Where cases are paired, the mean difference in each seed.
    """

    pairs: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds: tuple[float, ...] = ()

    @property
    def one_sign(self) -> bool:
        """Whether every seed, where cases are paired, differs the way that the mean does."""
        return self.mean is not None and all(value * self.mean > 0 for value in self.seeds)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean and its 95 % interval, mean -+ t(n - 1) * s / sqrt(n)."""
    if not values:
        raise ValueError("an interval takes one value or more; got none")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, None, None)
    reach = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * _standard_error(values, mean)
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(arm: Mapping[Key, float], baseline: Mapping[Key, float]) -> Difference:
    """Compare two arms seed by seed, or case by case, over those that both have.

    Where all differences are equal, t is undefined. If they are zero (placebo is the baseline bit for bit), the
    interval is [0, 0] and p is 1. If not, p is that of the exact sign-flip test, 2 ** (1 - pairs), and there is no
    interval: a spread below the metric's steps (one test picture) need not be none.

    Args:
        arm: Value by seed, or by case.
        baseline: Likewise.
    """
    shared = sorted(arm.keys() & baseline.keys())
    differences = [arm[key] - baseline[key] for key in shared]
    if not shared:
        return Difference(0, None, None, None, None)
    size = max(abs(value) for key in shared for value in (arm[key], baseline[key]))
    if max(abs(value) for value in differences) <= ROUNDING * size:
        differences = [0.0] * len(shared)
    interval = mean_interval(differences)
    if interval.low is None or interval.high is None:
        return Difference(1, interval.mean, None, None, None)
    if max(differences) - min(differences) <= ROUNDING * size:
        if interval.mean == 0:
            return Difference(len(shared), 0.0, 0.0, 0.0, 1.0)
        return Difference(len(shared), interval.mean, None, None, 2.0 ** (1 - len(shared)))
    t = interval.mean / _standard_error(differences, interval.mean)
    return Difference(
        len(shared), interval.mean, interval.low, interval.high, 2 * float(stdtr(len(shared) - 1, -abs(t)))
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction: the k-th smallest of m times (m - k + 1), never below the one before it, at most 1.

    None is a test that could not be made; it stays None and does not count in m.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(made):
        floor = max(floor, min(1.0, p * (len(made) - rank)))
        corrected[index] = floor
    return corrected


def verdict(difference: Difference, p_corrected: float | None, *, higher_is_better: bool) -> str:
    """ "better" or "worse" where the corrected p and the interval, if there is one, exclude zero.

    Else, or where the seeds differ in sign, it is "no difference shown".
    """
    if difference.mean is None or p_corrected is None or p_corrected >= ALPHA:
        return UNSHOWN
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return UNSHOWN
    if not difference.one_sign:
        return UNSHOWN
    return BETTER if (difference.mean > 0) == higher_is_better else WORSE


def _standard_error(values: Sequence[float], mean: float) -> float:
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))
