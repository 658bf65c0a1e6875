"""Checkpoints as their publishers released them: one file a publisher."""

from foveate.networks.published.checkpoint import (
    PUBLISHERS,
    Inspection,
    from_checkpoint,
    header,
    inspect,
    save_checkpoint,
    to_publisher,
)
from foveate.networks.published.reading import packed, read_file
from foveate.networks.published.wrapping import candidates

__all__ = [
    "PUBLISHERS",
    "Inspection",
    "candidates",
    "from_checkpoint",
    "header",
    "inspect",
    "packed",
    "read_file",
    "save_checkpoint",
    "to_publisher",
]
