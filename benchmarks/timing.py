"""Times of several things measured side by side, for ratios that hold on a machine that does other work too.

One turn of each follows one turn of the others in one process, so whatever slows the machine meets them alike, and the
first quartile of the turns leaves out most of what still hits one alone. CPU time, of all threads together, is what a
ratio should be taken of; wall time stands beside it.

What a script found goes into the table of `make bench` as ratios, each with the bound that it should reach.
"""

import dataclasses
import json
import math
import operator
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ratio", "Times", "geometric_mean", "interleaved", "save", "set_threads", "time_ratio"]


@dataclass(frozen=True)
class Times:
    """First quartiles over the turns.

    Args:
        cpu_ms: CPU time of a turn, of all threads, in milliseconds.
        wall_ms: Wall time of it.
    """

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True)
class Ratio:
    """One line of the table.

    Args:
        what: What was measured.
        against: What it stands against.
        value: The ratio; of times, by CPU time.
        target: The bound that it should reach, as ">= 1.6"; empty where there is none.
        wall: The same ratio by wall time; None where it is not one of times.
        peer: What the peer reaches where `value` is ours over our own plain network.
        limit: What the arithmetic that all forms share would reach alone, measured in the same turns.
    """

    what: str
    against: str
    value: float
    target: str = ""
    wall: float | None = None
    peer: float | None = None
    limit: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the bound is reached; None where there is none."""
        return self._within(self.value)

    @property
    def possible(self) -> bool | None:
        """Whether the limit leaves the bound to be reached; None where there is no limit or no bound."""
        return None if self.limit is None else self._within(self.limit)

    def _within(self, value: float) -> bool | None:
        if not self.target:
            return None
        sign, bound = self.target.split()
        return {">=": operator.ge, "<=": operator.le}[sign](value, float(bound))


def time_ratio(
    what: str,
    against: str,
    over: Times,
    under: Times,
    target: str = "",
    peer: float | None = None,
    limit: float | None = None,
) -> Ratio:
    """The line of one time over another."""
    return Ratio(what, against, over.cpu_ms / under.cpu_ms, target, over.wall_ms / under.wall_ms, peer, limit)


def geometric_mean(values: Iterable[float]) -> float:
    """The root of the product."""
    return math.exp(statistics.fmean(map(math.log, values)))


def save(file: Path | None, ratios: Sequence[Ratio], **details: Any) -> None:
    """Write what a script found, where a file is given; times among the details are written as their numbers."""
    if file is not None:
        import torch

        about = {"cores": os.cpu_count(), "torch": torch.__version__, "ratios": ratios, **details}
        file.write_text(json.dumps(about, indent=2, default=dataclasses.asdict) + "\n")


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
