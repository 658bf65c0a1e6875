"""Find the cases of a data set, in the layouts that segmentation data comes in.

    Decathlon   dataset.json lists image and label of every case under "training"; what it lists under "validation" and
                "test" is taken for these where it has labels. One file holds all channels, on its fourth axis; or, as
                in nnU-Net v1, CASE.nii.gz is listed where CASE_0000.nii.gz and its like stand, a file a channel.
    nnU-Net v2  dataset.json says "channel_names", "labels" and "file_ending"; imagesTr/CASE_0000.nii.gz holds the first
                channel and labelsTr/CASE.nii.gz the labels. imagesTs is for testing where there is a labelsTs.
    pairs       images/NAME.png and masks/NAME.png, or labels/ for masks/, NIfTI or pictures, below train, val and test,
                with these folders below images and masks, or without. images/NAME may be a folder of the slices of a
                DICOM series. A dataset.json may say "channel_names" and "labels"; else every value in the masks is a
                class, and 0 the background.

Names in a list may have backslashes, as Windows writes them. Hidden files, among them the "._" files of macOS, are
passed over.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from foveate.data.description import classes_of, modalities_of, modalities_seen, read_description, without
from foveate.data.dicom import COMPANIONS, SLICES, is_slice
from foveate.data.mask_values import MaskRule, classes_seen
from foveate.data.nifti import NIFTI, is_nifti, read_nifti_shape
from foveate.data.reading import SUFFIXES
from foveate.data.split_names import JUNK, SPLIT_WORDS, inside, split_folders, split_of, visible_folders
from foveate.data.volumes import Case
from foveate.errors import DataError

__all__ = ["Listing", "list_cases", "slashed", "stem"]

IMAGES = ("images", "image", "imgs", "img")
LABELS = ("labels", "masks", "label", "mask")
OBJECTS = (["background", "lesion"], {0: 0, 1: 1})

Found = dict[str, list[Case]]


@dataclass(frozen=True)
class Listing:
    """What a folder holds, before it is divided.

    Args:
        root: The folder.
        spatial_dims: 2 or 3.
        modalities: The name of each channel.
        classes: Their names, the background first.
        values: The class of each label value; IGNORED for those that are neither learned nor scored.
        cases: Those with labels that are not said to be for validation or testing.
        val: Those for validation; None where nothing says so.
        test: Those for testing; None where nothing says so.
        unlabelled: Those without labels.
        voxels: Of each class, where the labels were read for it.
        notes: Oddities, a sentence each.
    """

    root: Path
    spatial_dims: int
    modalities: list[str]
    classes: list[str]
    values: Mapping[int, int]
    cases: list[Case]
    val: list[Case] | None
    test: list[Case] | None
    unlabelled: list[Case]
    voxels: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def list_cases(path: Path, *, instances: bool = False, rule: MaskRule | None = None, train: bool = True) -> Listing:
    """List the cases of a folder, or of the dataset.json in it, under any name.

    Args:
        path: The folder or the file.
        instances: Every number above 0 in a label is an object of its own, so nothing is asked about classes.
        rule: What is said of the values in masks.
        train: Cases to train with are needed; else some case with a label is enough.
    """
    rule = rule or MaskRule()
    if not path.exists():
        raise DataError(f"{path} does not exist")
    root, said = (path, path / "dataset.json") if path.is_dir() else (path.parent, path)
    about = read_description(said) if said.exists() else {}
    if "file_ending" in about or (not about and (root / "imagesTr").is_dir()):
        found = _nnunet(root, said, about)
    elif _lists(about):
        found = _decathlon(root, said, about)
    else:
        found = _pairs(root)
    every = [case for cases in found.values() for case in cases]
    labelled = {split: [case for case in cases if case.label] for split, cases in found.items()}
    with_label = list(chain(*labelled.values()))
    if not (labelled.get("train") if train else with_label):
        raise DataError(f"{root} has no case with a label to {'train with' if train else 'measure on'}")
    modalities = modalities_of(said, about) or modalities_seen(every)
    known = OBJECTS if instances else classes_of(said, about)
    seen = classes_seen(with_label, rule) if known is None else None
    classes, values = known or (seen.names, seen.values)  # pyright: ignore[reportOptionalMemberAccess]
    if rule.threshold is not None and len(classes) != 2:
        raise DataError(f"threshold is for the background and one class; {root} has {', '.join(classes)}")
    if rule.ignore and not instances:
        classes, values = without((classes, dict(values)), rule.ignore, root)
    val = labelled.get("val") or None
    test = labelled.get("test") or ([] if val else None)
    unlabelled = [case for case in every if not case.label]
    dims = _spatial_dims(with_label[0].images[0])
    parts = (labelled.get("train", []), val, test, unlabelled)
    about_masks = (seen.voxels, seen.notes) if seen else ({}, [])
    return Listing(root, dims, modalities, classes, values, *parts, *about_masks)


def stem(path: Path) -> str:
    """A path without the ending of an image."""
    name = path.as_posix()
    for ending in (*NIFTI, *SUFFIXES):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _spatial_dims(path: Path) -> int:
    return 3 if path.is_dir() or (is_nifti(path) and read_nifti_shape(path)[2] > 1) else 2


def _decathlon(root: Path, said: Path, about: Mapping[str, Any]) -> Found:
    parts: list[tuple[str, list[str], str | None]] = []
    for key, split in _lists(about).items():
        entries = about[key]
        if not isinstance(entries, list):
            raise DataError(f"{said} must list cases under {key!r}; got {entries!r}")
        for entry in entries:
            images, label = _entry(entry)
            if not images or (label is None and split == "train"):
                raise DataError(f'{said} must list {{"image": FILE, "label": FILE}} under {key!r}; got {entry!r}')
            images, label = [slashed(image) for image in images], None if label is None else slashed(label)
            if not Path(images[0]).name.startswith("."):
                parts.append((split, images, label))
    brief = {stem(Path(Path(images[0]).name)) for _, images, _ in parts}
    found: Found = {}
    for split, images, label in parts:
        # Where files are called alike in a folder a case, only the path tells them apart.
        name = stem(Path(Path(images[0]).name if len(brief) == len(parts) else images[0]))
        paths = tuple(path for image in images for path in _channels(root / image))
        if label is not None:
            _exists(root / label)
        case = Case(name, paths, None if label is None else root / label)
        found.setdefault(split, []).append(case)
    return found


def slashed(name: str) -> str:
    """Return a name in a list with the slashes of this system, whichever system wrote it."""
    return name.replace("\\", "/")


def _channels(listed: Path) -> list[Path]:
    """Return the files of an image: itself, or those with nnU-Net's numbers of channels if it is not there."""
    if _exists(listed):
        return [listed]
    ending = listed.name[len(Path(stem(Path(listed.name))).name) :]
    beside = listed.name.removesuffix(ending)
    found: list[Path] = []
    while _exists(path := listed.with_name(f"{beside}_{len(found):04}{ending}")):
        found.append(path)
    return found or [listed]


def _exists(path: Path) -> bool:
    """Return whether there is something at a listed path; a name that no file could have is a DataError."""
    try:
        return path.exists()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _lists(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys under which cases are listed, with the split of each."""
    named = {key: split for key, entries in about.items() if (split := split_of(key)) and not isinstance(entries, int)}
    return {key: split for key, split in named.items() if isinstance(about[key], list) or key in SPLIT_WORDS[split]}


def _entry(entry: object) -> tuple[list[str], str | None]:
    """Images and label of one line; no image where it makes no sense."""
    if isinstance(entry, str):
        return [entry], None
    said = entry if isinstance(entry, dict) else {}
    images, label = said.get("image"), said.get("label")
    images = images if isinstance(images, list) else [images]
    sensible = all(isinstance(name, str) for name in images) and isinstance(label, str | None)
    return ([str(name) for name in images], label) if sensible else ([], None)


def _nnunet(root: Path, said: Path, about: Mapping[str, Any]) -> Found:
    ending = about.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in (*NIFTI, *SUFFIXES):
        known = ", ".join((*NIFTI, *SUFFIXES))
        raise DataError(f"{said} must say the file_ending of imagesTr, one of {known}; got {ending!r}")
    found = {"train": _nnunet_part(root / "imagesTr", root / "labelsTr", ending)}
    if (root / "imagesTs").is_dir():
        found["test"] = _nnunet_part(root / "imagesTs", root / "labelsTs", ending)
    return found


def _nnunet_part(images: Path, labels: Path, ending: str) -> list[Case]:
    channels: dict[str, list[Path]] = {}
    for path in _visible(images):
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", path.relative_to(images).as_posix())
        if not match:
            raise DataError(f"{path} must be called CASE_0000{ending}, with the number of its channel")
        files = channels.setdefault(match[1], [])
        if int(match[2]) != len(files):
            raise DataError(
                f"{path} is channel {int(match[2])} of case {match[1]}, whose channel {len(files)} is missing"
            )
        files.append(path)
    if not labels.is_dir():
        return [Case(name, tuple(files)) for name, files in channels.items()]
    held = {path.relative_to(labels).as_posix().removesuffix(ending): path for path in _visible(labels)}
    _check_paired(images, labels, channels, held)
    return [Case(name, tuple(files), held[name]) for name, files in channels.items()]


def _pairs(root: Path) -> Found:
    named = split_folders(visible_folders(root))
    if "train" in named or (named and not _named(root, IMAGES)):
        return {split: _pair(inside(folder, _is_pair), f"{split}/") for split, folder in named.items()}
    root = inside(root, _is_pair)
    cases = _pair(root, "")
    firsts = {case.name.partition("/")[0] for case in cases if "/" in case.name}
    if not firsts or not any(map(split_of, firsts)):
        return {"train": cases}
    found: Found = {}
    for case in cases:
        first, slash, _ = case.name.partition("/")
        split = split_of(first) if slash else None
        if split is None:
            raise DataError(f"{root / 'images'} must hold train, val and test and nothing beside; got {first}")
        found.setdefault(split, []).append(case)
    return found


def _is_pair(folder: Path) -> bool:
    return bool(_named(folder, IMAGES) and _named(folder, LABELS))


def _named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders of a folder that have one of some names, in any capitals."""
    return [path for path in _entries(folder) if path.is_dir() and path.name.lower() in names]


def _pair(folder: Path, prefix: str) -> list[Case]:
    images, labels = _named(folder, IMAGES), _named(folder, LABELS)
    if len(images) != 1 or len(labels) > 1 or (not labels and prefix != "test/"):
        known = "a dataset.json that lists its cases, imagesTr and labelsTr, or images and one of labels and masks"
        held = ", ".join(path.name for path in _entries(folder)[:12]) or "nothing"
        raise DataError(f"{folder} must hold {known}; it holds {held}")
    pictures = _by_stem(images[0], series=True)
    if not labels:
        return [Case(prefix + name, (path,)) for name, path in pictures.items()]
    masks = _by_stem(labels[0])
    _check_paired(images[0], labels[0], pictures, masks)
    return [Case(prefix + name, (path,), masks[name]) for name, path in pictures.items()]


def _by_stem(folder: Path, *, series: bool = False) -> dict[str, Path]:
    """Files by their names without ending, and with `series` also folders of DICOM slices by theirs."""
    visible = _visible(folder)
    slices = {path for path in _slices(visible) if series and path.parent != folder}
    places = {path.parent for path in slices}
    files = {place.relative_to(folder).as_posix(): place for place in sorted(places)}
    for path in visible:
        if path in slices or (path.parent in places and path.name.lower() in COMPANIONS):
            continue
        name = stem(path.relative_to(folder))
        if path.name.lower() == Path(name).name.lower():
            known = ", ".join((*NIFTI, *SUFFIXES)) + (", or a folder of DICOM slices" if series else "")
            raise DataError(f"{path} is no scan and no picture ({known})")
        if name in files:
            raise DataError(f"{files[name]} and {path} have one name; a case is one file{' or folder' * series}")
        files[name] = path
    return files


def _slices(paths: Sequence[Path]) -> list[Path]:
    """Those that are DICOM slices; beside scans and pictures a file without ending is none."""
    beside = {path.parent for path in paths if stem(path) != path.as_posix()}
    return [path for path in paths if path.suffix.lower() in SLICES or (path.parent not in beside and is_slice(path))]


def _check_paired(images: Path, labels: Path, pictures: Iterable[str], masks: Iterable[str]) -> None:
    bare, stray = sorted(set(pictures) - set(masks)), sorted(set(masks) - set(pictures))
    for names, here, there in ((bare, images, labels), (stray, labels, images)):
        if names:
            others = f", nor for {len(names) - 1} more" if len(names) > 1 else ""
            raise DataError(f"{there} holds nothing for {names[0]} of {here}{others}; both must hold the same names")


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from None


def _visible(folder: Path) -> list[Path]:
    """Every file in a folder and below it that is not hidden."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}")

    files = []
    for place, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".") and name.lower() not in JUNK]
        for name in below:
            if name.lower().endswith((*NIFTI, *SUFFIXES)):
                raise DataError(f"{Path(place) / name} must be a file, as its name ends like an image; it is a folder")
        files += [Path(place) / name for name in names if not name.startswith(".") and name.lower() not in JUNK]
    return sorted(files)
