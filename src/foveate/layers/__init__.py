"""The mechanisms, each as its paper has it, for one to three spatial axes."""

from foveate.layers.chain import Chain
from foveate.layers.eca import ECA
from foveate.layers.placebo import Placebo
from foveate.layers.se import SE

__all__ = ["ECA", "SE", "Chain", "Placebo"]
