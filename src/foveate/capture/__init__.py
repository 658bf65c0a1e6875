"""Watch and replace gates and attention maps."""

from foveate.capture.patterns import matches
from foveate.capture.tap import Tap

__all__ = ["Tap", "matches"]
