"""One call of train that segments, from the files to the summary."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.data.checks import check_cases
from foveate.data.scans import read_case
from foveate.data.volumes import Volumes
from foveate.errors import RunError
from foveate.files import write_atomic
from foveate.networks.published import header, packed, read_file
from foveate.tasks import files
from foveate.tasks.environment import environment, pick_device
from foveate.tasks.fit import fit, steady
from foveate.tasks.resume import Checkpoint, Standing, take_up
from foveate.tasks.samples import EpochBatches
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.looks import gate_health, write_slices
from foveate.tasks.segment.memory import check_memory
from foveate.tasks.segment.metrics import summarise, write_scores
from foveate.tasks.segment.module import PatchModule, Segmenter, patches_per_epoch
from foveate.tasks.segment.network import build_network, new_modules
from foveate.tasks.segment.patches import CaseStore, Room
from foveate.tasks.segment.preparation import KEY, Preparation, Prepared, describe, prepare_for
from foveate.tasks.segment.scoring import open_begun, open_data, score_cases
from foveate.tasks.summary import Progress, Summary, latest

__all__ = ["SegmentJob"]

Report = Callable[[Progress], None]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Reads a case of a split and makes it ready, in any process."""

    preparation: Preparation
    volumes: Volumes
    split: str

    def __call__(self, index: int) -> Prepared:
        return self.preparation.prepare(read_case(self.volumes.splits[self.split][index], self.volumes))


class SegmentJob:
    """Check the cases, build, fit, score the test cases, sum up.

    Args:
        config: The run.
        out: Its folder, made ready.
        report: Takes Progress.
        command: How to repeat the run.
    """

    def __init__(self, config: SegmentConfig, out: Path, report: Report | None, command: str) -> None:
        self.config, self.out, self.report, self.command = config, out, report, command

    def run(self) -> Summary:
        begun = take_up(self.out)
        with steady(begun.standing.threads if begun else self.config.threads):
            self.volumes = open_begun(self.config, self.out / files.SPLITS) if begun else open_data(self.config)
            self.preparation = self._prepared(begun)
            self.network, self.sites = build_network(self.config, self.preparation)
            if begun is None or begun.standing.stopped_by is None:
                self._check_memory()
                fit(self._learner, self.config, self.out, begun, self.report)
                begun = take_up(self.out)
            if begun is None:
                raise RunError(f"{self.out} has no checkpoint after training; something removes its files")
            return self._finish(begun)

    def _prepared(self, begun: Checkpoint | None) -> Preparation:
        """What the run began with; a new one looks at all cases first."""
        path, train = self.out / files.PREPARATION, self.volumes.splits["train"]
        if begun is not None and path.exists():
            return Preparation.from_json(path.read_text(encoding="utf-8"))
        check_cases(self.volumes, lambda done, count: self._tell("check", done / count))
        found = prepare_for(self.config, self.volumes, lambda index: read_case(train[index], self.volumes), len(train))
        write_atomic(self.out / files.SPLITS, json.dumps(self.volumes.names(), indent=1) + "\n")
        write_atomic(path, found.to_json())
        self._tell("prepare", 0.0, notes=describe(found, self.volumes))
        return found

    def _check_memory(self) -> None:
        config, prepared = self.config, self.preparation
        size = config.batch_size // config.devices
        device, half = pick_device(config.device), config.precision != "32"
        check_memory(self.network, len(prepared.modalities), prepared.patch_size, size, device, half)

    def _learner(self, standing: Standing) -> tuple[Segmenter, PatchModule]:
        config = self.config
        room = Room(config.cache_mib)
        train, val = self._store("train", room), self._store("val", room)
        train.fill(lambda done: self._tell("prepare", done / len(train)))
        steps = EpochBatches.per_epoch(patches_per_epoch(config, len(train)), config.batch_size)
        heads = [name for name in ("heads", "final") if hasattr(self.network, name)]
        learning = [*new_modules(self.network), *heads]
        learner = Segmenter(self.network, self.preparation, config, learning, steps, standing, val)
        return learner, PatchModule(train, val, self.preparation, config, standing)

    def _store(self, split: str, room: Room) -> CaseStore:
        make = Maker(self.preparation, self.volumes, split)
        return CaseStore(len(self.volumes.splits[split]), make, room)

    def _finish(self, ended: Checkpoint) -> Summary:
        """From the trained weights to the scores of the test cases; the summary comes last."""
        best = self.out / files.BEST
        state = read_file(best)[0] if self.config.patience is not None and best.exists() else ended.network
        self.network.load_state_dict(state)
        metadata = {KEY: self.preparation.to_json()} | header(self.network)
        write_atomic(self.out / files.MODEL, packed(self.network.state_dict(), metadata))
        device = pick_device(self.config.device)
        cases = self.volumes.splits["test"]
        told = lambda done: self._tell("score", done / len(cases), ended)  # noqa: E731
        scores = score_cases(self.network, self.preparation, self.config, self.volumes, cases, device, told)
        write_scores(self.out / files.CASES, scores)
        write_slices(self.out / files.MAPS, self.network, self.preparation, self.config, self.volumes, device)
        metrics = summarise(scores) | {"val_dice": self._val_dice(ended.standing)}
        found, standing = environment(), ended.standing
        splits = self.volumes.splits
        steps = EpochBatches.per_epoch(patches_per_epoch(self.config, len(splits["train"])), self.config.batch_size)
        summary = Summary(
            task=self.config.task,
            arm=self.config.arm_name,
            mechanism=self.config.mechanism,
            network=self.config.network,
            seed=self.config.seed,
            start="published",
            metrics=metrics,
            sites=self.sites,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            epochs=round(standing.step / steps, 6),
            steps=standing.step,
            training_seconds=round(standing.elapsed_s, 3),
            stopped_by=standing.stopped_by or "epochs",
            resumed=standing.resumed,
            train_size=len(splits["train"]),
            val_size=len(splits["val"]),
            test_size=len(splits["test"]),
            gate_health=gate_health(self.network, self.preparation, self.volumes, device),
            pointing={},
            versions=found["versions"],
            machine=found["machine"] | {"threads": standing.threads, "device": str(device)},
            command=self.command,
        )
        write_atomic(self.out / files.SUMMARY, summary.to_json())
        self._tell("done", 1.0, ended)
        return summary

    def _val_dice(self, standing: Standing) -> float | None:
        """Of the weights that are kept."""
        if self.config.patience is not None and standing.best_loss is not None:
            return 1 - standing.best_loss
        return latest(standing.rows, "val_dice")

    def _tell(self, stage: str, fraction: float, ended: Checkpoint | None = None, notes: tuple[str, ...] = ()) -> None:
        if self.report is None:
            return
        rows: list[dict[str, Any]] = list(ended.standing.rows) if ended else []
        self.report(
            Progress(
                arm=self.config.arm_name,
                seed=self.config.seed,
                stage=stage,
                epoch=rows[-1]["epoch"] if rows else 0.0,
                epochs=self.config.epochs,
                fraction=fraction,
                seconds_left=0.0 if ended else None,
                val_dice=latest(rows, "val_dice"),
                notes=notes,
            )
        )
