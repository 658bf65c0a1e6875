"""Preparation: what a detector takes and gives; kept in one file with the weights."""

import dataclasses
import json
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.data.box_checks import BoxFacts
from foveate.data.boxes import Boxes
from foveate.data.findings import Finding
from foveate.networks import catalogue
from foveate.networks.published import inspect
from foveate.tasks.detect.augment import Size, normalised, resized
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.kinds import check_fields

__all__ = ["KEY", "Preparation", "describe", "prepare_for"]

KEY = "foveate.detect"  # under which it is kept in model.safetensors
FEWEST = 10  # queries of a run that chooses by the data
ENOUGH = 10_000  # pictures, below which its authors advise against training DETR from random weights


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a detector takes and gives.

    Args:
        classes: Their names.
        category_ids: What files call each class.
        stuff: Category ids that cannot be counted.
        short: The length that a picture's shorter side gets.
        longest: The limit of its longer side.
        num_queries: Objects at most.
        masks: Whether there are masks.
        bits: Bits of grey pictures of more than 8 bits: 2**bits - 1 becomes 255 when they are read.

    Raises:
        ValueError: If a number makes no sense, as in a file that was edited.
    """

    classes: list[str]
    category_ids: list[int]
    stuff: list[int]
    short: int
    longest: int
    num_queries: int
    masks: bool
    bits: int = 16

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.classes or len(self.category_ids) != len(self.classes):
            held = f"{self.classes} and {self.category_ids}"
            raise ValueError(f"a preparation needs classes and an id for each; got {held}")
        if not 1 <= self.short <= self.longest or self.num_queries < 1 or not 8 <= self.bits <= 16:
            held = f"{self.short}, {self.longest}, {self.num_queries} and {self.bits}"
            raise ValueError(f"short, longest, num_queries and bits make no sense: {held}")

    @property
    def size(self) -> Size:
        """What pictures are brought to."""
        return Size(self.short, self.longest)

    def prepare(self, image: Tensor) -> Tensor:
        """From a picture uint8 (3, height, width) to what the network takes."""
        return normalised(resized((image,), self.size)[0])

    def to_json(self) -> str:
        """The text that is kept in model.safetensors."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preparation":
        """Read what to_json wrote."""
        return cls(**json.loads(text))


def prepare_for(config: DetectConfig, boxes: Boxes) -> Preparation:
    """The preparation of a run: what its configuration asks for, else what its weights or its pictures suggest."""
    catalogue.describe(config.network, config.task)
    train = boxes.splits["train"]
    shorter = [min(train.size(index)) for index in range(len(train))]
    suited = 800 if config.trained else min(800, round(statistics.median(shorter)))
    short = config.short or min(suited, config.longest or suited)
    longest = config.longest or max(short, round(short * 1333 / 800))
    return Preparation(
        boxes.classes, boxes.category_ids, boxes.stuff, short, longest, _queries(config, boxes), config.masks
    )


def _queries(config: DetectConfig, boxes: Boxes) -> int:
    if config.num_queries is not None:
        return config.num_queries
    known = _queries_of_checkpoint(config.init)
    if known is not None:
        return known
    train = boxes.splits["train"]
    most = max(int((~train.objects(index).crowd).sum()) for index in range(len(train)))
    with torch.device("meta"):
        network = catalogue.build(config.network, **config.network_options)
    own = network.get_parameter("query_embed.weight").shape[0]
    return own if config.trained else min(own, max(FEWEST, 2 * most))


def _queries_of_checkpoint(init: str | None) -> int | None:
    architecture = None if init is None else inspect(init).architecture
    return None if architecture is None else architecture.setting("num_queries")


def describe(
    config: DetectConfig, preparation: Preparation, boxes: Boxes, facts: Sequence[BoxFacts], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """What was chosen and what is odd about the data, in lines to show before training begins."""
    objects = sum(facts[0].objects)
    size = f"shorter side {preparation.short}, longer side {preparation.longest} at most"
    lines = [
        f"train: {objects} objects of {len(boxes.classes)} classes, {facts[0].most} in the fullest picture, "
        f"{facts[0].empty} pictures without any",
        f"pictures are brought to {size}; {preparation.num_queries} queries",
    ]
    lines += [str(finding) for finding in findings]
    lines += _warnings(config, preparation, facts)
    return tuple(lines)


def _warnings(config: DetectConfig, preparation: Preparation, facts: Sequence[BoxFacts]) -> list[str]:
    told = []
    for held in facts:
        if held.most > preparation.num_queries:
            told.append(
                f"{held.split} has a picture with {held.most} objects, of which {preparation.num_queries} queries can "
                "find one each: give more with num_queries"
            )
    pictures = facts[0].pictures
    if not config.trained and pictures < ENOUGH:
        told.append(
            f"{pictures} pictures are few to train a DETR from random weights, for which its authors advise {ENOUGH:,} "
            "or more: --init with a checkpoint that was trained on COCO does with hundreds"
        )
    return told
