"""What a process or its tensors held at most, and processes that have done nothing else."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["in_fresh_process", "peak_of_process", "peak_of_tensors"]


def peak_of_process() -> int:
    """Bytes of the largest resident set so far; ru_maxrss would remember the parent's."""
    held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(held["VmHWM"].split()[0]) * 1024


def peak_of_tensors(step: Callable[[], object], resident: "Iterable[Tensor]") -> int:
    """The largest number of bytes of tensors alive at one time of a step, those there before it included."""
    from foveate.compare.cost import LiveBytes

    with LiveBytes(resident) as live:
        step()
    return live.peak


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
