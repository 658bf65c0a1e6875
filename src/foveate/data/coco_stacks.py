"""Slices in COCO's layout as stacks: each image of the json file says "volume", a text, and "slice", a whole number.

An image may say "spacing", of slices, rows and columns in mm; else it is 1. Objects of one volume with the same number
as "lesion", and of one category, are one lesion; any other object is a lesion of its own.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.data.coco import CocoFile, CocoSplit, Scene, read_coco
from foveate.data.coco_layout import (
    categories_of,
    class_names,
    divide_scenes,
    picture_folders,
    refuse_twins,
    split_file,
    split_files,
)
from foveate.data.findings import Tally
from foveate.data.masks import check_extra, decode_masks
from foveate.data.pictures import SPLITS
from foveate.data.planes import read_plane
from foveate.data.runs import runs_of
from foveate.data.stacks import Stack, Stacks
from foveate.errors import DataError

__all__ = ["open_coco_stacks"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Slices of a volume without a gap."""

    name: str
    scenes: list[Scene]
    spacing: tuple[float, float, float]


class CocoStackSplit:
    """Runs of slices as a split.

    Args:
        runs: The slices.
        category_ids: The class of each id is its place here.
        masks: Whether every object has one.
    """

    def __init__(self, runs: Sequence[Run], category_ids: Sequence[int], masks: bool) -> None:
        self.runs, self.category_ids, self.masks = list(runs), list(category_ids), masks

    def __len__(self) -> int:
        return len(self.runs)

    def name(self, index: int) -> str:
        return self.runs[index].name

    def stack(self, index: int) -> Stack:
        run = self.runs[index]
        slices = torch.from_numpy(np.concatenate([read_plane(scene.file, 1) for scene in run.scenes]))
        annotated = torch.ones(len(slices), dtype=torch.bool)
        if self.masks:
            instances, labels = self._lesions(run)
            return Stack(run.name, slices, run.spacing, instances, labels, {}, annotated)
        listed = CocoSplit(run.scenes, self.category_ids)
        boxes = {number: listed.objects(number) for number, scene in enumerate(run.scenes) if scene.boxes_xyxy}
        return Stack(run.name, slices, run.spacing, None, torch.zeros(0, dtype=torch.long), boxes, annotated)

    def _lesions(self, run: Run) -> tuple[Tensor, Tensor]:
        """The number of each pixel's lesion, int32 (slice, height, width), and the class of each lesion, int64.

        Where objects of a slice overlap, the smaller one is seen.
        """
        numbers: dict[Hashable, int] = {}
        labels: list[int] = []
        instances = torch.zeros(len(run.scenes), *run.scenes[0].size, dtype=torch.int32)
        for place, (scene, painted) in enumerate(zip(run.scenes, instances, strict=True)):
            masks = decode_masks(scene.segmentations, *scene.size)
            for index in masks.flatten(1).sum(dim=1).argsort(descending=True, stable=True).tolist():
                category = scene.categories[index]
                joined = _is_whole(scene.lesions[index])
                key = (scene.lesions[index], category) if joined else (place, index, "alone")
                if key not in numbers:
                    numbers[key] = len(labels) + 1
                    labels.append(self.category_ids.index(category))
                painted[masks[index]] = numbers[key]
        return instances, torch.tensor(labels, dtype=torch.long)


def open_coco_stacks(path: Path, alone: str | None = None) -> Stacks:
    """Open a json file, or a folder with one for each split; where val has none, volumes are divided by their names.

    With the name of a split `alone`, a file is that split as a whole, and of a folder the file of the split is enough.

    A gap in the numbers of a volume's slices makes several stacks of it. Every slice that is listed is annotated. Masks
    are known where every object has one that can be used; then crowds are left out, which are no lesions.

    Raises:
        DataError: If the files are no COCO json, their images do not say which slice of which volume they are, slices
            of a volume differ in size or spacing or are there twice, or a volume is in two splits.
        MissingExtra: If there are outlines of masks and pycocotools is not installed.
    """
    tallies: dict[str, Tally] = {}
    read: dict[str, CocoFile] = {}
    single = None if alone is None else split_file(path, alone)
    for split, file in ({alone: single} if alone and single else split_files(path)).items():
        tallies[split] = Tally(split)
        read[split] = read_coco(file, picture_folders(path, file), tallies[split], masks=None)
        _check_scenes(read[split])
    scenes = {split: file.scenes for split, file in read.items()}
    masks = _have_masks(chain(*scenes.values()))
    if masks:
        scenes = {split: [_single(scene, tallies[split]) for scene in held] for split, held in scenes.items()}
    ids, names = class_names(categories_of(read.values()))
    if alone and single:
        rule = f"all of {single.name}"
        scenes = {split: scenes[split] if split == alone else [] for split in (alone, *SPLITS)}
    else:
        rule = divide_scenes(scenes, attrgetter("volume"), "volumes")
    refuse_twins(scenes)
    _refuse_shared_volumes(path, scenes)
    splits = {split: CocoStackSplit(_runs(path, scenes[split]), ids, masks) for split in SPLITS}
    findings = [finding for tally in tallies.values() for finding in tally.findings()]
    return Stacks(str(path), names, ids, "grey", splits, rule, masks, findings)


def _check_scenes(file: CocoFile) -> None:
    """Hold what images say of their place against what they must say."""
    for scene in file.scenes:
        if not isinstance(scene.volume, str) or not _is_whole(scene.slice):
            wanted = 'its volume, a text, as "volume" and the number of its slice as "slice"'
            found = f"{scene.volume!r} and {scene.slice!r}"
            raise DataError(f"{file.path} must say of each image {wanted}; of {scene.name} it says {found}")
        held = scene.spacing
        steps = isinstance(held, list) and len(held) == 3 and all(map(_is_finite, held)) and min(held) > 0
        if held is not None and not steps:
            wanted = "three positive numbers, of slices, rows and columns in mm"
            raise DataError(f"{file.path} must give spacing as {wanted}; of {scene.name} it says {held!r}")


def _have_masks(scenes: Iterable[Scene]) -> bool:
    """Whether every object but crowds has a mask that can be used, and there are any."""
    held = [
        segmentation
        for scene in scenes
        for segmentation, crowd in zip(scene.segmentations, scene.crowd, strict=True)
        if not crowd
    ]
    if not held or any(segmentation is None for segmentation in held):
        return False
    if any(isinstance(segmentation, list) for segmentation in held):
        check_extra()
    return True


def _single(scene: Scene, tally: Tally) -> Scene:
    """A scene without its crowds."""
    for index, lesion in enumerate(scene.lesions):
        if scene.crowd[index]:
            tally.add("crowds, which are no lesions, left out", scene.name)
        elif lesion is not None and not _is_whole(lesion):
            tally.add("objects whose lesion is no whole number, taken for lesions of their own", scene.name)
    kept = [index for index, crowd in enumerate(scene.crowd) if not crowd]
    lists = ("boxes_xyxy", "categories", "crowd", "areas", "segmentations", "lesions")
    return dataclasses.replace(scene, **{name: [getattr(scene, name)[index] for index in kept] for name in lists})


def _refuse_shared_volumes(path: Path, scenes: Mapping[str, Sequence[Scene]]) -> None:
    seen: dict[str, str] = {}
    for split, held in scenes.items():
        for scene in held:
            other = seen.setdefault(scene.volume, split)
            if other != split:
                places = f"{scene.volume} is in {other} and in {split}"
                raise DataError(f"{path} must have each volume in one split; {places}")


def _runs(path: Path, scenes: Sequence[Scene]) -> list[Run]:
    """The slices of each volume in their order, parted where one is missing."""
    volumes: dict[str, dict[int, Scene]] = {}
    for scene in scenes:
        held = volumes.setdefault(scene.volume, {})
        if scene.slice in held:
            twice = f"{held[scene.slice].name} and {scene.name}"
            place = f"slice {scene.slice} of {scene.volume}"
            raise DataError(f"{path} must have each slice of a volume once; {twice} are both {place}")
        held[scene.slice] = scene
    found = []
    for name, held in volumes.items():
        runs = runs_of(held)
        for first, last in runs:
            members = [held[number] for number in range(first, last + 1)]
            _check_alike(path, members)
            steps = members[0].spacing or (1, 1, 1)
            spacing = (float(steps[0]), float(steps[1]), float(steps[2]))
            found.append(Run(name if len(runs) == 1 else f"{name}_{first}-{last}", members, spacing))
    return found


def _check_alike(path: Path, scenes: Sequence[Scene]) -> None:
    first = scenes[0]
    for scene in scenes:
        for what in ("size", "spacing"):
            one, other = getattr(first, what), getattr(scene, what)
            if one != other:
                told = f"{first.name} has {one} and {scene.name} {other}"
                raise DataError(f"{path} must have slices of one {what} in a volume; of {first.volume} {told}")


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _is_finite(number: Any) -> bool:
    return _is_whole(number) or (isinstance(number, float) and math.isfinite(number))
