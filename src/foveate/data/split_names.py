"""Names of splits: which folder, file or key holds train, val or test. Every reader asks here.

    train   train, training, trn
    val     val, valid, validation, validate, dev
    test    test, testing, tst

Capitals do not count. The word may stand among fillers: train_set, seg_train, Test Images, val2017, 01_train. A folder
may hold itself once more, as in seg_train/seg_train/CLASS.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from foveate.errors import DataError

__all__ = [
    "JUNK",
    "SPLIT_WORDS",
    "inside",
    "looks_like_split",
    "split_folders",
    "split_in",
    "split_of",
    "visible_folders",
]

SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
FILLERS = {"set", "sets", "split", "data", "dataset", "seg", "image", "images", "img", "imgs", "picture", "pictures"}
FILLERS |= {
    "photo",
    "photos",
    "video",
    "videos",
    "clip",
    "clips",
    "frames",
    "sample",
    "samples",
    "folder",
    "dir",
    "subset",
}
JUNK = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"}
JUNK |= {"desktop.ini"}

_SPLIT = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_WORD = "|".join(sorted(_SPLIT, key=len, reverse=True))
_GLUED = re.compile(rf"(?:sets?|seg)?({_WORD})(?:sets?|data)?")
_INSIDE = re.compile(rf"(?<![a-z])({_WORD})(?:\d{{4}})?(?![a-z0-9])", re.IGNORECASE)
_SIMILAR = {"eval", "evaluation", "holdout", "unseen", "fold", "folds", "split", "splits", "subset", "subsets"}


def split_of(name: str) -> str | None:
    """Return the split that a whole name says, such as "val" for "Validation_Set"; None if it says none or two."""
    found: set[str] = set()
    for token in _tokens(name):
        glued = _GLUED.fullmatch(token)
        if glued:
            found.add(_SPLIT[glued[1]])
        elif token not in FILLERS and not token.isdecimal():
            return None
    return found.pop() if len(found) == 1 else None


def split_in(name: str) -> str | None:
    """Return the split that some word of a longer name says, such as "val" for "instances_Val2017"."""
    word = _INSIDE.search(name)
    return split_of(name) if word is None else _SPLIT[word[1].lower()]


def looks_like_split(name: str) -> bool:
    """Tell if a name resembles that of a split, of a fold or of another part of a data set."""
    tokens = set(_tokens(name))
    return split_of(name) is not None or bool(tokens & (_SIMILAR | _SPLIT.keys()))


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones and without those that archives and systems leave behind."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in JUNK
        )
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from None


def split_folders(folders: Iterable[Path]) -> dict[str, Path]:
    """Return those folders that are named after a split, by split.

    Raises:
        DataError: Two folders are named after one split.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        split = split_of(folder.name)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{folder.parent} must hold one folder for {split}; got {found[split].name} and {folder.name}"
            )
        found[split] = folder
    return found


def inside(folder: Path, wanted: Callable[[Path], bool] = lambda _: True) -> Path:
    """Return the folder that a folder holds once more under its own name, or under another name of its split.

    Args:
        folder: The outer one, which is returned if it holds anything else.
        wanted: Tells if the inner folder may be taken.
    """
    held = [path for path in _entries(folder) if not path.name.startswith(".") and path.name.lower() not in JUNK]
    if len(held) != 1 or not held[0].is_dir():
        return folder
    split = split_of(folder.name)
    again = held[0].name.lower() == folder.name.lower() or (split is not None and split_of(held[0].name) == split)
    return held[0] if again and wanted(held[0]) else folder


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from None


def _tokens(name: str) -> list[str]:
    """Split at everything but letters and digits, between camelCase words, and between letters and digits."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+|\d+", parted.lower())
