"""Times of several things measured side by side, for ratios that hold on a machine that does other work too.

One turn of each follows one turn of the others in one process, so whatever slows the machine meets them alike, and the
first quartile of the turns leaves out most of what still hits one alone. CPU time, of all threads together, is what a
ratio should be taken of; wall time stands beside it.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Times", "interleaved", "set_threads"]


@dataclass(frozen=True)
class Times:
    """First quartiles over the turns.

    Args:
        cpu_ms: CPU time of a turn, of all threads, in milliseconds.
        wall_ms: Wall time of it.
    """

    cpu_ms: float
    wall_ms: float


def set_threads(count: int) -> None:
    """Compute with so many threads; call it before anything imports torch.

    Raises:
        RuntimeError: If torch is imported already: its OpenMP has read what is set here.
    """
    if "torch" in sys.modules:
        raise RuntimeError("set_threads comes before the import of torch")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while they wait would count as work
    import torch

    torch.set_num_threads(count)


def interleaved(steps: Mapping[str, Callable[[], object]], turns: int, warmup: int = 2) -> dict[str, Times]:
    """Measure each step in turns with the others, in an order that is turned round from turn to turn.

    Args:
        steps: What to measure, by name.
        turns: Measured turns, at least two.
        warmup: Turns before those.
    """
    if turns < 2:
        raise ValueError(f"turns must be at least 2; got {turns}")
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(warmup + turns):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            measured[name].append(_times(steps[name]))
    return {
        name: Times(*(_first_quartile(kind) for kind in zip(*times[warmup:], strict=True)))
        for name, times in measured.items()
    }


def _first_quartile(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=4, method="inclusive")[0]


def _times(step: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    return 1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)
