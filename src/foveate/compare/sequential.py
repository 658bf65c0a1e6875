"""When a study of growing size may stop: its looks, the error that each may spend, and what each settles.

Seeds are added in rounds, and after each the study is looked at. An arm gets no more seeds once its interval excludes
zero, once its interval is narrow enough, or once neither can be expected from the seeds that remain.

Looking often finds differences by chance, so each look has a smaller error of its own (`levels`), and all of them
together claim falsely in at most 5 % of studies. The intervals of all looks hold together (repeated confidence
intervals). So an arm keeps the interval of the look that settled it, and a study may end for any other reason too.

Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 1983,
https://doi.org/10.1093/biomet/70.3.659: the error is spent along the study.
Kim and DeMets, "Design and analysis of group sequential tests based on the type I error spending rate function",
Biometrika 1987, https://doi.org/10.1093/biomet/74.1.149: spending by a power of the share of the data.
Armitage, McPherson and Rowe, "Repeated significance tests on accumulating data", JRSS A 1969,
https://doi.org/10.2307/2343787: the integral over all looks before.
Pocock, "Group sequential methods in the design and analysis of clinical trials", Biometrika 1977,
https://doi.org/10.1093/biomet/64.2.191: levels of the normal distribution serve for t tests as well.
Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", JRSS B 1989,
https://doi.org/10.1111/j.2517-6161.1989.tb01433.x: intervals that hold at all looks.
Spiegelhalter, Freedman and Blackburn, "Monitoring clinical trials: conditional or predictive power?", Controlled
Clinical Trials 1986, https://doi.org/10.1016/0197-2456(86)90003-6: the chance that the end will show a difference.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from foveate.compare.dunnett import critical_value
from foveate.compare.statistics import ALPHA, SHARED_BASELINE, UNSHOWN, Difference

__all__ = ["FIRST_LOOK", "MOST", "OUT_OF_REACH", "PRECISE", "STEP", "Compare", "Round", "Rule"]
__all__ += ["differences", "levels", "look", "looks", "next_runs", "replay", "settled_in"]

FIRST_LOOK = 3  # seeds; two lean too much on the spread of other arms
MOST = 10  # seeds of an arm, if nothing else is asked for
STEP = 0.01  # one point of accuracy or Dice: what is worth a run, if nothing else is asked for
SPENDING = 1.5  # the error spent by a share t of the seeds is ALPHA * t ** SPENDING
LEAST_CHANCE = 0.1  # of showing a difference with all seeds, below which an arm is out of reach
LATE_DF = 60.0  # degrees of freedom of a study with all seeds; too many rather than too few, to stop late
PRECISE, OUT_OF_REACH = "precise", "out of reach"
LEGENDRE_NODES, LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(201)
Runs = Mapping[str, tuple[int, ...]]  # the seeds of each arm
Compare = Callable[[Runs, float], Mapping[str, Difference]]  # the differences of these runs, with the error of a look


@dataclass(frozen=True)
class Rule:
    """The limits up to which a study may grow.

    Args:
        most: Seeds of an arm at most.
        precision: An interval that reaches no further than this to each side is narrow enough. Default: STEP, or one
            test sample if that is more.
        total_time_s: No round begins that would end later than this. Default: no limit.

    Raises:
        ValueError: If there is no room for a look, or a limit is not more than zero.
    """

    most: int = MOST
    precision: float | None = None
    total_time_s: float | None = None

    def __post_init__(self) -> None:
        if self.most < FIRST_LOOK:
            raise ValueError(f"seeds that are added in rounds are {FIRST_LOOK} or more; got {self.most}")
        for name, value in (("precision", self.precision), ("total_time_s", self.total_time_s)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be more than zero; got {value}")


@dataclass(frozen=True)
class Round:
    """One look at a study.

    Args:
        seeds: Number of seeds that each open arm has.
        level: The error of this look, by which its intervals are made.
        precision: How far an interval may reach to each side to be narrow enough.
        arms: The arms that were open, in the order of the study.
        runs: The seeds of every arm that the look saw.
        settled: Arm -> "better", "worse", "precise" or "out of reach", for the arms that get no more seeds.
        trainings: Number of runs that the look saw.
        fixed: Number of runs of a study that gives every arm these seeds.
    """

    seeds: int
    level: float
    precision: float
    arms: tuple[str, ...]
    runs: Runs
    settled: Mapping[str, str]
    trainings: int
    fixed: int


def looks(most: int) -> tuple[int, ...]:
    """Return the numbers of seeds at which a study of at most `most` seeds is looked at."""
    return tuple(range(FIRST_LOOK, most + 1))


@functools.lru_cache(maxsize=64)
def levels(most: int, comparisons: int) -> tuple[float, ...]:
    """Return the error of each look, such that all looks together err in at most ALPHA of studies.

    The statistics of successive looks share data. How much of the error that saves depends on how far out the critical
    values lie, so the shares are those of one comparison at its part of the error (Sidak).

    Args:
        most: Seeds of an arm at most.
        comparisons: Number of arms besides the baseline.
    """
    part = -math.expm1(math.log1p(-ALPHA) / comparisons)
    times = np.array(looks(most)) / most
    return tuple(level * ALPHA / part for level in _nominal_levels(times, part * times**SPENDING))


def _nominal_levels(times: np.ndarray, spent: np.ndarray) -> list[float]:
    """Return the two-sided levels at which a Brownian motion crosses for the first time as often as is spent."""
    found: list[float] = []
    points, mass, before = np.zeros(1), np.ones(1), 0.0
    for time, share in zip(times, np.diff(spent, prepend=0.0), strict=True):
        sd = math.sqrt(time - before)
        solved = optimize.root_scalar(_crossing, (points, mass, sd, share), bracket=(0.0, 20.0), xtol=1e-12)
        bound = float(solved.root)
        found.append(float(2 * special.ndtr(-bound / math.sqrt(time))))
        inside = bound * LEGENDRE_NODES
        density = np.exp(-(((inside[:, None] - points) / sd) ** 2) / 2) @ mass / (math.sqrt(2 * math.pi) * sd)
        points, mass, before = inside, density * LEGENDRE_WEIGHTS * bound, time
    return found


def _crossing(bound: float, points: np.ndarray, mass: np.ndarray, sd: float, share: float) -> float:
    """Return how much more often than `share` a step of `sd` from these points ends beyond the bound."""
    return float(mass @ (special.ndtr((points - bound) / sd) + special.ndtr((-bound - points) / sd))) - share


def next_runs(
    rule: Rule, arms: Sequence[str], baseline: str, rounds: Sequence[Round], without: Collection[str] = ()
) -> tuple[int, Runs] | None:
    """Return the seeds of the next look and the runs that it needs, finished or not; None if the study is over.

    Arms whose runs were missing at the last look are looked at with the same seeds first.

    Args:
        rule: How far the study may grow.
        arms: All arms, the baseline among them.
        baseline: The arm that the others are compared with.
        rounds: The looks until now.
        without: Arms that cannot go on because a run of theirs failed.
    """
    if baseline in without:
        return None
    settled = settled_in(rounds)
    waiting = [arm for arm in arms if arm != baseline and arm not in settled and arm not in without]
    seeds = FIRST_LOOK
    if rounds:
        last = rounds[-1].seeds
        behind = [arm for arm in waiting if len(rounds[-1].runs.get(arm, ())) < last]
        seeds, waiting = (last, behind) if behind else (last + 1, waiting)
    if not waiting or seeds > rule.most:
        return None
    return seeds, {arm: tuple(range(seeds)) for arm in (baseline, *waiting)}


def look(
    compare: Compare,
    rule: Rule,
    arms: Sequence[str],
    baseline: str,
    rounds: Sequence[Round],
    finished: Mapping[str, Collection[int]],
    precision: float,
    without: Collection[str] = (),
) -> Round:
    """Look at the study with the runs that `next_runs` asked for, all of them finished.

    Args:
        compare: Compares runs, given as the seeds of each arm, with the error of a look.
        rule: As in `next_runs`; so are `arms`, `baseline`, `rounds` and `without`.
        finished: The seeds of each arm's finished runs.
        precision: How far an interval may reach to each side to be narrow enough.

    Raises:
        ValueError: If there is nothing to look at.
    """
    asked = next_runs(rule, arms, baseline, rounds, without)
    if asked is None:
        raise ValueError("a look needs an arm that is open; every arm is settled or was left behind")
    seeds, needed = asked
    before = {arm: each.runs[arm] for each in rounds for arm in each.settled}
    runs = {arm: before.get(arm, tuple(seed for seed in sorted(finished.get(arm, ())) if seed < seeds)) for arm in arms}
    waiting = tuple(arm for arm in needed if arm != baseline)
    return _judged(compare, rule, Round(seeds, 0.0, precision, waiting, runs, {}, 0, 0))


def replay(compare: Compare, rule: Rule, rounds: Sequence[Round]) -> list[Round]:
    """Return the same looks at the same runs, their levels and what they settle computed anew."""
    return [_judged(compare, rule, each) for each in rounds]


def settled_in(rounds: Sequence[Round]) -> dict[str, str]:
    """Return how each arm was settled, in the order in which they were."""
    return {arm: how for each in rounds for arm, how in each.settled.items()}


def differences(compare: Compare, rounds: Sequence[Round]) -> dict[str, Difference]:
    """Return each arm's difference at the look that settled it, else at the last one."""
    found: dict[str, Difference] = {}
    for each in rounds:
        told = compare(each.runs, each.level)
        found |= {arm: told[arm] for arm in (*each.arms, *told) if arm in each.arms or arm not in found}
    return found


def _judged(compare: Compare, rule: Rule, each: Round) -> Round:
    """Fill in the level of a look and what it settles."""
    every = levels(rule.most, max(1, len(each.runs) - 1))
    level = every[each.seeds - FIRST_LOOK]
    found = compare(each.runs, level)
    settled = {}
    for arm in each.arms:
        how = _settled(found[arm], each.seeds / rule.most, each.precision, len(found), every[-1])
        if how:
            settled[arm] = how
    trainings = sum(map(len, each.runs.values()))
    fixed = each.seeds * len(each.runs)
    return dataclasses.replace(each, level=level, settled=settled, trainings=trainings, fixed=fixed)


def _settled(difference: Difference, share: float, precision: float, comparisons: int, last_level: float) -> str:
    """Return how a look settles an arm that has this share of its seeds; empty if it stays open."""
    if difference.verdict != UNSHOWN:
        return difference.verdict
    if difference.low is None or difference.high is None:
        return ""
    if (difference.high - difference.low) / 2 <= precision:
        return PRECISE
    mean, error = difference.mean or 0.0, difference.error
    if error is None or share == 1:
        return ""
    reach = critical_value(comparisons, LATE_DF, SHARED_BASELINE, last_level) * error * math.sqrt(share)
    if reach <= precision:
        return ""
    spread = error * math.sqrt(1 - share)  # of the final mean around that of now
    chance = special.ndtr((mean - reach) / spread) + special.ndtr((-mean - reach) / spread)
    return OUT_OF_REACH if chance < LEAST_CHANCE else ""
