"""Pictures and videos that are named on the command line."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from foveate.data import SUFFIXES
from foveate.data.clip_folders import FolderClips, clips_in, holds_frames
from foveate.data.faults import joined
from foveate.data.folders import FolderSplit
from foveate.errors import DataError

__all__ = ["Usable", "each_input", "given_clips", "given_pictures", "keep_apart"]


Key = TypeVar("Key")
Value = TypeVar("Value")


class Usable:
    """Reads inputs one by one, and keeps the sentence on each that cannot be read.

    Args:
        faults: Takes the sentences.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults

    def __call__(self, read: Callable[[Key], Value], key: Key) -> Value | None:
        """Return what `read` gives for an input, None if the input cannot be read."""
        try:
            return read(key)
        except DataError as error:
            self.faults.append(str(error))
            return None

    def each(self, read: Callable[[Key], Value], keys: Iterable[Key]) -> Iterator[tuple[Key, Value]]:
        """Iterate over the inputs that can be read, each with what `read` gives."""
        for key in keys:
            value = self(read, key)
            if value is not None:
                yield key, value


@contextmanager
def each_input() -> Iterator[Usable]:
    """Read inputs in a block, whatever the task, such that one that cannot be read does not stop the others.

    Raises:
        DataError: When the block ends, with a line for each input that could not be read.
    """
    faults: list[str] = []
    yield Usable(faults)
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
