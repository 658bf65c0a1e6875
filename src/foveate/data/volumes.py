"""Volumes: scans and pictures with a label for every voxel, in three splits, wherever they come from."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from foveate.data.labels import IGNORED
from foveate.errors import DataError

if TYPE_CHECKING:
    from foveate.data.layouts import Listing

__all__ = ["Case", "Volume", "Volumes", "modality_of", "open_volume_split", "open_volumes", "volumes_of"]

CT = {"ct", "cta", "cbct", "cect", "ldct", "ncct"}
MR = re.compile(r"mri?|t[12](w|gd|ce|c|n|f)?|flair|dwi|adc|swi|pdw?|dce|lge|bssfp|cine")


@dataclasses.dataclass(frozen=True)
class Case:
    """One scan or picture, in files or in a folder of DICOM slices.

    Args:
        name: What to call it: the file's name without ending, below its folder.
        images: A file a channel, or one file with all of them, or the folder of a DICOM series.
        label: The file of its labels; None where there is none.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


@dataclasses.dataclass(frozen=True)
class Volumes:
    """Channels, classes and three splits.

    Args:
        source: Where the cases come from.
        spatial_dims: 2 or 3.
        modalities: The name of each channel.
        classes: Their names, the background first; a class is a place in this list.
        values: The class that each label value in the files stands for; IGNORED for those that are neither learned nor
            scored.
        splits: "train", "val" and "test", which alone may be empty.
        rule: How the splits came about, in words.
        unused: Cases in no split: without labels, or not named by a file of splits.
        threshold: The lowest value of the foreground in masks with grey edges; None for masks of whole numbers.
        voxels: Of each class in all labels, where these were read to know the classes.
        notes: Oddities, a sentence each.

    Raises:
        DataError: If a name or a file is there twice.
    """

    source: str
    spatial_dims: int
    modalities: list[str]
    classes: list[str]
    values: Mapping[int, int]
    splits: Mapping[str, list[Case]]
    rule: str
    unused: list[Case] = dataclasses.field(default_factory=list)
    threshold: int | None = None
    voxels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        held: dict[str | Path, str] = {}
        for split, cases in {**self.splits, "unused": self.unused}.items():
            for case in cases:
                for key in (case.name, *case.images, case.label):
                    if key is None:
                        continue
                    if key in held:
                        places = f"in {held[key]} and in {split}" if held[key] != split else f"in {split}"
                        raise DataError(f"{self.source} has {key} twice, {places}")
                    held[key] = split

    @property
    def ignored_values(self) -> list[int]:
        """The label values that are neither learned nor scored."""
        return [] if len(self.classes) > IGNORED else [v for v, number in self.values.items() if number == IGNORED]

    def names(self) -> dict[str, list[str]]:
        """The names of the cases of each split, as a `split_file` holds them."""
        return {split: [case.name for case in cases] for split, cases in self.splits.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """What the files of a case hold, with its voxels in the order of the files.

    Args:
        image: float32 (channel, *space); space is (x, y, z) of a scan and (height, width) of a picture.
        label: The class of each voxel, uint8 (*space), int64 for more than 256 classes; None where it is not known.
        affine: From voxels to RAS in the unit of the file, float64 (4, 4); the identity for pictures.
        spacing: Of each axis of space, in millimetres; 1 for pictures.
        name: Of the case.
        header: Of the NIfTI file, so that results are written in exactly its space; None for other files.
        remark: A sentence about what was doubtful in the file and how it was decided; None if nothing was.
    """

    image: Tensor
    label: Tensor | None
    affine: np.ndarray
    spacing: tuple[float, ...]
    name: str
    header: bytes | None = None
    remark: str | None = None


def open_volumes(
    path: str | Path,
    *,
    fold: int | None = None,
    folds: int = 5,
    split_file: str | Path | None = None,
    instances: bool = False,
    ignore: Sequence[int] | None = None,
    threshold: int | None = None,
) -> Volumes:
    """Open a folder in the layout of the Decathlon or of nnU-Net, or pairs of folders; layouts.py says what these are.

    Splits are those of the folders or of `split_file`. Else cases are divided in the order of their names, numbers in
    them by value: the last fifth is for testing, and of the rest the last tenth, or block `fold` of `folds`, for
    validation. Blocks are contiguous because neighbouring slices are alike. Where the end of a block may cut a patient
    in two, give a `split_file`.

    Args:
        path: The folder, or its dataset.json, under any name.
        fold: Which block validates; or which entry of a `split_file` that is a list holds.
        folds: How many blocks there are.
        split_file: JSON: names of cases under "train", "val" and, at will, "test"; or nnU-Net's list of such folds.
        instances: Whether each number above 0 in the labels is an object, all of one class, for read_instances().
        ignore: Label values that are neither learned nor scored. Default: none; values that are void by custom, such as
            255, are then asked for.
        threshold: The lowest value of the foreground, for masks whose edges are grey.

    Raises:
        DataError: If no layout is recognised, or files are missing or ambiguous, or say what does not fit.
        ValueError: If `fold` is out of range, or there is nothing for it to choose.
    """
    from foveate.data.division import divide
    from foveate.data.layouts import list_cases
    from foveate.data.mask_values import MaskRule

    listing = list_cases(Path(path), instances=instances, rule=MaskRule(ignore, threshold))
    splits, rule, left = divide(listing, fold, folds, None if split_file is None else Path(split_file))
    for split in ("train", "val"):
        if not splits[split]:
            raise DataError(f"{path} has no case in its {split} split")
    return volumes_of(listing, str(path), splits, rule, left, threshold)


def open_volume_split(
    path: str | Path,
    split: str,
    held: Mapping[str, Sequence[str]],
    *,
    instances: bool = False,
    ignore: Sequence[int] | None = None,
    threshold: int | None = None,
) -> Volumes:
    """Open the cases to measure a run on: those of a split if the data say splits, else all of them.

    Of data that hold cases of the run those of the run's own split are chosen; else what is called a test would be
    measured on cases that the run was trained with.

    Args:
        path: As in open_volumes.
        split: Which split.
        held: The names of the cases of each split of the run.
        instances: As in open_volumes, as are `ignore` and `threshold`.

    Raises:
        DataError: If there is no such case, or what open_volumes raises of files.
    """
    from foveate.data.layouts import list_cases
    from foveate.data.mask_values import MaskRule

    listing = list_cases(Path(path), instances=instances, rule=MaskRule(ignore, threshold), train=False)
    parts = {"train": listing.cases, "val": listing.val or [], "test": listing.test or []}
    known = {case.name: case for cases in parts.values() for case in cases}
    if any(name in known for names in held.values() for name in names):
        cases, rule = [known[name] for name in held[split] if name in known], "as the run divided its own cases"
        if not cases:
            raise DataError(f"{path} holds cases of the run, but none that is in its {split} split")
    elif not parts["val"] and not parts["test"]:
        cases, rule = parts["train"], f"all of {path}"
    else:
        cases, rule = parts[split], "as the data say"
        if not cases:
            there = ", ".join(name for name, part in parts.items() if part)
            raise DataError(f"{path} has no case in its {split} split; it has {there}")
    chosen: dict[str, list[Case]] = {"train": [], "val": [], "test": []}
    return volumes_of(listing, str(path), chosen | {split: list(cases)}, rule, [], threshold)


def volumes_of(
    listing: "Listing",
    source: str,
    splits: Mapping[str, list[Case]],
    rule: str,
    left: list[Case],
    threshold: int | None,
) -> Volumes:
    """Put together what a folder holds and how it is divided.

    Args:
        listing: The cases of the folder.
        source: What the data are called.
        splits: "train", "val" and "test".
        rule: How the splits came about, in words.
        left: Cases with labels that are in no split.
        threshold: As in open_volumes.
    """
    return Volumes(
        source,
        listing.spatial_dims,
        listing.modalities,
        listing.classes,
        listing.values,
        splits,
        rule,
        [*listing.unlabelled, *left],
        threshold,
        listing.voxels,
        listing.notes,
    )


def modality_of(channel: str) -> Literal["CT", "MR", "other"]:
    """What a channel's name says that it is: CT is in Hounsfield units, MR has no unit, and other may be anything."""
    words = re.findall(r"[a-z0-9]+", channel.lower())
    if "pet" not in words and not CT.isdisjoint(words):
        return "CT"
    return "MR" if any(MR.fullmatch(word) for word in words) else "other"
