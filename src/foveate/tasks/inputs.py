"""Pictures and videos that are named on the command line."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from foveate.data import SUFFIXES
from foveate.data.clip_folders import FolderClips, clips_in, holds_frames
from foveate.data.faults import joined
from foveate.data.folders import FolderSplit
from foveate.errors import DataError

__all__ = ["each_picture", "given_clips", "given_pictures", "keep_apart"]


@contextmanager
def each_picture() -> Iterator[Callable[[Callable[[int], Tensor], int], Tensor | None]]:
    """A function that reads a picture or a clip, or gives None for one that cannot be read: those are told when the
    block ends, when all others are done.
    """
    faults: list[str] = []

    def usable(read: Callable[[int], Tensor], index: int) -> Tensor | None:
        try:
            return read(index)
        except DataError as error:
            faults.append(str(error))
            return None

    yield usable
    if faults:
        raise joined(faults)


def keep_apart(inputs: Sequence[Path], out: Path, what: str = "pictures") -> None:
    """Refuse to write into a folder of inputs, where the next call would take what was written for one of them."""
    for folder in map(Path, inputs):
        if folder.is_dir() and Path(out).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"results must not lie among the {what}; {out} is in {folder}")


def given_pictures(inputs: Sequence[Path], channels: int, bits: int = 16) -> tuple[FolderSplit, list[str]]:
    """Pictures on the command line and in folders named there, and a name for each."""
    found: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"{given} holds no pictures ({', '.join(SUFFIXES)})")
            found += inside
        elif given.exists():
            found.append(given)
        else:
            raise DataError(f"{given} does not exist")
    root, found, names = _named(found, "picture")
    return FolderSplit(root, found, [0] * len(found), channels, bits), names


def given_clips(inputs: Sequence[Path], channels: int, bits: int = 16) -> tuple[FolderClips, list[str]]:
    """Videos on the command line, folders of frames, and folders of both, and a name for each."""
    found: list[Path] = []
    for given in map(Path, inputs):
        if not given.exists():
            raise DataError(f"{given} does not exist")
        found += [given] if given.is_file() or holds_frames(given) else clips_in(given)
    root, found, names = _named(found, "video")
    return FolderClips(root, found, [0] * len(found), channels, bits), names


def _named(found: list[Path], noun: str) -> tuple[Path, list[Path], list[str]]:
    """The folder that holds all, the absolute paths, and their names in that folder."""
    if not found:
        raise DataError(f"at least one {noun} is needed; none was given")
    found = [path.absolute() for path in found]
    root = Path(os.path.commonpath([path.parent for path in found]))
    return root, found, [path.relative_to(root).as_posix() for path in found]
