"""What a run chose from its data, and what is odd about them, in lines to show before training begins."""

import statistics
from collections.abc import Mapping, Sequence

from foveate.data.findings import Finding
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import Stacks
from foveate.tasks.lesions.preparation import Preparation

__all__ = ["describe"]


def describe(
    preparation: Preparation, stacks: Stacks, facts: Mapping[str, Sequence[StackFacts]], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """The lines."""
    train = facts["train"]
    lesions, slices = sum(held.lesions for held in train), sum(len(held.with_lesion) for held in train)
    bare = sum(len(held.without) for held in train)
    what = "boxes and masks" if preparation.masks else "boxes; there are no masks to learn"
    lines = [
        f"train: {lesions} lesions of {len(stacks.classes)} classes in {slices} slices, {bare} slices without; {what}",
        f"{preparation.modality}: {_values(preparation)}",
        f"slices: {_spacing(preparation, train)}",
    ]
    return (*lines, *(str(finding) for finding in findings))


def _values(preparation: Preparation) -> str:
    rule = preparation.intensity
    return str(rule) if rule.rule == "window" else f"{rule}, of which -3 to 3 becomes 0 to 1"


def _spacing(preparation: Preparation, train: Sequence[StackFacts]) -> str:
    """How far apart slices and the pictures of a bag are."""
    between, pixel = (statistics.median(held.spacing[axis] for held in train) for axis in (0, 1))
    own = f"{preparation.plane}, {preparation.slice_mm or between:g} mm apart"
    own += f", pixels of {preparation.pixel_mm or pixel:g} mm"
    if preparation.bag_mm is None:
        return f"{own}; a bag takes every {preparation.bag_stride}. slice" if preparation.bag_stride > 1 else own
    return f"{own}; the pictures of a bag are {preparation.bag_mm:g} mm apart, in whole slices"
