"""Runs of slices: which whole numbers follow each other without a gap."""

from collections.abc import Iterable

__all__ = ["runs_of"]


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of each run, in rising order: {5, 3, 4, 9} gives (3, 5) and (9, 9)."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
