"""The two controls: what a study would see if a mechanism did nothing, and if it did nothing but add parameters.

`placebo` is a mechanism of the catalogue, a gate held at the identity, in the places of SE: its runs are those of the
baseline, bit for bit, and show what the study takes for a difference. `wider` is the host without any mechanism, but
widened to the parameter count of the largest arm: a mechanism that does not beat it may owe its gain to its size.
"""

from bisect import bisect_left
from collections.abc import Callable
from functools import cache

__all__ = ["CONTROLS", "PLACEBO", "WIDER", "matching_width", "why_not_wider"]

PLACEBO, WIDER = "placebo", "wider"
CONTROLS = (PLACEBO, WIDER)

GRAIN = 1000  # widths are tried in thousandths: finer than one channel of any layer up to a thousand wide
LIMIT = 4  # sixteen times the parameters: more than any mechanism adds


def matching_width(count: Callable[[float], int], target: int, start: float = 1.0) -> tuple[float, int]:
    """The width from `start` up at which a host's parameter count is nearest to `target`, and that count.

    Args:
        count: Parameters of the host at a width; it must not fall as the width grows.
        target: The parameter count to match.
        start: The host's own width.
    """

    @cache
    def at(step: int) -> int:
        return count(step / GRAIN)

    steps = range(round(start * GRAIN), round(LIMIT * start * GRAIN) + 1)
    above = bisect_left(steps, target, key=at)
    step = min(steps[max(above - 1, 0) : above + 1] or steps[-1:], key=lambda step: abs(at(step) - target))
    return step / GRAIN, at(step)


def why_not_wider(network: str, *, trained: bool) -> str:
    """Why a host cannot be widened, in one sentence; empty where it can.

    Args:
        network: As in a run's configuration.
        trained: Whether the host starts from trained weights.
    """
    if "/" in network:
        return f"{WIDER} was left out: {network} has no width to set, only networks of Foveate's catalogue have"
    if trained:
        return f"{WIDER} was left out: trained weights fit {network} at its own width only"
    return ""
