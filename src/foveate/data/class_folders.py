"""Class folders: a folder a class, below train, val and test, or divided here where there are no such folders.

Folders are those of splits if they are named after one, in any of the words of split_names.py, and hold no samples
themselves; so a class may be called "train". What is missing of val and test is taken from train. Whatever is left out
or looks strange is told in a sentence, and what cannot be classes is refused.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.data.pictures import SPLITS
from foveate.data.split_names import JUNK, inside, looks_like_split, split_folders, split_of, visible_folders
from foveate.errors import DataError

__all__ = ["ClassFolders", "Kind", "class_folders", "folder_split"]

FRACTION = 1 - 0.85  # of the samples of a class that validation, and that testing, takes
LOOKS = {
    "color",
    "colour",
    "gray",
    "grey",
    "grayscale",
    "greyscale",
    "rgb",
    "segmented",
    "segmentation",
    "mask",
    "masks",
}
LOOKS |= {"image", "images", "label", "labels", "annotation", "annotations", "depth", "thermal", "infrared", "raw"}
LOOKS |= {"original", "originals", "augmented", "cropped", "resized", "enhanced"}
"""Words for the same pictures in another look: folders of such names are no classes if they hold the same folders."""

Parts = dict[str, dict[str, list[Path]]]


@dataclass(frozen=True)
class Kind:
    """A kind of sample in class folders.

    Args:
        noun: What a sample is called in errors.
        samples: From a class folder to the samples in it, sorted.
        holds: Tells if samples lie in a folder itself.
    """

    noun: str
    samples: Callable[[Path], list[Path]]
    holds: Callable[[Path], bool]


@dataclass(frozen=True)
class ClassFolders:
    """Classes and samples as folders arrange them.

    Args:
        classes: Their names, sorted.
        samples: By split, each sample with its label.
        rule: How the splits came about, in words.
        notes: Oddities, and folders that were left out, a sentence each.
    """

    classes: list[str]
    samples: dict[str, list[tuple[Path, int]]]
    rule: str
    notes: tuple[str, ...]


def class_folders(root: Path, kind: Kind) -> ClassFolders:
    """Find the classes, and the samples of each split with their labels.

    Without folders for the splits, each class is divided 70/15/15 in the order of a hash of the samples' names: the
    same files are in the same splits on every machine. A missing val or test is taken from train in the same order.

    Raises:
        DataError: Folders are ambiguous or cannot be classes, a class is too small to be divided, or what
            `kind.samples` raises.
    """
    top, splits, notes = _arranged(root, kind)
    if splits:
        parts = {split: _classes(folder, kind, notes) for split, folder in splits.items()}
        named = ", ".join(_names(splits.values()))
        rule = f"as the folders {named} say" if len(splits) > 1 else f"as the folder {named} says"
        if "train" not in parts:
            raise DataError(f"{top} must hold a folder for train; it holds {', '.join(_names(splits.values()))}")
        _check_known(splits, parts)
    else:
        parts, rule = {"train": _classes(top, kind, notes)}, ""
    missing = [split for split in SPLITS if split not in parts]
    if missing:
        _take(root, parts, missing, kind.noun)
        taken = f"{' and '.join(missing)} taken from train in the order of a hash of the names"
        rule = f"{rule}; {taken}" if rule else "divided 70/15/15 in the order of a hash of the names"
    classes = sorted(parts["train"])
    return ClassFolders(classes, {split: _labelled(parts[split], classes) for split in SPLITS}, rule, tuple(notes))


def folder_split(root: Path, split: str, kind: Kind) -> ClassFolders:
    """Find the samples of one split alone; all of them if no folder is named after a split.

    Raises:
        DataError: There are folders for splits and none for this one, or what class_folders raises.
    """
    top, splits, notes = _arranged(root, kind)
    if splits and split not in splits:
        raise DataError(f"{top} must hold a folder for {split}; it holds {', '.join(_names(splits.values()))}")
    found = _classes(splits.get(split, top), kind, notes)
    classes = sorted(found)
    rule = f"as the folder {splits[split].name} says" if splits else f"all of {root}"
    return ClassFolders(classes, {split: _labelled(found, classes)}, rule, tuple(notes))


def _arranged(root: Path, kind: Kind) -> tuple[Path, dict[str, Path], list[str]]:
    """Return the folder that counts, its folders of splits, which may be none, and what is told."""
    top, notes = _unwrapped(root, kind), []
    if top != root:
        notes.append(f"{root} holds one folder, {top.relative_to(root)}, which is read instead")
    folders = visible_folders(top)
    splits = split_folders(folder for folder in folders if split_of(folder.name) and not kind.holds(folder))
    bare = [folder for folder in folders if split_of(folder.name) and kind.holds(folder)]
    others = [folder for folder in folders if split_of(folder.name) is None]
    junk = sorted(path.name for path in top.iterdir() if path.is_dir() and path.name.lower() in JUNK)
    notes += [f"{top / name} is none of the data, left out" for name in junk]
    stray = sorted(path.name for path in top.iterdir() if path.is_file() and not path.name.startswith("."))
    stray = [name for name in stray if name.lower() not in JUNK]
    if stray:
        notes.append(f"{len(stray)} files beside the folders of {top} are left out, such as {stray[0]}")
    if splits and others and (len(splits) == 1 or "train" not in splits):
        name = next(iter(splits.values())).name
        raise DataError(
            f"{top} must hold folders of splits alone, or of classes alone; got {name}, which holds folders as that of "
            f"a split does, beside {_told(_names(others))}"
        )
    if bare and not others and not splits and not any(map(_holds_files, bare)):
        splits, bare = split_folders(bare), []  # the folders in them are called samples wrongly, or classes rightly
    if bare and not others and "train" not in splits:
        raise DataError(
            f"{bare[0]} must hold a folder of {kind.noun}s for each class; it holds {kind.noun}s and is named after a "
            "split"
        )
    if splits:
        notes += [f"{folder} holds {kind.noun}s without classes, left out" for folder in bare]
        notes += [f"{folder} is named after no split, left out" for folder in others]
    return top, {name: inside(splits[name], _holds_folders) for name in SPLITS if name in splits}, notes


def _unwrapped(root: Path, kind: Kind) -> Path:
    """Return the only folder of a folder if it holds those of splits or is the same name once more."""
    folders = visible_folders(root)
    if len(folders) != 1 or split_of(folders[0].name) or kind.holds(folders[0]):
        return root
    inner = inside(folders[0], _holds_folders)
    below = visible_folders(inner)
    named = any(split_of(folder.name) == "train" and not kind.holds(folder) for folder in below)
    again = inner != folders[0] or inner.name.lower() == root.name.lower()
    return inner if below and (named or again) else root


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())


def _holds_folders(folder: Path) -> bool:
    return bool(visible_folders(folder))


def _classes(folder: Path, kind: Kind, notes: list[str]) -> dict[str, list[Path]]:
    """Return the samples of each class folder, after a look at what the folders are called."""
    folders = visible_folders(folder)
    if not folders:
        raise DataError(f"{folder} must hold a folder of {kind.noun}s for each class; it holds no folder")
    _refuse_others(folder, folders, kind)
    for note in _oddities(folder, folders, kind):
        if note not in notes:
            notes.append(note)
    return {path.name: kind.samples(path) for path in folders}


def _refuse_others(folder: Path, folders: Sequence[Path], kind: Kind) -> None:
    """Raise a DataError if folders look like splits, or like other looks of the same pictures, instead of classes."""
    names, below = _names(folders), _below(folders, kind)
    if all(map(looks_like_split, names)) and len(names) > 1:
        raise DataError(
            f"{folder} must hold classes, or folders that say train, val and test; got {_told(names)}, which look like "
            "parts of one data set"
        )
    if _shared(below) and all(map(_is_look, names)):
        raise DataError(
            f"{folder} must hold classes; got {_told(names)}, which look like the same {kind.noun}s several times, "
            f"with the classes {_told(_shared(below))} in each: give one of them as data"
        )
    nested = [name for name, held in below.items() if held and all(map(split_of, held))]
    if nested and len(nested) == len(names):
        raise DataError(
            f"{folder} must hold classes below train, val and test; got {nested[0]} with {_told(below[nested[0]])} in "
            "it: put the folders of splits above those of classes"
        )


def _oddities(folder: Path, folders: Sequence[Path], kind: Kind) -> list[str]:
    names = _names(folders)
    told = [f"{name!r} is read as a class, though it looks like a split" for name in names if looks_like_split(name)]
    told += [f"{name!r} is read as a class, though it looks like a kind of picture" for name in names if _is_look(name)]
    shared = _shared(_below(folders, kind))
    if shared:
        told.append(
            f"each class of {folder} holds folders called {_told(shared)}, whose {kind.noun}s are taken together"
        )
    return told


def _below(folders: Sequence[Path], kind: Kind) -> dict[str, list[str]]:
    """Return the names of the folders in each folder, none for one that holds samples itself."""
    return {folder.name: [] if kind.holds(folder) else _names(visible_folders(folder)) for folder in folders}


def _shared(below: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names that are in every folder, if these are two or more."""
    held = sorted(set.intersection(*map(set, below.values()))) if len(below) > 1 else []
    return held if len(held) > 1 else []


def _is_look(name: str) -> bool:
    return set(re.findall(r"[a-z]+", name.lower())) <= LOOKS and not name.isdecimal()


def _check_known(splits: Mapping[str, Path], parts: Parts) -> None:
    for split in parts.keys() - {"train"}:
        unknown = sorted(set(parts[split]) - set(parts["train"]))
        if unknown:
            raise DataError(f"{splits[split]} holds class {unknown[0]!r}, which {splits['train']} does not")


def _take(root: Path, parts: Parts, missing: Sequence[str], noun: str) -> None:
    """Take the splits that are missing from the samples of each class of train."""
    least = 1 + len(missing)
    for split in missing:
        parts[split] = {}
    for name, files in list(parts["train"].items()):
        if len(files) < least:
            raise DataError(
                f"{files[0].parent} needs {_NUMBERS[least]} {noun}s or more to be split in {_NUMBERS[least]}; got "
                f"{len(files)}"
            )
        ordered = sorted(files, key=lambda path: _hash(path.relative_to(root).as_posix()))
        count = max(1, round(len(files) * FRACTION / (1 - FRACTION * (2 - len(missing)))))
        for split in reversed(missing):
            parts[split][name] = sorted(ordered[len(ordered) - count :])
            ordered = ordered[: len(ordered) - count]
        parts["train"][name] = sorted(ordered)


_NUMBERS = {2: "two", 3: "three"}


def _labelled(part: Mapping[str, list[Path]], classes: Sequence[str]) -> list[tuple[Path, int]]:
    return [(path, label) for label, name in enumerate(classes) for path in part.get(name, [])]


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _names(folders: Iterable[Path]) -> list[str]:
    return [folder.name for folder in folders]


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
