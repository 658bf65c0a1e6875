"""What the seeds of a study allow to be said: intervals, paired differences, corrected p values, and a careful verdict.

Student, "The probable error of a mean", Biometrika 1908, https://doi.org/10.1093/biomet/6.1.1: t intervals and tests.
Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 1979: correction over the arms.

A difference is claimed ("better", "worse") only where its own 95 % interval excludes zero and Holm's p, over all arms
by that metric, is below 0.05; else it is "no difference shown". Intervals are not widened for the number of arms.
Differences that are all equal have no interval, and p alone decides.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtr, stdtrit

from foveate.compare.controls import PLACEBO
from foveate.compare.folder import Failure, read_failures, read_json, read_plan, read_result
from foveate.compare.plan import notes_on_runs
from foveate.errors import RunError
from foveate.tasks.summary import Summary

__all__ = [
    "BETTER",
    "METRICS",
    "UNSHOWN",
    "WORSE",
    "ArmResult",
    "Difference",
    "Interval",
    "StudyResult",
    "holm",
    "mean_interval",
    "paired_difference",
    "summarise",
    "verdict",
]

ALPHA = 0.05
BETTER, WORSE, UNSHOWN = "better", "worse", "no difference shown"

# What a study is summarised by, the first one first: the dotted name in summary.json, and whether higher is better.
METRICS = {"accuracy": True, "loss": False, "pointing.network": True}
HIGHER_IS_BETTER = METRICS | {"balanced_accuracy": True, "macro_f1": True, "auroc": True, "val_accuracy": True}
HIGHER_IS_BETTER |= {"pointing.mechanism": True}

# Differences that are equal on paper differ by rounding (0.92 - 0.91 and 0.93 - 0.92): a spread below this share of the
# values themselves is none.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its t interval; one value has no interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """The mean over seeds of (arm - baseline), its t interval and the p value of the paired test.

    Args:
        pairs: How many seeds both have; only these are compared. What they are too few for is None.
    """

    pairs: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean and its 95 % interval, mean -+ t(n - 1) * s / sqrt(n)."""
    if not values:
        raise ValueError("an interval takes one value or more; got none")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, None, None)
    reach = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * _standard_error(values, mean)
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Compare two arms seed by seed, over the seeds that both have.

    Where all differences are equal, t is undefined. If they are zero (placebo is the baseline bit for bit), the
    interval is [0, 0] and p is 1. If not, p is that of the exact sign-flip test, 2 ** (1 - pairs), and there is no
    interval: a spread below the metric's steps (one test picture) need not be none.

    Args:
        arm: Value by seed.
        baseline: Value by seed.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    differences = [arm[seed] - baseline[seed] for seed in seeds]
    if not seeds:
        return Difference(0, None, None, None, None)
    size = max(abs(value) for seed in seeds for value in (arm[seed], baseline[seed]))
    if max(abs(value) for value in differences) <= ROUNDING * size:
        differences = [0.0] * len(seeds)
    interval = mean_interval(differences)
    if interval.low is None or interval.high is None:
        return Difference(1, interval.mean, None, None, None)
    if max(differences) - min(differences) <= ROUNDING * size:
        if interval.mean == 0:
            return Difference(len(seeds), 0.0, 0.0, 0.0, 1.0)
        return Difference(len(seeds), interval.mean, None, None, 2.0 ** (1 - len(seeds)))
    t = interval.mean / _standard_error(differences, interval.mean)
    return Difference(len(seeds), interval.mean, interval.low, interval.high, 2 * float(stdtr(len(seeds) - 1, -abs(t))))


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

    Else it is "no difference shown".
    """
    if difference.mean is None or p_corrected is None or p_corrected >= ALPHA:
        return UNSHOWN
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return UNSHOWN
    return BETTER if (difference.mean > 0) == higher_is_better else WORSE


@dataclass(frozen=True)
class ArmResult:
    """One arm by one metric.

    Args:
        seeds: The seeds of finished runs that have this metric; `values` are in the same order.
        mean: Over `values`, with its 95 % interval `low` to `high`; None where there are too few seeds.
        difference: To the baseline, over the `pairs` seeds that both have, with its interval `diff_low` to `diff_high`.
        p: Of the paired test; `p_corrected` is Holm's, over the arms.
        verdict: "better", "worse" or "no difference shown"; empty for the baseline.
        remark: Why something is missing, such as "one seed: no interval"; empty where nothing is.
    """

    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    difference: float | None = None
    diff_low: float | None = None
    diff_high: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    verdict: str = ""
    remark: str = ""


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Args:
        arms: By the first metric (accuracy), in the order of the study.
        metrics: The same by every metric.
        costs: Arm -> cost, as in costs.json.
        sites: Arm -> places of its mechanism in the network, as its runs counted them.
        dead_gates: Arm -> taps that are dead in a run, as "name (seed N)"; only arms that have some.
        failures: Runs that failed: arm, seed and a sentence.
        notes: What the reader must know, such as a control that could not be made.
        finished: Finished runs, of `total` that the study asks for.
    """

    folder: Path
    task: str
    data: str
    network: str
    start: str
    baseline: str
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    metrics: dict[str, tuple[ArmResult, ...]]
    costs: dict[str, dict[str, Any]]
    sites: dict[str, int]
    dead_gates: dict[str, tuple[str, ...]]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    finished: int
    total: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


def summarise(study: Path, metrics: Sequence[str] = tuple(METRICS)) -> StudyResult:
    """Read a study folder and say what its finished runs show.

    Args:
        study: The folder of `foveate compare`.
        metrics: Dotted names in summary.json; the first one is `StudyResult.arms`.

    Raises:
        RunError: If the folder is no study, or no run of it is finished.
    """
    study = Path(study)
    plan = read_plan(study)
    names = [arm["arm"] for arm in plan["arms"]]
    asked = [(arm, seed) for arm in names for seed in plan["seeds"]]
    failures = {(failure.arm, failure.seed): failure for failure in read_failures(study)}
    runs: dict[str, dict[int, Summary]] = {name: {} for name in names}
    for arm in plan["arms"]:
        for seed in plan["seeds"]:
            read = read_result(study, arm, seed)
            if isinstance(read, Failure):
                failures.setdefault((read.arm, read.seed), read)
            elif read is not None:
                runs[arm["arm"]][seed] = read
                failures.pop((arm["arm"], seed), None)
    if not any(runs.values()):
        first = next(iter(failures.values()), None)
        told = f"; {first.arm}, seed {first.seed}: {first.sentence}" if first else ""
        raise RunError(f"{study} has no finished run{told}")
    compared = {metric: _compare_arms(runs, plan["baseline"], metric) for metric in metrics}
    dead = {name: _dead_gates(runs[name]) for name in names if name != PLACEBO}  # whose gates are held on purpose
    return StudyResult(
        folder=study,
        **{name: plan[name] for name in ("task", "data", "network", "start", "baseline")},
        seeds=tuple(plan["seeds"]),
        arms=compared[metrics[0]],
        metrics=compared,
        costs=read_json(study / "costs.json") or {},
        sites={name: max((len(run.sites) for run in runs[name].values()), default=0) for name in names},
        dead_gates={name: taps for name, taps in dead.items() if taps},
        failures=tuple(failures.values()),
        notes=(*plan["notes"], *notes_on_runs(runs)),
        finished=sum(len(by_seed) for by_seed in runs.values()),
        total=len(asked),
    )


def _compare_arms(runs: Mapping[str, Mapping[int, Summary]], baseline: str, metric: str) -> tuple[ArmResult, ...]:
    if metric not in HIGHER_IS_BETTER:
        raise LookupError(f'no metric "{metric}"; there are {", ".join(HIGHER_IS_BETTER)}')
    values = {name: _values(by_seed, metric) for name, by_seed in runs.items()}
    others = [name for name in runs if name != baseline]
    differences = {name: paired_difference(values[name], values.get(baseline, {})) for name in others}
    corrected = dict(zip(others, holm([differences[name].p for name in others]), strict=True))
    results = []
    for name, by_seed in values.items():
        result = ArmResult(name, tuple(by_seed), tuple(by_seed.values()))
        if by_seed:
            result = dataclasses.replace(result, **dataclasses.asdict(mean_interval(result.values)))
        if name in differences:
            difference = differences[name]
            result = dataclasses.replace(
                result,
                pairs=difference.pairs,
                difference=difference.mean,
                diff_low=difference.low,
                diff_high=difference.high,
                p=difference.p,
                p_corrected=corrected[name],
                verdict=verdict(difference, corrected[name], higher_is_better=HIGHER_IS_BETTER[metric]),
                remark=_remark(difference, by_seed, values.get(baseline, {}), baseline),
            )
        results.append(result)
    return tuple(results)


def _values(by_seed: Mapping[int, Summary], metric: str) -> dict[int, float]:
    """The metric of each run that has it; a missing or infinite one is no value."""
    room, _, name = metric.rpartition(".")
    found = {seed: getattr(run, room or "metrics").get(name) for seed, run in by_seed.items()}
    return {seed: value for seed, value in found.items() if isinstance(value, int | float) and math.isfinite(value)}


def _remark(difference: Difference, arm: Mapping[int, float], baseline: Mapping[int, float], name: str) -> str:
    seeds = len(arm.keys() | baseline.keys())
    if not difference.pairs:
        return f"no seed in common with {name}" if seeds else "not measured"
    told = [] if difference.pairs == seeds else [f"{difference.pairs} of {seeds} seeds in common with {name}"]
    if difference.pairs == 1:
        told.append("one seed: no interval")
    elif difference.low is None:
        told.append("equal differences: sign test")
    return "; ".join(told)


def _dead_gates(by_seed: Mapping[int, Summary]) -> tuple[str, ...]:
    return tuple(
        f"{tap} (seed {seed})"
        for seed, run in by_seed.items()
        for tap, health in run.gate_health.items()
        if health.get("alive") is False
    )


def _standard_error(values: Sequence[float], mean: float) -> float:
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))
