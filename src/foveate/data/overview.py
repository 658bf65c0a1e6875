"""An overview of what a reader read: one form for every kind of data, printed before training and kept with the run.

read photos: 12 train, 2 val, 2 test pictures of 2 classes (as the folders Training, Testing say; val taken from ...)
train: glioma 6, notumor 6 pictures
size 240 x 240 to 512 x 512; .jpg; RGB
photos/__MACOSX is none of the data, left out
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data.box_checks import BoxFacts
from foveate.data.boxes import Boxes
from foveate.data.checks import CaseFacts
from foveate.data.clips import Clips
from foveate.data.pictures import Pictures
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import Stacks
from foveate.data.text import Text
from foveate.data.volumes import Volumes

__all__ = ["Overview", "of_boxes", "of_samples", "of_stacks", "of_text", "of_volumes"]

MOST = 12  # classes of a split that are named in a line


@dataclasses.dataclass(frozen=True)
class Overview:
    """The outcome of reading data, in plain values.

    Args:
        source: Where the data come from.
        noun: What a sample is called, in the plural.
        samples: The number of samples of each split.
        rule: How the splits came about, in words.
        classes: Their names.
        unit: What is counted by class, in the plural: samples, objects or voxels.
        counts: By split and class.
        facts: Sizes, spacing, file formats and channels, in words.
        notes: Oddities, and what was left out, a sentence each.
    """

    source: str
    noun: str
    samples: dict[str, int]
    rule: str
    classes: list[str]
    unit: str = ""
    counts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    facts: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """Return the lines that are printed before training."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.samples.items())
        of = f" of {len(self.classes)} class{'es' * (len(self.classes) != 1)}" if self.classes else ""
        lines = [f"read {self.source}: {counts} {self.noun}{of} ({self.rule})"]
        lines += [f"{split}: {self._counted(held)}" for split, held in self.counts.items() if sum(held.values())]
        lines += ["; ".join(self.facts)] if self.facts else []
        return (*lines, *self.notes)

    def _counted(self, held: Mapping[str, int]) -> str:
        """Counts of each class, and of voxels fractions."""
        total = sum(held.values())
        named = [
            f"{name} {count / total:.2%}" if self.unit == "voxels" else f"{name} {count:,}"
            for name, count in held.items()
        ]
        more = f" and {len(named) - MOST} more classes" if len(named) > MOST else ""
        return f"{', '.join(named[:MOST])}{more}{f' of {total:,}' * (self.unit == 'voxels')} {self.unit}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def of_samples(samples: Pictures | Clips) -> Overview:
    """Describe pictures or clips with a class each."""
    noun = "pictures" if isinstance(samples, Pictures) else "videos"
    counts = {
        name: _by_class(samples.classes, Counter(split.label(index) for index in range(len(split))))
        for name, split in samples.splits.items()
    }
    files = [
        path for split in samples.splits.values() for path in getattr(split, "files", getattr(split, "places", ()))
    ]
    sizes = getattr(samples, "sizes", ()) or ((samples.size,) if samples.size else ())
    facts = [_range("size", sizes) if sizes else "sizes differ", *_formats(files)]
    facts.append("grey" if samples.channels == 1 else "RGB")
    return Overview(
        samples.source,
        noun,
        {name: len(split) for name, split in samples.splits.items()},
        samples.rule,
        list(samples.classes),
        noun,
        counts,
        facts,
        list(samples.notes),
    )


def of_volumes(volumes: Volumes, cases: Sequence[CaseFacts] = ()) -> Overview:
    """Describe scans or pictures with label maps; shapes, spacing and voxels of classes are those of `cases`."""
    counts = {
        split: _by_class(volumes.classes, _added(case.voxels for case in cases if case.split == split))
        for split in volumes.splits
    }
    if not cases and volumes.voxels:
        counts = {"all": dict(volumes.voxels)}
    files = [path for held in volumes.splits.values() for case in held for path in case.images]
    facts = [_range("size", [case.shape for case in cases])] if cases else []
    if cases and volumes.spatial_dims == 3:
        facts.append(_range("spacing", [case.spacing for case in cases]) + " mm")
    facts += [*_formats(files), f"channels {', '.join(volumes.modalities)}"]
    notes = list(volumes.notes)
    ignored = sum(case.ignored for case in cases)
    if ignored:
        total = ignored + sum(sum(case.voxels) for case in cases)
        values = ", ".join(map(str, volumes.ignored_values))
        notes.append(f"label {values} is ignored: {ignored / total:.2%} of all voxels are neither learned nor scored")
    if volumes.unused:
        notes.append(f"{len(volumes.unused)} cases are in no split, such as {volumes.unused[0].name}")
    return Overview(
        volumes.source,
        "cases",
        {split: len(held) for split, held in volumes.splits.items()},
        volumes.rule,
        list(volumes.classes),
        "voxels",
        counts,
        facts,
        notes,
    )


def of_boxes(boxes: Boxes, facts: Sequence[BoxFacts] = ()) -> Overview:
    """Describe pictures with objects; the objects of each class are those of `facts`."""
    counts = {held.split: dict(zip(boxes.classes, held.objects, strict=True)) for held in facts}
    splits = boxes.splits.values()
    files = [scene.file for split in splits for scene in getattr(split, "scenes", ())]
    sizes = [split.size(index) for split in splits for index in range(len(split))]
    return Overview(
        boxes.source,
        "pictures",
        {name: len(split) for name, split in boxes.splits.items()},
        boxes.rule,
        list(boxes.classes),
        "objects",
        counts,
        [_range("size", sizes), *_formats(files)],
    )


def of_stacks(stacks: Stacks, facts: Mapping[str, Sequence[StackFacts]] | None = None) -> Overview:
    """Describe volumes as slices with lesions; sizes, spacing and lesions are those of `facts`."""
    seen = [each for held in (facts or {}).values() for each in held]
    told = [stacks.modality]
    if seen:
        told = [
            _range("slices", [(each.depth,) for each in seen]),
            _range("size", [each.size for each in seen]),
            _range("spacing", [each.spacing for each in seen]) + " mm",
            *told,
        ]
    lesions = {split: {"lesions": sum(each.lesions for each in held)} for split, held in (facts or {}).items()}
    return Overview(
        stacks.source,
        "volumes",
        {name: len(split) for name, split in stacks.splits.items()},
        stacks.rule,
        list(stacks.classes),
        "in all",
        lesions,
        told,
    )


def of_text(text: Text) -> Overview:
    """Describe pairs of sentences."""
    samples = {split: len(pairs) for split, pairs in text.splits.items()}
    return Overview(text.root, f"pairs of {text.source} and {text.target}", samples, text.rule, [])


def _by_class(classes: Sequence[str], counts: Mapping[int, int]) -> dict[str, int]:
    return {name: counts.get(label, 0) for label, name in enumerate(classes)}


def _added(rows: Iterable[Sequence[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for row in rows:
        total.update(dict(enumerate(row)))
    return total


def _range(what: str, sizes: Iterable[Sequence[float]]) -> str:
    """One size, or the smallest and the largest along each axis."""
    held = sorted({tuple(size) for size in sizes})
    lengths = {len(size) for size in held}
    if len(lengths) != 1:
        return f"{what} unknown" if not held else f"{what} of {' and '.join(map(str, sorted(lengths)))} axes"
    low, high = ([pick(axis) for axis in zip(*held, strict=True)] for pick in (min, max))
    told = [" x ".join(f"{number:.6g}" for number in size) for size in (low, high)]
    return f"{what} {told[0]}" if low == high else f"{what} {told[0]} to {told[1]}"


def _formats(files: Iterable[Path]) -> list[str]:
    """Endings of the files, the most frequent first."""
    endings = Counter("".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix.lower() for path in files)
    return [", ".join(ending or "folders" for ending, _ in endings.most_common())] if endings else []
