"""The FROC curve of a run, at the same numbers of false positives in every run."""

import csv
import math

from foveate.report.read import Run

__all__ = ["froc_curve"]

STEPS = 28  # a quarter of an octave each, from LEAST up
LEAST = 0.125  # false positives a slice


def froc_curve(run: Run) -> list[tuple[float, float]]:
    """(false positives a slice, sensitivity) from 1/8 to 16, the sensitivity of the lowest score that leaves so few;
    empty for a run without lesions, or whose file cannot be read.
    """
    try:
        with (run.path / "froc.csv").open(newline="", encoding="utf-8") as file:
            rows = [(float(row["false_positives"]), float(row["sensitivity"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
    if not rows or not all(math.isfinite(value) for row in rows for value in row):
        return []
    rates = [LEAST * 2 ** (step / 4) for step in range(STEPS + 1)]
    return [(rate, max((found for wrong, found in rows if wrong <= rate), default=0.0)) for rate in rates]
