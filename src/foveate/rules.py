"""Rules that every reader keeps to: how much a file may unpack to, and which spacing of a NIfTI file counts.

A run enters its rules once, by `reading(config.read_rules)`; readers ask `rules()` before they allocate anything.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.errors import DataError

__all__ = [
    "MAX_FILE_MIB",
    "MAX_PIXELS",
    "ReadRules",
    "Scale",
    "adopt",
    "check_bytes",
    "check_pixels",
    "in_workers",
    "reading",
    "rules",
]

MAX_PIXELS = 2**26  # 8192 x 8192
MAX_FILE_MIB = 2048
MIB = 2**20

Scale = Literal["auto", "sform", "pixdim"]


@dataclass(frozen=True)
class ReadRules:
    """Limits and choices of all readers; each is a setting of a run.

    Args:
        max_pixels: Maximum number of pixels of an image, of a frame of a video and of a slice.
        max_file_mib: Maximum size of the unpacked content of a file, and of a volume, in MiB.
        scale: Which voxel size counts if the sform and the pixdim of a NIfTI file differ; see `read_nifti`.
    """

    max_pixels: int = MAX_PIXELS
    max_file_mib: int = MAX_FILE_MIB
    scale: Scale = "auto"

    @property
    def max_bytes(self) -> int:
        """The maximum size of the unpacked content of a file."""
        return self.max_file_mib * MIB


_DEFAULT = ReadRules()
_CURRENT: ContextVar[ReadRules] = ContextVar("read_rules", default=_DEFAULT)


def rules() -> ReadRules:
    """Return the rules that hold here."""
    return _CURRENT.get()


@contextmanager
def reading(chosen: ReadRules) -> Iterator[None]:
    """Apply rules to all that is read in the block."""
    token = _CURRENT.set(chosen)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def adopt(chosen: ReadRules, worker: int = 0) -> None:
    """Apply rules to all that this process reads from now on: one that was started anew does not inherit them.

    Args:
        chosen: The rules.
        worker: The number of a worker of a data loader, which does not matter.
    """
    _CURRENT.set(chosen)


def in_workers() -> Callable[[int], None]:
    """Return what a data loader calls in each of its workers, so that the rules that hold here hold there."""
    return functools.partial(adopt, rules())


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raise a DataError if an image, a frame or a slice has more pixels than the rules allow."""
    limit = rules().max_pixels
    if height * width > limit:
        told = f"the limit is {limit} pixels, which the setting max_pixels changes"
        raise DataError(f"{path} would unpack to {height} x {width} pixels; {told}")


def check_bytes(path: Path, size: int, what: str = "unpacks to") -> None:
    """Raise a DataError if the content of a file is larger than the rules allow.

    Args:
        path: The file.
        size: The number of bytes that the file or its header says.
        what: The verb of the sentence.
    """
    limit = rules().max_file_mib
    if size > limit * MIB:
        wanted = f"the limit is {limit} MiB, which the setting max_file_mib changes"
        raise DataError(f"{path} {what} {math.ceil(size / MIB)} MiB; {wanted}")
