"""Where the files of a COCO data set are, and how pictures are divided where no files say it.

A folder holds a json file for each split, told by a word in its name (train.json, instances_val2017.json) or in the
name of its folder (train/_annotations.coco.json). Pictures lie beside it, in images/, or in a folder named like the
split. Where val has no file, or all is in one file, pictures are divided 70/15/15 in the order of a hash of their
names, so that the same pictures are in the same split on every machine.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from foveate.data.boxes import Boxes
from foveate.data.coco import CocoFile, CocoSplit, Scene, read_coco
from foveate.data.findings import Tally
from foveate.data.masks import check_extra
from foveate.data.pictures import SPLITS
from foveate.data.split_names import inside, split_in, visible_folders
from foveate.errors import DataError

__all__ = [
    "categories_of",
    "class_names",
    "divide_scenes",
    "open_coco",
    "open_coco_split",
    "picture_folders",
    "refuse_twins",
    "split_file",
    "split_files",
]

SHARE = 0.15  # of all pictures: those to validate, and those to test with


def open_coco(path: Path, *, masks: bool = False, images: Path | None = None) -> Boxes:
    """Open a folder or a file; see open_boxes."""
    if masks:
        check_extra()
    listed = split_files(path)
    tallies = {split: Tally(split) for split in listed}
    read = {
        split: read_coco(file, [images] if images else picture_folders(path, file), tallies[split], masks=masks)
        for split, file in listed.items()
    }
    names = categories_of(read.values())
    scenes = {split: file.scenes for split, file in read.items()}
    rule = divide_scenes(scenes)
    refuse_twins(scenes)
    ids, called = class_names(names)
    splits = {split: CocoSplit(scenes[split], ids, masks) for split in SPLITS}
    findings = [finding for tally in tallies.values() for finding in tally.findings()]
    stuff = sorted(frozenset().union(*(file.stuff for file in read.values())))
    return Boxes(str(path), called, ids, splits, rule, findings, stuff)


def open_coco_split(path: Path, split: str, *, masks: bool = False, images: Path | None = None) -> Boxes | None:
    """A split alone: of a folder the file that is named after it, or a file as a whole; None where there is none.

    What it gives has that split for all three.
    """
    if masks:
        check_extra()
    file = split_file(path, split)
    if file is None:
        return None
    tally = Tally(split)
    read = read_coco(file, [images] if images else picture_folders(path, file), tally, masks=masks)
    ids, called = class_names(dict(read.categories))
    held = CocoSplit(read.scenes, ids, masks)
    return Boxes(
        str(path), called, ids, dict.fromkeys(SPLITS, held), f"all of {file.name}", tally.findings(), sorted(read.stuff)
    )


def class_names(names: Mapping[int, str]) -> tuple[list[int], list[str]]:
    """The ids in order, and what to call each; categories of one name by their ids too."""
    ids, often = sorted(names), Counter(names.values())
    return ids, [names[number] if often[names[number]] == 1 else f"{names[number]} ({number})" for number in ids]


def split_file(path: Path, split: str) -> Path | None:
    """Return the json file of one split: a file as a whole, or that of a folder which is named after the split."""
    return path if path.is_file() else _named(path).get(split)


def _named(path: Path) -> dict[str, Path]:
    """The json files of a folder that say their split; of several of one split none may be."""
    named: dict[str, list[Path]] = {}
    for file in _listed(path):
        split = _split_of(file, path)
        if split is not None:
            named.setdefault(split, []).append(file)
    for split, several in named.items():
        if len(several) > 1:
            raise DataError(f"{path} must hold one json file for {split}; got {several[0]} and {several[1]}")
    return {split: several[0] for split, several in named.items()}


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DataError(f"boxes are read from a folder or a COCO json file; {path} does not exist")
    found = sorted([*path.glob("*.json"), *path.glob("*/*.json")])
    return [file for file in found if file.name.startswith("instances_")] or found


def split_files(path: Path) -> dict[str, Path]:
    """The json file of each split; that of train alone where one file has all."""
    if path.is_file():
        return {"train": path}
    files, named = _listed(path), _named(path)
    if not named and len(files) == 1:
        return {"train": files[0]}
    if "train" not in named:
        told = ", ".join(str(file.relative_to(path)) for file in files[:5]) or "no json file"
        raise DataError(f"{path} must hold one COCO json file, or one with train in its name; got {told}")
    return {split: named[split] for split in SPLITS if split in named}


def _split_of(file: Path, root: Path) -> str | None:
    """Return the split that the name of a file says, else that of its folder."""
    return split_in(file.stem) or (split_in(file.parent.name) if file.parent != root else None)


def picture_folders(root: Path, file: Path) -> list[Path]:
    """Return the folders that may hold the pictures of a file.

    Those that are named after its split count in any of its words, but those that the name of the file ends with, such
    as val2017 of instances_val2017.json, come first.
    """
    tops = [root] if root.is_dir() else [file.parent, file.parent.parent]
    tops = [*tops, *(folder for top in tops for folder in _called_images(top))]
    split = _split_of(file, tops[0])
    held = [folder for top in tops for folder in visible_folders(top) if split and split_in(folder.name) == split]
    held.sort(key=lambda folder: not file.stem.lower().endswith(folder.name.lower()))
    doubled = [inside(folder) for folder in held]
    below = [images for folder in (*held, *doubled) for images in _called_images(folder)]
    places = [file.parent, *_called_images(file.parent), *tops, *held, *doubled, *below]
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def _called_images(folder: Path) -> list[Path]:
    return [path for path in visible_folders(folder) if path.name.lower() == "images"] if folder.is_dir() else []


def categories_of(files: Iterable[CocoFile]) -> dict[int, str]:
    """The categories of all files by id; a DataError where two call one id differently."""
    names: dict[int, str] = {}
    for file in files:
        for number, name in file.categories.items():
            known = names.setdefault(number, name)
            if known != name:
                raise DataError(f"{file.path} calls category {number} {name!r}; another split calls it {known!r}")
    return names


def divide_scenes(
    scenes: dict[str, list[Scene]], unit: Callable[[Scene], str] = attrgetter("name"), noun: str = "pictures"
) -> str:
    """Take from train what the splits without a file need, and say how the splits came about.

    Pictures with one name of their `unit` stay together; `noun` is what to call many units.
    """
    missing = [split for split in ("val", "test") if split not in scenes]
    if "val" in scenes:
        scenes.setdefault("test", [])
        return "as the files say"
    units: dict[str, list[Scene]] = {}
    for scene in scenes["train"]:
        units.setdefault(unit(scene), []).append(scene)
    ordered = sorted(units, key=lambda name: hashlib.blake2b(name.encode(), digest_size=16).digest())
    count = max(1, round(len(ordered) * SHARE / (1 - SHARE * (2 - len(missing)))))
    for split in reversed(missing):
        taken, ordered = ordered[len(ordered) - count :], ordered[: len(ordered) - count]
        scenes[split] = [scene for name in taken for scene in units[name]]
    kept = set(ordered)
    scenes["train"] = [scene for scene in scenes["train"] if unit(scene) in kept]
    return f"{' and '.join(missing)} taken from the file of train in the order of a hash of the {noun}' names"


def refuse_twins(scenes: Mapping[str, Sequence[Scene]]) -> None:
    """Raise a DataError where a picture is listed twice."""
    held: dict[Path, str] = {}
    for split, members in scenes.items():
        for scene in members:
            file = scene.file.resolve()
            if file in held:
                raise DataError(f"{scene.file} is listed twice, in {held[file]} and in {split}")
            held[file] = split
