"""Attention and gating mechanisms for computer vision: exact layers, insertion, capture and honest comparison."""

from foveate._version import __version__

__all__ = ["__version__"]
