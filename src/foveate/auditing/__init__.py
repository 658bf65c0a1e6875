"""How somebody's copy of a published mechanism deviates from it, in numbers and in words."""

from foveate.auditing.examine import audit
from foveate.auditing.result import Audit, Finding

__all__ = ["Audit", "Finding", "audit"]
