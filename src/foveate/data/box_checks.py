"""Look at every picture with boxes before training starts, so that none stops it hours later."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from foveate.data.boxes import Boxes, BoxSplit
from foveate.data.faults import raise_faults
from foveate.data.findings import Finding
from foveate.data.pictures import SPLITS
from foveate.errors import DataError

__all__ = ["BoxFacts", "check_boxes", "count_boxes"]


@dataclass(frozen=True)
class BoxFacts:
    """What a split holds.

    Args:
        split: "train", "val" or "test".
        pictures: How many.
        empty: Those without any object.
        objects: Of each class, crowds not counted.
        crowds: Boxes that hold many objects.
        most: Objects in the fullest picture: a detector needs as many queries.
    """

    split: str
    pictures: int
    empty: int
    objects: tuple[int, ...]
    crowds: int
    most: int


def check_boxes(
    boxes: Boxes, progress: Callable[[int, int], object] | None = None
) -> tuple[list[BoxFacts], list[Finding]]:
    """Read every picture, and its masks, as training will; say what the splits hold, and what is odd about them.

    Args:
        boxes: The data.
        progress: Called after each picture with how many are done, and of how many.

    Returns:
        What each split holds; and classes that train does not show and pictures that are in two splits, besides the
        findings of `boxes` itself.

    Raises:
        DataError: What would stop a training: every picture or mask that cannot be read, a sentence and a line each.
    """
    total, done = sum(len(split) for split in boxes.splits.values()), 0
    faults: list[str] = []
    seen: dict[bytes, tuple[str, str]] = {}
    twins: dict[str, list[str]] = {}
    for name in SPLITS:
        split = boxes.splits[name]
        for index in range(len(split)):
            try:
                image = split.image(index)
                split.masks(index)
            except DataError as error:
                faults.append(str(error))
            else:
                digest = hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
                other, twin = seen.setdefault(digest, (name, split.name(index)))
                if other != name:
                    twins.setdefault(name, []).append(f"{split.name(index)} is {twin} of {other}")
            done += 1
            if progress is not None:
                progress(done, total)
    raise_faults(faults)
    facts = count_boxes(boxes)
    found = [
        Finding(name, "pictures that another split has too, kept", len(said), said[0]) for name, said in twins.items()
    ]
    missing = [kind for kind, count in zip(boxes.classes, facts[0].objects, strict=True) if not count]
    if missing:
        found.append(Finding("train", "classes without an object, which cannot be learned", len(missing), missing[0]))
    return facts, [*boxes.findings, *found]


def count_boxes(boxes: Boxes) -> list[BoxFacts]:
    """Count the pictures and the objects of each split."""
    return [_facts(name, boxes.splits[name], len(boxes.classes)) for name in SPLITS]


def _facts(name: str, split: BoxSplit, classes: int) -> BoxFacts:
    held = [split.objects(index) for index in range(len(split))]
    labels = torch.cat([torch.zeros(0, dtype=torch.long), *(objects.labels[~objects.crowd] for objects in held)])
    counts = tuple(torch.bincount(labels, minlength=classes).tolist())
    most = max((int((~objects.crowd).sum()) for objects in held), default=0)
    empty = sum(not len(objects) for objects in held)
    return BoxFacts(name, len(split), empty, counts, sum(int(objects.crowd.sum()) for objects in held), most)
