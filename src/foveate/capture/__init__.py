"""Watch and replace gates and attention maps."""

import sys
from types import ModuleType
from typing import Any

from foveate.capture.analysis import (
    channel_profile,
    entropy,
    gate_entropy,
    health,
    likeness,
    pointing_hits,
    rollout,
    saturation,
    variation,
)
from foveate.capture.patterns import matches
from foveate.capture.record import Maps, capture, edit, taps
from foveate.capture.tap import Tap

__all__ = [
    "Maps",
    "Tap",
    "capture",
    "channel_profile",
    "edit",
    "entropy",
    "gate_entropy",
    "health",
    "likeness",
    "matches",
    "pointing_hits",
    "rollout",
    "saturation",
    "taps",
    "variation",
]


class _Room(ModuleType):
    """A room that is also the function of the same name: importing it binds `foveate.capture` to the module, so that
    `foveate.capture(host)` has to be a call of the module.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
