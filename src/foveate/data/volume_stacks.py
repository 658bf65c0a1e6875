"""Volumes in files as stacks: one channel, cut into slices, with the lesions that the label maps show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveate.data.orientation import PLANES, Plane, cut_along
from foveate.data.pictures import SPLITS
from foveate.data.scans import read_case, read_instances
from foveate.data.stacks import Stack, Stacks
from foveate.data.volumes import Case, Volume, Volumes, open_volumes
from foveate.errors import DataError

__all__ = ["VolumeSplit", "cut_stack", "lesions_in", "open_volume_stacks"]

TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner are of one lesion


class VolumeSplit:
    """Cases as a split.

    Args:
        cases: With labels.
        volumes: What they are of.
        channel: The number of that which is shown.
        plane: Of the slices.
        instances: Whether the labels number lesions, not classes.
        kept: The classes that are lesions, by their numbers in the labels.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        volumes: Volumes,
        channel: int,
        plane: Plane,
        instances: bool,
        kept: Sequence[int],
    ) -> None:
        self.cases, self.volumes = list(cases), volumes
        self.channel, self.instances = channel, instances
        self.numbers = torch.zeros(len(volumes.classes), dtype=torch.long)
        self.numbers[list(kept)] = torch.arange(1, len(kept) + 1)
        self.plane: Plane = plane

    def __len__(self) -> int:
        return len(self.cases)

    def name(self, index: int) -> str:
        return self.cases[index].name

    def stack(self, index: int) -> Stack:
        case = self.cases[index]
        if self.instances:
            volume, lesions = read_instances(case, self.volumes)
            labels = torch.zeros(int(lesions.max()), dtype=torch.long)
        else:
            volume = read_case(case, self.volumes)
            if volume.label is None:
                raise DataError(f"{case.name} has no label, which says where its lesions are")
            lesions, labels = lesions_in(self.numbers[volume.label.long()])
        return cut_stack(volume, self.channel, self.plane, lesions, labels)


def open_volume_stacks(
    path: str | Path,
    channel: str | None,
    instances: bool,
    classes: Sequence[str] | None,
    plane: Plane,
    fold: int | None,
    folds: int,
    split_file: str | Path | None,
) -> Stacks:
    """Open what open_volumes takes; see open_stacks."""
    volumes = open_volumes(path, fold=fold, folds=folds, split_file=split_file, instances=instances, ignore=[])
    return stacks_of(volumes, channel, instances, classes, plane)


def stacks_of(
    volumes: Volumes, channel: str | None, instances: bool, classes: Sequence[str] | None, plane: Plane
) -> Stacks:
    """Cut volumes that are open into slices; see open_stacks."""
    path = volumes.source
    if plane not in PLANES:
        raise ValueError(f"plane is one of {', '.join(PLANES)}; got {plane!r}")
    if volumes.ignored_values:
        raise DataError(f"{path} has labels to ignore, which are for segmentation; lesions have classes alone")
    if volumes.spatial_dims != 3:
        raise DataError(f"stacks are cut from volumes, of three axes of space; {path} holds pictures, of two")
    number = _channel(volumes, channel)
    kept = _kept(volumes, classes)
    splits = {split: VolumeSplit(volumes.splits[split], volumes, number, plane, instances, kept) for split in SPLITS}
    names, values = [volumes.classes[place] for place in kept], _values(volumes.values)
    held = [values[place - 1] for place in kept]
    modality = volumes.modalities[number]
    return Stacks(str(path), names, held, modality, splits, volumes.rule, modalities=volumes.modalities)


def cut_stack(
    volume: Volume, channel: int, plane: Plane, lesions: Tensor | None = None, labels: Tensor | None = None
) -> Stack:
    """A channel of a volume as slices.

    Args:
        volume: Of three axes of space.
        channel: Its number.
        plane: Of the slices.
        lesions: Which lesion each voxel is of, (x, y, z); None where that is not known.
        labels: The class of each lesion.
    """
    cut = cut_along(volume.affine, plane)
    slices = cut.there(volume.image[channel])
    return Stack(
        volume.name,
        slices,
        cut.sizes(volume.spacing),
        None if lesions is None else cut.there(lesions),
        torch.zeros(0, dtype=torch.long) if labels is None else labels,
        {},
        torch.full((len(slices),), lesions is not None),
        volume,
        cut.back,
    )


def lesions_in(label: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of each class that hang together, over corners too, as lesions: the classes come one after the other.

    Args:
        label: The class of each voxel, 0 for the background, (x, y, z).

    Returns:
        The number of each voxel's lesion, 0 for none, int32 (x, y, z); and the class of each, from 0, int64 (lesion).
    """
    from scipy import ndimage

    held = label.numpy()
    lesions = np.zeros(held.shape, np.int32)
    labels: list[int] = []
    for number in np.unique(held[held > 0]).tolist():
        parts, count = ndimage.label(held == number, structure=TOUCHING)  # pyright: ignore[reportGeneralTypeIssues]
        lesions += np.where(parts > 0, parts + len(labels), 0).astype(np.int32)
        labels += [number - 1] * count
    return torch.from_numpy(lesions), torch.tensor(labels, dtype=torch.long)


def _kept(volumes: Volumes, classes: Sequence[str] | None) -> list[int]:
    """The numbers of the classes that are lesions, in the order of the data."""
    known = volumes.classes[1:]
    for name in classes or []:
        if name not in known:
            raise DataError(f"classes must be some of {', '.join(known)} in {volumes.source}; got {name!r}")
    return [place for place, name in enumerate(known, start=1) if classes is None or name in classes]


def _channel(volumes: Volumes, name: str | None) -> int:
    """The number of the channel that is shown."""
    names = volumes.modalities
    if name is None and len(names) == 1:
        return 0
    if name not in names:
        several = f"{len(names)} channel{'s' * (len(names) > 1)}: {', '.join(names)}"
        raise DataError(f"channel must name one channel of {volumes.source}, which has {several}; got {name!r}")
    return names.index(name)


def _values(values: Mapping[int, int]) -> list[int]:
    """What the files call each class after the background."""
    return [value for value, _ in sorted(values.items(), key=lambda pair: pair[1])][1:]
