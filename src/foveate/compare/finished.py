"""What a study has finished: summaries of runs, scores of cases, and the differences that they show."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.compare.cases import comparable_values
from foveate.compare.folder import Failure, read_failures, read_result, run_folder
from foveate.compare.sequential import STEP
from foveate.compare.statistics import (
    ALPHA,
    LARGEST,
    Difference,
    compare_to_baseline,
    compare_to_baseline_by_case,
)
from foveate.compare.task import Task, task_named
from foveate.errors import RunError
from foveate.tasks.files import CASES
from foveate.tasks.segment.metrics import Score, read_scores
from foveate.tasks.summary import Summary

__all__ = ["Finished", "read_finished", "values_of"]


@dataclass(frozen=True)
class Finished:
    """What a study has finished, by arm and seed.

    Args:
        task: The task of its runs.
        baseline: The arm that the others are compared with.
        runs: The summaries.
        scores: The scores of the cases of each run, for a task that pairs them.
        failures: The runs that failed and did not finish since.
    """

    task: Task
    baseline: str
    runs: dict[str, dict[int, Summary]]
    scores: dict[str, dict[int, Sequence[Score]]]
    failures: tuple[Failure, ...]

    def only(self, seeds: Mapping[str, Sequence[int]]) -> "Finished":
        """Return the same of these seeds of these arms alone."""
        runs = {
            arm: {seed: self.runs[arm][seed] for seed in each if seed in self.runs[arm]} for arm, each in seeds.items()
        }
        scores = {
            arm: {seed: self.scores[arm][seed] for seed in each if seed in self.scores[arm]}
            for arm, each in seeds.items()
        }
        return dataclasses.replace(self, runs=runs, scores=scores)

    def differences(self, metric: str, alpha: float = ALPHA) -> dict[str, Difference]:
        """Return the difference of each arm to the baseline by a metric, with the error of one look at the study."""
        higher = self.task.higher_is_better[metric]
        if self.task.by_case:
            cases = {self.baseline: {}} | comparable_values(self.scores, metric)
            return compare_to_baseline_by_case(cases, self.baseline, higher_is_better=higher, alpha=alpha)
        values = {self.baseline: {}} | {arm: values_of(by_seed, metric) for arm, by_seed in self.runs.items()}
        return compare_to_baseline(values, self.baseline, higher_is_better=higher, alpha=alpha)

    def compare(self, seeds: Mapping[str, tuple[int, ...]], level: float) -> dict[str, Difference]:
        """Return the differences that these runs show by the first metric at one look."""
        return self.only(seeds).differences(next(iter(self.task.metrics)), level)

    @property
    def precision(self) -> float:
        """One point, or one test sample if that is more and samples are what the first metric counts."""
        sizes = [run.test_size for by_seed in self.runs.values() for run in by_seed.values() if run.test_size]
        return max(STEP, 1 / min(sizes)) if sizes and self.task.name == "classify" else STEP


def read_finished(study: Path, plan: Mapping[str, Any]) -> Finished:
    """Read the finished runs of a study."""
    task = task_named(plan["task"])
    names = [arm["arm"] for arm in plan["arms"]]
    failures = {(failure.arm, failure.seed): failure for failure in read_failures(study)}
    runs: dict[str, dict[int, Summary]] = {name: {} for name in names}
    scores: dict[str, dict[int, Sequence[Score]]] = {name: {} for name in names}
    for arm in plan["arms"]:
        for seed in plan["seeds"]:
            read = read_result(study, arm, seed)
            if task.by_case and isinstance(read, Summary):
                read = _with_scores(study, read, scores[arm["arm"]])
            if isinstance(read, Failure):
                failures.setdefault((read.arm, read.seed), read)
            elif read is not None:
                runs[arm["arm"]][seed] = read
                failures.pop((arm["arm"], seed), None)
    return Finished(task, plan["baseline"], runs, scores, tuple(failures.values()))


def values_of(by_seed: Mapping[int, Summary], metric: str) -> dict[int, float]:
    """Return the metric of each run that has it; a missing, infinite or absurdly large one is no value."""
    room, _, name = metric.rpartition(".")
    found = {seed: getattr(run, room or "metrics").get(name) for seed, run in by_seed.items()}
    return {seed: value for seed, value in found.items() if isinstance(value, int | float) and abs(value) < LARGEST}


def _with_scores(study: Path, summary: Summary, scores: dict[int, Sequence[Score]]) -> Summary | Failure:
    """A run whose scores of cases were read into `scores`, or why they could not be."""
    folder = run_folder(study, summary.arm, summary.seed)
    try:
        scores[summary.seed] = read_scores(folder / CASES)
    except RunError as error:
        again = f"remove {folder} and run again to train the run anew"
        return Failure(summary.arm, summary.seed, f"{error}; {again}")
    return summary
