"""One call of train that detects in slices of volumes."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data import SPLITS
from foveate.data.contents import Content, contents_of
from foveate.data.masks import check_extra
from foveate.data.overview import of_stacks
from foveate.data.stack_checks import StackFacts, check_stacks
from foveate.data.stacks import Stacks, StackSplit, open_stack_split, open_stacks
from foveate.errors import DataError, RunError
from foveate.files import write_atomic
from foveate.networks import MaskRCNN
from foveate.tasks import files
from foveate.tasks.cases import CaseStore, Room
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import begun_with
from foveate.tasks.job import Job, Measured
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.describe import describe
from foveate.tasks.lesions.froc import write_curve
from foveate.tasks.lesions.looks import look, write_maps
from foveate.tasks.lesions.module import LesionLearner, SliceModule
from foveate.tasks.lesions.network import build_network, learning_modules, mechanism_modules
from foveate.tasks.lesions.preparation import KEY, Preparation, Ready, prepare_for
from foveate.tasks.lesions.scoring import score_split, write_predictions
from foveate.tasks.lesions.slices import Place, SliceSet, grouped, per_epoch
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.samples import EpochBatches
from foveate.tasks.segment.metrics import write_scores
from foveate.tasks.summary import latest

__all__ = ["LesionJob", "open_data", "open_other"]

Facts = Mapping[str, Sequence[StackFacts]]


def open_data(config: LesionConfig) -> Stacks:
    """The data of a run."""
    return open_stacks(
        config.data,
        channel=config.channel,
        labels=config.labels,
        classes=config.classes,
        plane=config.plane,
        fold=config.fold,
        folds=config.folds,
        split_file=config.split_file,
    )


def open_other(config: LesionConfig, data: str, split: str, slices: Path) -> Stacks:
    """Open other data than a run's own to measure the run on.

    Args:
        config: The run.
        data: Where they are.
        split: Which split of them.
        slices: The file of the run that says what its volumes hold.
    """
    held = {name: [each.name for each in facts] for name, facts in read_facts(slices).items()}
    options: dict[str, Any] = {"channel": config.channel, "labels": config.labels}
    return open_stack_split(data, split, held, **options, classes=config.classes, plane=config.plane)


@dataclasses.dataclass(frozen=True)
class Maker:
    """Reads a volume of a split and makes it ready, in any process."""

    preparation: Preparation
    split: StackSplit

    def __call__(self, index: int) -> Ready:
        return self.preparation.prepare(self.split.stack(index))


class LesionJob(Job):
    """Look at every volume, build, fit, find everything in the test volumes."""

    config: LesionConfig
    network: MaskRCNN

    def open(self, begun: Checkpoint | None) -> None:
        check_extra()
        self.stacks = open_data(self.config)
        self.preparation, self.facts = self._prepared(begun)
        if self.config.patience is not None and not any(held.with_lesion for held in self.facts["val"]):
            raise DataError(f"patience needs a lesion to validate with; {self.stacks.source} has none in its val split")
        self.network, self.sites = build_network(self.config, self.preparation)

    def _prepared(self, begun: Checkpoint | None) -> tuple[Preparation, Facts]:
        """What the run began with; a new one looks at all volumes first."""
        path, slices = self.out / files.PREPARATION, self.out / files.SLICES
        if begun is not None and path.exists() and slices.exists():
            return begun_with(path, Preparation.from_json), read_facts(slices)
        found = prepare_for(self.config, self.stacks)
        seen, findings = check_stacks(self.stacks, lambda done, count: self.tell("check", done / count))
        facts = {name: [found.shown(each) for each in seen if each.split == name] for name in SPLITS}
        if not any(each.with_lesion for each in facts["train"]):
            shown = f"slices {self.config.slice_mm:g} mm apart show none of its train split; take a smaller slice_mm"
            raise DataError(f"{self.stacks.source} must have a lesion to learn from; {shown}")
        told = {name: [dataclasses.asdict(each) for each in held] for name, held in facts.items()}
        write_atomic(slices, json.dumps(told) + "\n")
        write_atomic(path, found.to_json())
        self.tell_data(of_stacks(self.stacks, facts), *describe(found, self.stacks, facts, findings))
        return found, facts

    def contents(self) -> Mapping[str, Iterable[Content]]:
        return {name: contents_of(split) for name, split in self.stacks.splits.items()}

    def learner(self, standing: Standing) -> tuple[LesionLearner, SliceModule]:
        config = self.config
        room, beside = Room(config.cache_mib - config.cache_mib // 4), Room(config.cache_mib // 4)
        groups = grouped([self.preparation.size_of(facts) for facts in self.facts["train"]], room.left)
        train, val = self._store("train", room), self._store("val", beside)
        train.fill(lambda done: self.tell("prepare", done / len(train)))
        learning = learning_modules(self.network, self.sites)
        learner = LesionLearner(self.network, config, learning, self.steps_per_epoch, standing, val)
        with_lesion, without = self._places()
        options: dict[str, Any] = {
            "empty": config.empty,
            "bag": self.network.bag,
            "augment": config.augment,
            "groups": groups,
        }
        slices = SliceSet(train, with_lesion, without, **options, seed=config.seed)
        return learner, SliceModule(slices, len(val), config, standing)

    def _store(self, split: str, room: Room) -> CaseStore[Ready]:
        held = self.stacks.splits[split]
        return CaseStore(len(held), Maker(self.preparation, held), room, turns=split == "train")

    def _places(self) -> tuple[list[Place], list[Place]]:
        """The training slices that hold a lesion, and those that hold none."""
        held = list(enumerate(self.facts["train"]))
        return (
            [(number, at) for number, facts in held for at in facts.with_lesion],
            [(number, at) for number, facts in held for at in facts.without],
        )

    def measure(self, ended: Checkpoint) -> Measured:
        config, preparation = self.config, self.preparation
        split, facts = self.stacks.splits["test"], self.facts["test"]
        network = self.network.to(pick_device(config.device)).eval()
        told = lambda done: self.tell("score", done / len(split), ended)  # noqa: E731
        scored = score_split(network, preparation, split, config.score, told)
        write_predictions(self.out / files.PREDICTIONS, scored.rows)
        write_curve(self.out / files.FROC, scored.froc.curve())
        if preparation.masks:
            write_scores(self.out / files.CASES, scored.cases)
        new = mechanism_modules(self.sites)
        write_maps(self.out / files.MAPS, network, new, preparation, split, facts, config.score)
        looked = look(network, new, preparation, split, facts)
        more = {"neighbours": looked.neighbours, "val_sensitivity": self._val(ended.standing)}
        return Measured(scored.metrics(preparation.classes) | more, looked.health, looked.pointing)

    def _val(self, standing: Standing) -> float | None:
        """Of the weights that are kept."""
        if self.config.patience is not None and standing.best_loss is not None:
            return 1 - standing.best_loss
        return latest(standing.rows, "val_sensitivity")

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preparation.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(split) for name, split in self.stacks.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        with_lesion, without = self._places()
        return EpochBatches.per_epoch(
            per_epoch(len(with_lesion), len(without), self.config.empty), self.config.batch_size
        )


def read_facts(path: Path) -> dict[str, list[StackFacts]]:
    """What a run found out about the volumes of each split.

    Raises:
        RunError: If the file is damaged.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {name: [StackFacts(**facts) for facts in split] for name, split in held.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}); start the run over with fresh") from None
