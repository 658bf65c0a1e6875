"""What a study found: every arm by every metric, read from the folders of its runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.compare.cases import case_values, comparable_values, more_missed
from foveate.compare.controls import PLACEBO
from foveate.compare.finished import Finished, read_finished, values_of
from foveate.compare.folder import Failure, read_json, read_plan, run_folder
from foveate.compare.plan import notes_on_runs
from foveate.compare.rounds import read_rounds
from foveate.compare.sequential import Round, differences
from foveate.compare.statistics import (
    ALPHA,
    BETTER,
    UNSHOWN,
    WORSE,
    Difference,
    compare_pairs,
    compare_pairs_by_case,
    compare_to_baseline,
    compare_to_baseline_by_case,
    mean_interval,
)
from foveate.compare.task import Task, task_named
from foveate.errors import RunError
from foveate.tasks.files import CASES
from foveate.tasks.segment.metrics import read_scores
from foveate.tasks.summary import Summary

__all__ = ["ArmResult", "StudyResult", "differences_between", "differences_to", "summarise"]


@dataclass(frozen=True)
class ArmResult:
    """One arm by one metric.

    Args:
        seeds: The seeds of finished runs that have this metric; `values` are in the same order.
        mean: Over `values`, or over the cases of a task that pairs them, with its 95 % interval `low` to `high`; None
            where there are too few.
        difference: To the baseline, over the `pairs` seeds or cases that both have, with its simultaneous 95 %
            interval `diff_low` to `diff_high`.
        p_corrected: Adjusted over the arms; below 0.05 exactly if the interval excludes zero.
        verdict: "better", "worse" or "no difference shown"; empty for the baseline.
        remark: Why something is missing, such as "one seed: no interval"; empty if nothing is.
        seed_differences: The difference at each seed that both have, the mean over the cases if these are paired.
        trainings: Number of trainings behind the difference, of both arms.
        detectable: The smallest true difference that such a study calls in 80 % of repetitions.
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
    p_corrected: float | None = None
    verdict: str = ""
    remark: str = ""
    seed_differences: tuple[float, ...] = ()
    trainings: int = 0
    detectable: float | None = None


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Args:
        arms: By the first metric (accuracy, or Dice), in the order of the study.
        metrics: The same by every metric.
        costs: Arm -> cost, as in costs.json.
        sites: Arm -> places of its mechanism in the network, as its runs counted them.
        dead_gates: Arm -> taps that are dead in a run, as "name (seed N)"; only arms that have some.
        failures: Runs that failed: arm, seed and a sentence.
        notes: What the reader must know, such as a control that could not be made.
        finished: Finished runs, of `total` that the study asks for.
        rounds: The looks at a study whose seeds are added in rounds, by the first metric.
        most: Seeds of an arm at most in such a study; else None.
        ended: Why such a study ended with open arms; empty if it has none, or if it is not over.
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
    rounds: tuple[Round, ...] = ()
    most: int | None = None
    ended: str = ""

    @property
    def level(self) -> float:
        """The error of the last look, or ALPHA if the study is looked at once."""
        return self.rounds[-1].level if self.rounds else ALPHA

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


def summarise(study: Path, metrics: Sequence[str] | None = None) -> StudyResult:
    """Read a study folder and say what its finished runs show.

    Args:
        study: The folder of `foveate compare`.
        metrics: Dotted names in summary.json; the first one is `StudyResult.arms`. Default: those of the task.

    Raises:
        RunError: If the folder is no study, or no run of it is finished.
    """
    study = Path(study)
    plan = read_plan(study)
    finished = read_finished(study, plan)
    task, runs = finished.task, finished.runs
    if not any(runs.values()):
        first = next(iter(finished.failures), None)
        told = f"; {first.arm}, seed {first.seed}: {first.sentence}" if first else ""
        raise RunError(f"{study} has no finished run{told}")
    metrics = tuple(task.metrics) if metrics is None else metrics
    rounds = read_rounds(plan, finished.compare)
    compared = {metric: _compare_arms(finished, metric, plan, rounds) for metric in metrics}
    dead = {name: _dead_gates(runs[name]) for name in runs if name != PLACEBO}  # whose gates are held on purpose
    auto = plan.get("auto") or {}
    return StudyResult(
        folder=study,
        **{name: plan[name] for name in ("task", "data", "network", "start", "baseline")},
        seeds=tuple(plan["seeds"]),
        arms=compared[metrics[0]],
        metrics=compared,
        costs=read_json(study / "costs.json") or {},
        sites={name: max((len(run.sites) for run in each.values()), default=0) for name, each in runs.items()},
        dead_gates={name: taps for name, taps in dead.items() if taps},
        failures=finished.failures,
        notes=(*plan["notes"], *notes_on_runs(runs), *_note_on_seeds(task, compared[metrics[0]])),
        finished=sum(map(len, runs.values())),
        total=sum(auto["asked"].get(name, 0) for name in runs) if auto else len(runs) * len(plan["seeds"]),
        rounds=tuple(rounds),
        most=auto.get("most"),
        ended=auto.get("ended", ""),
    )


def differences_between(result: StudyResult, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
    """Compare pairs of arms by the study's first metric; the intervals are simultaneous over these pairs."""
    if task_named(result.task).by_case:
        return compare_pairs_by_case(_case_values(result), pairs, alpha=result.level)
    return compare_pairs(_seed_values(result), pairs, alpha=result.level)


def differences_to(result: StudyResult, arms: Sequence[str], baseline: str) -> dict[str, Difference]:
    """Compare arms with another baseline than the study's by its first metric, as `summarise` does with its own."""
    names = {*arms, baseline}
    if task_named(result.task).by_case:
        cases = {arm: each for arm, each in _case_values(result).items() if arm in names}
        return compare_to_baseline_by_case(cases, baseline, alpha=result.level)
    seeds = {arm: each for arm, each in _seed_values(result).items() if arm in names}
    return compare_to_baseline(seeds, baseline, alpha=result.level)


def _seed_values(result: StudyResult) -> dict[str, dict[int, float]]:
    return {arm.arm: dict(zip(arm.seeds, arm.values, strict=True)) for arm in result.arms}


def _case_values(result: StudyResult) -> dict[str, dict[int, dict[str, float]]]:
    scores = {
        arm.arm: {seed: read_scores(run_folder(result.folder, arm.arm, seed) / CASES) for seed in arm.seeds}
        for arm in result.arms
    }
    return comparable_values(scores, next(iter(result.metrics)))


def _compare_arms(
    finished: Finished, metric: str, plan: Mapping[str, Any], rounds: Sequence[Round]
) -> tuple[ArmResult, ...]:
    task, scores, baseline = finished.task, finished.scores, finished.baseline
    if metric not in task.higher_is_better:
        raise LookupError(f'no metric "{metric}"; there are {", ".join(task.higher_is_better)}')
    values = {name: values_of(by_seed, metric) for name, by_seed in finished.runs.items()}
    units = {name: case_values(each, metric) for name, each in scores.items()} if task.by_case else values
    found = finished.differences(metric, rounds[-1].level if rounds else ALPHA)
    if "auto" in plan and metric == next(iter(task.metrics)):
        found = _at_looks(found, differences(finished.compare, rounds))
    results = []
    for name, by_seed in values.items():
        result = ArmResult(name, tuple(by_seed), tuple(by_seed.values()))
        if units[name]:
            result = dataclasses.replace(result, **dataclasses.asdict(mean_interval(list(units[name].values()))))
        if name in found:
            result = _with_difference(result, found[name], by_case=task.by_case)
            if metric == "false_positive_ml" and task.by_case:
                result = _without_gain_by_misses(result, more_missed(scores[name], scores.get(baseline, {})), baseline)
        results.append(result)
    return tuple(results)


def _at_looks(found: Mapping[str, Difference], looked: Mapping[str, Difference]) -> dict[str, Difference]:
    """Return what the looks told of each arm; an arm that was not looked at yet has no interval."""
    silent = {"low": None, "high": None, "p": None, "verdict": UNSHOWN, "detectable": None, "error": None}
    untold = {"remark": "no round is complete"}
    return {
        arm: looked[arm] if arm in looked else dataclasses.replace(each, **silent, **untold)
        for arm, each in found.items()
    }


def _with_difference(result: ArmResult, difference: Difference, *, by_case: bool) -> ArmResult:
    return dataclasses.replace(
        result,
        pairs=difference.cases if by_case else difference.seeds,
        difference=difference.mean,
        diff_low=difference.low,
        diff_high=difference.high,
        p_corrected=difference.p,
        verdict=difference.verdict,
        remark=difference.remark,
        seed_differences=difference.by_seed,
        trainings=difference.trainings,
        detectable=difference.detectable,
    )


def _without_gain_by_misses(result: ArmResult, more: int, baseline: str) -> ArmResult:
    """Who predicts nothing has no false positives: no verdict for the side that missed more structures."""
    if (more > 0 and result.verdict == BETTER) or (more < 0 and result.verdict == WORSE):
        told = f"{abs(more)} {'more' if more > 0 else 'fewer'} missed than by {baseline}"
        return dataclasses.replace(result, verdict=UNSHOWN, remark="; ".join(filter(None, (result.remark, told))))
    return result


def _note_on_seeds(task: Task, arms: Sequence[ArmResult]) -> list[str]:
    """That nothing is known of other trainings, where each arm was trained once."""
    trained = max((len(arm.seeds) for arm in arms), default=0)
    if not task.by_case or trained != 1:
        return []
    return ["training was not repeated: cases do not tell how another training would end, so nothing is claimed"]


def _dead_gates(by_seed: Mapping[int, Summary]) -> tuple[str, ...]:
    return tuple(
        f"{tap} (seed {seed})"
        for seed, run in by_seed.items()
        for tap, health in run.gate_health.items()
        if health.get("alive") is False
    )
