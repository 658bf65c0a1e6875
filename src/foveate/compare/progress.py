"""How far a study is, told by the events of its runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from foveate.compare.engine import Event
from foveate.tasks.summary import Progress

__all__ = ["StudyProgress", "Tracker"]

Stage = Literal["survey", "measure", "train", "done"]


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands, handed to the `progress` callback at every event.

    Args:
        stage: "survey" (networks are built and counted), "measure" (costs), "train", "done".
        total: Runs that this call asked for.
        done: Of them, those that are finished, some perhaps by an earlier call.
        failed: Of them, those that failed in this call.
        running: Runs under way, as each last said.
        seconds_left: Of the training; None before there is an estimate.
        message: A line worth keeping, such as the end of a run; empty at most events.
        notes: What was read, in lines, said once.
    """

    stage: Stage
    total: int
    done: int
    failed: int = 0
    running: tuple[Progress, ...] = ()
    seconds_left: float | None = None
    message: str = ""
    notes: tuple[str, ...] = ()


@dataclass
class Tracker:
    """Follow the training of a study.

    Args:
        total: Runs that are asked for.
        done: Of them, those that were finished before.
        waiting: Arm and seed of the others.
        workers: How many are trained at once.
        clock: Seconds that only grow.
    """

    total: int
    done: int
    waiting: list[tuple[str, int]]
    workers: int
    clock: Callable[[], float] = time.monotonic
    failed: int = 0
    _running: dict[tuple[str, int], Progress] = field(default_factory=dict)
    _begun: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # time, fraction done by then
    _taken: dict[str, list[float]] = field(default_factory=dict)

    def follow(self, event: Event, message: str = "") -> StudyProgress:
        """Take one event of an engine; `message` is passed on."""
        key, now = event.key, self.clock()
        if event.kind == "started":
            if key in self.waiting:
                self.waiting.remove(key)
            arm, seed = key
            self._begun.pop(key, None)  # of a worker that was lost
            self._running[key] = Progress(
                arm=arm,
                seed=seed,
                stage="train",
                epoch=0,
                epochs=None,
                fraction=0,
                seconds_left=None,
            )
        elif event.kind == "progress":
            self._running[key] = event.value
            self._begun.setdefault(key, (now, event.value.fraction))
        else:
            self._running.pop(key, None)
            begun, fraction = self._begun.pop(key, (now, 1.0))
            if event.kind == "finished":
                self.done += 1
                if fraction < 1:
                    self._taken.setdefault(key[0], []).append((now - begun) / (1 - fraction))
            else:
                self.failed += 1
        return StudyProgress(
            "train", self.total, self.done, self.failed, tuple(self._running.values()), self._seconds_left(now), message
        )

    def _seconds_left(self, now: float) -> float | None:
        """The work that is left over the workers: by runs of the same arm, or else of any arm, or else by fractions."""
        rest = {key: 1 - progress.fraction for key, progress in self._running.items()}
        everything = [seconds for taken in self._taken.values() for seconds in taken] or self._extrapolated(now)
        if not everything:
            return None
        rest |= dict.fromkeys(self.waiting, 1.0)
        seconds = [share * _mean(self._taken.get(arm) or everything) for (arm, _), share in rest.items()]
        return max(sum(seconds) / max(1, min(self.workers, len(seconds))), max(seconds, default=0.0))

    def _extrapolated(self, now: float) -> list[float]:
        """What runs under way will take as a whole, by how far each has come."""
        return [
            (now - begun) / (self._running[key].fraction - fraction)
            for key, (begun, fraction) in self._begun.items()
            if key in self._running and self._running[key].fraction > fraction
        ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
