"""Compare mechanisms: arms times seeds, what they cost, and what the seeds allow to be said."""

from foveate.compare.engine import LocalEngine, RayEngine
from foveate.compare.progress import StudyProgress
from foveate.compare.statistics import ArmResult, StudyResult, summarise
from foveate.compare.study import Study, compare

__all__ = [
    "ArmResult",
    "LocalEngine",
    "RayEngine",
    "Study",
    "StudyProgress",
    "StudyResult",
    "compare",
    "summarise",
]
