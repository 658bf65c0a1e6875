"""One call of train that segments."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from foveate.data.checks import check_cases, doubts
from foveate.data.contents import Content, contents_of
from foveate.data.overview import of_volumes
from foveate.data.scans import read_case
from foveate.data.volumes import Volumes
from foveate.files import write_atomic
from foveate.tasks import files
from foveate.tasks.cases import CaseStore, Room
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import begun_with
from foveate.tasks.job import Job, Measured
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.samples import EpochBatches
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.looks import gate_health, write_slices
from foveate.tasks.segment.memory import check_memory
from foveate.tasks.segment.metrics import summarise, write_scores
from foveate.tasks.segment.module import PatchModule, Segmenter, patches_per_epoch
from foveate.tasks.segment.network import arrange, build_network, new_modules
from foveate.tasks.segment.preparation import KEY, Preparation, Prepared, describe, prepare_for
from foveate.tasks.segment.scoring import open_begun, open_data, score_cases
from foveate.tasks.summary import latest

__all__ = ["SegmentJob"]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Reads a case of a split and makes it ready, in any process."""

    preparation: Preparation
    volumes: Volumes
    split: str

    def __call__(self, index: int) -> Prepared:
        return self.preparation.prepare(read_case(self.volumes.splits[self.split][index], self.volumes))


class SegmentJob(Job):
    """Check the cases, build, fit, score the test cases."""

    config: SegmentConfig

    def open(self, begun: Checkpoint | None) -> None:
        self.volumes = open_begun(self.config, self.out / files.SPLITS) if begun else open_data(self.config)
        self.preparation = self._prepared(begun)
        self.network, self.sites = build_network(self.config, self.preparation)
        if self.config.channels_last:
            arrange(self.network)
        if begun is None or begun.standing.stopped_by is None:
            self._check_memory()

    def _prepared(self, begun: Checkpoint | None) -> Preparation:
        """What the run began with; a new one looks at all cases first."""
        path, train = self.out / files.PREPARATION, self.volumes.splits["train"]
        if begun is not None and path.exists():
            return begun_with(path, Preparation.from_json)
        facts = check_cases(self.volumes, lambda done, count: self.tell("check", done / count))
        found = prepare_for(self.config, self.volumes, lambda index: read_case(train[index], self.volumes), len(train))
        write_atomic(self.out / files.SPLITS, json.dumps(self.volumes.names(), indent=1) + "\n")
        write_atomic(path, found.to_json())
        self.tell_data(of_volumes(self.volumes, facts), *describe(found), *doubts(self.volumes, facts))
        return found

    def contents(self) -> Mapping[str, Iterable[Content]]:
        return {name: contents_of(cases) for name, cases in self.volumes.splits.items()}

    def _check_memory(self) -> None:
        config, prepared = self.config, self.preparation
        size = config.batch_size // config.devices
        device, half = pick_device(config.device), config.precision != "32"
        check_memory(self.network, len(prepared.modalities), prepared.patch_size, size, device, half)

    def learner(self, standing: Standing) -> tuple[Segmenter, PatchModule]:
        config = self.config
        room = Room(config.cache_mib)
        train, val = self._store("train", room), self._store("val", room)
        train.fill(lambda done: self.tell("prepare", done / len(train)))
        heads = [name for name in ("heads", "final") if hasattr(self.network, name)]
        learning = [*new_modules(self.network), *heads]
        learner = Segmenter(self.network, self.preparation, config, learning, self.steps_per_epoch, standing, val)
        return learner, PatchModule(train, val, self.preparation, config, standing)

    def _store(self, split: str, room: Room) -> CaseStore[Prepared]:
        make = Maker(self.preparation, self.volumes, split)
        return CaseStore(len(self.volumes.splits[split]), make, room)

    def measure(self, ended: Checkpoint) -> Measured:
        device = pick_device(self.config.device)
        cases = self.volumes.splits["test"]
        told = lambda done: self.tell("score", done / len(cases), ended)  # noqa: E731
        scores = score_cases(self.network, self.preparation, self.config, self.volumes, cases, device, told)
        write_scores(self.out / files.CASES, scores)
        write_slices(self.out / files.MAPS, self.network, self.preparation, self.config, self.volumes, device)
        metrics = summarise(scores) | {"val_dice": self._val_dice(ended.standing)}
        return Measured(metrics, gate_health(self.network, self.preparation, self.volumes, device))

    def _val_dice(self, standing: Standing) -> float | None:
        """Of the weights that are kept."""
        if self.config.patience is not None and standing.best_loss is not None:
            return 1 - standing.best_loss
        return latest(standing.rows, "val_dice")

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preparation.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(cases) for name, cases in self.volumes.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        return EpochBatches.per_epoch(patches_per_epoch(self.config, self.sizes["train"]), self.config.batch_size)
