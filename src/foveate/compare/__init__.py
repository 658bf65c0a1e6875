"""Compare mechanisms: arms times seeds, what they cost, and what the seeds allow to be said.

Names are imported when they are used, so that a worker process starts with what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.compare.engine import LocalEngine
    from foveate.compare.progress import StudyProgress
    from foveate.compare.ray_engine import RayEngine
    from foveate.compare.result import ArmResult, StudyResult, summarise
    from foveate.compare.sequential import Rule
    from foveate.compare.study import Study, compare

__all__ = [
    "ArmResult",
    "LocalEngine",
    "RayEngine",
    "Rule",
    "Study",
    "StudyProgress",
    "StudyResult",
    "compare",
    "summarise",
]

_FILES = {
    "LocalEngine": "engine",
    "RayEngine": "ray_engine",
    "StudyProgress": "progress",
    "ArmResult": "result",
    "StudyResult": "result",
    "summarise": "result",
    "Rule": "sequential",
    "Study": "study",
    "compare": "study",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"foveate.compare has no name {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"foveate.compare.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
