"""Look at every stack before training starts, so that none stops it hours later."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.data.faults import raise_faults
from foveate.data.findings import Finding, Tally
from foveate.data.pictures import SPLITS
from foveate.data.stacks import Stack, Stacks
from foveate.errors import DataError

__all__ = ["StackFacts", "check_stacks"]


@dataclass(frozen=True)
class StackFacts:
    """What a stack holds; all of it goes into JSON.

    Args:
        split: "train", "val" or "test".
        name: Of the stack.
        depth: How many slices.
        size: (height, width) of each.
        spacing: Of slices, rows and columns, in mm.
        lesions: How many; where masks are not known, how many boxes, crowds not counted.
        with_lesion: The annotated slices that hold one.
        without: The annotated slices that hold none, and no crowd either.
        sides: The longer side of the boxes in its slices: the smallest, the median and the largest, in pixels; None
            without lesions.
    """

    split: str
    name: str
    depth: int
    size: tuple[int, int]
    spacing: tuple[float, float, float]
    lesions: int
    with_lesion: list[int]
    without: list[int]
    sides: tuple[float, float, float] | None


def check_stacks(
    stacks: Stacks, progress: Callable[[int, int], object] | None = None
) -> tuple[list[StackFacts], list[Finding]]:
    """Read every stack as training will; say what each holds, and what is odd about them.

    Args:
        stacks: The data.
        progress: Called after each stack with how many are done, and of how many.

    Returns:
        What each stack holds, in the order of the splits; and, besides the findings of `stacks` itself, volumes that
        another split has too, volumes without a lesion or with one slice, and classes that train does not show.

    Raises:
        DataError: What would stop a training: every stack that cannot be read, a sentence and a line each; or no lesion
            in the train split.
    """
    total = sum(len(stacks.splits[split]) for split in SPLITS)
    tallies = {split: Tally(split) for split in SPLITS}
    facts: list[StackFacts] = []
    faults: list[str] = []
    shown: set[int] = set()
    seen: dict[bytes, tuple[str, str]] = {}
    numbered = [(split, index) for split in SPLITS for index in range(len(stacks.splits[split]))]
    for done, (split, index) in enumerate(numbered, start=1):
        try:
            stack = stacks.splits[split].stack(index)
        except DataError as error:
            faults.append(str(error))
        else:
            if stack.volume is not None and stack.volume.remark:
                what = "scans contradict themselves about the size of a voxel, kept"
                tallies[split].add(what, f"{stack.name}: {stack.volume.remark}")
            found, labels = _facts(split, stack)
            facts.append(found)
            shown |= labels if split == "train" else set()
            _tell(found, stack.slices, tallies[split], seen)
        if progress is not None:
            progress(done, total)
    raise_faults(faults)
    odd = [finding for tally in tallies.values() for finding in tally.findings()]
    return facts, [*stacks.findings, *odd, *_unseen(stacks, shown)]


def _facts(split: str, stack: Stack) -> tuple[StackFacts, set[int]]:
    """What a stack holds, and the classes that its lesions have."""
    annotated = stack.annotated.nonzero()[:, 0].tolist()
    marked = None if stack.instances is None else (stack.instances > 0).flatten(1).any(dim=1)
    objects = {index: stack.objects(index)[0] for index in annotated if marked is None or marked[index]}
    objects = {index: found for index, found in objects.items() if len(found)}
    single = {index: ~found.crowd for index, found in objects.items()}
    boxes = torch.cat([torch.zeros(0, 4), *(objects[index].boxes_xyxy[lone] for index, lone in single.items())])
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)
    return StackFacts(
        split,
        stack.name,
        len(stack),
        (stack.slices.shape[1], stack.slices.shape[2]),
        stack.spacing,
        len(boxes) if stack.instances is None else len(stack.labels),
        [index for index, lone in single.items() if lone.any()],
        [index for index in annotated if index not in objects],
        (float(sides.min()), float(sides.median()), float(sides.max())) if len(sides) else None,
    ), {label for index, lone in single.items() for label in objects[index].labels[lone].tolist()}


def _tell(facts: StackFacts, slices: Tensor, tally: Tally, seen: dict[bytes, tuple[str, str]]) -> None:
    """Count what is odd about a stack."""
    if not facts.with_lesion:
        tally.add("volumes without a lesion, kept", facts.name)
    if facts.depth == 1:
        tally.add("volumes of one slice, which have no neighbours, kept", facts.name)
    if slices.min() == slices.max():  # what shows nothing is alike without being a copy
        return
    digest = hashlib.blake2b(str(slices.shape).encode(), digest_size=16)
    digest.update(slices.numpy().data)
    split, twin = seen.setdefault(digest.digest(), (facts.split, facts.name))
    if split != facts.split:
        tally.add("volumes that another split has too, kept", f"{facts.name} is {twin} of {split}")


def _unseen(stacks: Stacks, shown: set[int]) -> list[Finding]:
    """Classes that train does not show."""
    missing = [name for label, name in enumerate(stacks.classes) if label not in shown]
    if len(missing) == len(stacks.classes):
        told = "".join(f"; {finding}" for finding in stacks.findings)
        raise DataError(f"{stacks.source} has no lesion to learn from in its train split{told}")
    what = "classes without a lesion, which cannot be learned"
    return [Finding("train", what, len(missing), missing[0])] if missing else []
