"""Look at every case before training starts, so that none stops it hours later."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveate.data.exif_masks import turned_notes
from foveate.data.faults import raise_faults
from foveate.data.labels import IGNORED, tally
from foveate.data.scans import read_case
from foveate.data.volumes import Case, Volume, Volumes
from foveate.errors import DataError

__all__ = ["CaseFacts", "check_cases", "doubts"]


@dataclass(frozen=True)
class CaseFacts:
    """What was found in a case.

    Args:
        name: Of the case.
        split: "train", "val" or "test".
        shape: Of its space.
        spacing: In millimetres.
        voxels: Of each class.
        ignored: Voxels that are neither learned nor scored.
        remark: A sentence about what was doubtful in the file and how it was decided; None if nothing was.
    """

    name: str
    split: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    voxels: tuple[int, ...]
    ignored: int = 0
    remark: str | None = None


def check_cases(volumes: Volumes, progress: Callable[[int, int], object] | None = None) -> list[CaseFacts]:
    """Read every case of the three splits as training will, and say what was found.

    Args:
        volumes: The data.
        progress: Called after each case with how many are done, and of how many.

    Raises:
        DataError: All that would stop a training or make it worthless, a sentence and a line each: what read_case
            raises, an image that is in two splits, a class that no training case shows.
    """
    cases = [(split, case) for split, held in volumes.splits.items() for case in held]
    facts: list[CaseFacts] = []
    faults: list[str] = []
    seen: dict[bytes, tuple[str, Case]] = {}
    for done, (split, case) in enumerate(cases, start=1):
        try:
            volume = read_case(case, volumes)
        except DataError as error:
            faults.append(str(error))
        else:
            facts.append(_facts(volume, split, len(volumes.classes)))
            other, twin = seen.setdefault(_digest(volume), (split, case))
            if other != split and not _is_flat(volume):
                faults.append(f"{case.images[0]} in {split} is the same image as {twin.images[0]} in {other}")
        if progress is not None:
            progress(done, len(cases))
    faults += [] if faults else _unseen(volumes, facts)
    raise_faults(faults)
    return facts


def _facts(volume: Volume, split: str, num_classes: int) -> CaseFacts:
    counts = Counter() if volume.label is None else tally(volume.label.numpy(), Path(volume.name))
    voxels = tuple(counts[number] for number in range(num_classes))
    ignored = counts[IGNORED] if num_classes <= IGNORED else 0
    return CaseFacts(volume.name, split, tuple(volume.image.shape[1:]), volume.spacing, voxels, ignored, volume.remark)


def doubts(volumes: Volumes, facts: list[CaseFacts]) -> tuple[str, ...]:
    """Return the lines to show before training about what was doubtful: voxel sizes, and pictures that EXIF turns."""
    odd = [fact for fact in facts if fact.remark]
    lines = (f"{len(odd)} scans contradict themselves; the first, {odd[0].name}: {odd[0].remark}",) if odd else ()
    pictures = [case for cases in volumes.splits.values() for case in cases] if volumes.spatial_dims == 2 else []
    return (*lines, *turned_notes(pictures))


def _digest(volume: Volume) -> bytes:
    digest = hashlib.blake2b(str(volume.image.shape).encode(), digest_size=16)
    digest.update(volume.image.numpy().data)
    return digest.digest()


def _is_flat(volume: Volume) -> bool:
    """Whether there is nothing to see: empty slices are alike without being copies."""
    return bool(volume.image.min() == volume.image.max())


def _unseen(volumes: Volumes, facts: list[CaseFacts]) -> list[str]:
    held = np.sum([fact.voxels for fact in facts if fact.split == "train"], axis=0)
    missing = [name for name, count in list(zip(volumes.classes, held, strict=True))[1:] if not count]
    if len(missing) == len(volumes.classes) - 1:
        return [f"{volumes.source} has nothing but background in the labels of its train split"]
    return [f"{volumes.source} has no voxel of class {name!r} in its train split" for name in missing]
