"""Validation curves that still rise at the end: such a study compares the speed of learning, not quality.

The rule: the validations of each run are cut into quarters, and a run's gain is the mean of its last quarter minus
the mean of the quarter before. The curves still rise if the mean gain over all runs is at least half a point and is
greater than zero by a one-sided t test over the runs at 1 %. The test is over runs, not over epochs, so that noise
which persists from one epoch to the next does not count as a rise. Two runs or more with two validations or more are
needed.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import stdtr

from foveate.report.read import Run

__all__ = ["LEVEL", "MEASURES", "SMALLEST_GAIN", "Rising", "gain_at_end", "still_rising"]

MEASURES = ("val_accuracy", "val_dice", "val_map", "val_sensitivity")  # shares, of which more is better
SMALLEST_GAIN = 0.005  # half a point
LEVEL = 0.01


@dataclass(frozen=True)
class Rising:
    """The mean gain from the third to the last quarter of training, and the number of runs."""

    measure: str
    gain: float
    runs: int


def gain_at_end(values: Sequence[float]) -> float | None:
    """Return the mean of the last quarter minus the mean of the quarter before; None for fewer than two values."""
    if len(values) < 2:
        return None
    quarter = max(1, len(values) // 4)
    return statistics.fmean(values[-quarter:]) - statistics.fmean(values[-2 * quarter : -quarter])


def still_rising(runs: Iterable[Run]) -> Rising | None:
    """Return the gain at the end if the validation curves of finished runs still rise by the rule above, else None."""
    finished = [run for run in runs if run.finished]
    for measure in MEASURES:
        curves = [[value for row in run.curves if (value := row.get(measure)) is not None] for run in finished]
        gains = [gain for curve in curves if (gain := gain_at_end(curve)) is not None]
        if len(gains) > 1:
            return Rising(measure, statistics.fmean(gains), len(gains)) if _rise(gains) else None
    return None


def _rise(gains: Sequence[float]) -> bool:
    mean = statistics.fmean(gains)
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    if mean < SMALLEST_GAIN:
        return False
    return error == 0 or float(stdtr(len(gains) - 1, -mean / error)) < LEVEL
