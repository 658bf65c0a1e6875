"""Job: one call of train, from the first weights to the summary, whatever the task."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor, nn

from foveate.data.contents import Content
from foveate.data.overview import Overview
from foveate.errors import RunError
from foveate.files import write_atomic
from foveate.networks.published import header, packed, read_file
from foveate.tasks import files
from foveate.tasks.config import TrainingConfig
from foveate.tasks.effects import copy_parameters, count_unmoved, mark_dead, watch_effects
from foveate.tasks.environment import environment, pick_device
from foveate.tasks.fit import fit, steady
from foveate.tasks.learner import Learner
from foveate.tasks.record import check_split, make_record, read_record, write_record
from foveate.tasks.resume import Checkpoint, Standing, take_up
from foveate.tasks.summary import Progress, Summary, validated

__all__ = ["Job", "Measured", "Report"]

Report = Callable[[Progress], None]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a trained network was found to be worth on the test split.

    Args:
        metrics: By name.
        gate_health: Of each tap of the mechanism.
        pointing: How often maps point at the true place, where that is known.
    """

    metrics: dict[str, float | None]
    gate_health: dict[str, dict[str, Any]]
    pointing: dict[str, Any] = dataclasses.field(default_factory=dict)


class Job(abc.ABC):
    """Open the data, build, fit, measure, sum up; a task says how.

    Args:
        config: The run.
        out: Its folder, made ready.
        report: Takes Progress.
        command: How to repeat the run.
        accept: Resume although the data changed since the run began.
    """

    network: nn.Module
    sites: list[dict[str, Any]]
    overview: Overview | None = None
    """The overview of the data, which a new run has once they are open."""

    def __init__(
        self, config: TrainingConfig, out: Path, report: Report | None, command: str, *, accept: bool = False
    ) -> None:
        self.config, self.out, self.report, self.command, self.accept = config, out, report, command, accept

    @abc.abstractmethod
    def open(self, begun: Checkpoint | None) -> None:
        """Open the data and build `network` and `sites`; a new run looks at everything that could stop it later."""

    @abc.abstractmethod
    def learner(self, standing: Standing) -> tuple[Learner, L.LightningDataModule]:
        """What learns, and what it learns from, from where the run stands."""

    @abc.abstractmethod
    def measure(self, ended: Checkpoint) -> Measured:
        """Measure the trained network on the test split, and write the files that say more."""

    @abc.abstractmethod
    def contents(self) -> Mapping[str, Iterable[Content]]:
        """The samples of each split, with their files."""

    @property
    @abc.abstractmethod
    def metadata(self) -> dict[str, str]:
        """What is kept with the weights, by its key: what the network takes and gives."""

    @property
    @abc.abstractmethod
    def sizes(self) -> dict[str, int]:
        """How many samples "train", "val" and "test" have."""

    @property
    @abc.abstractmethod
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def start(self) -> str:
        """How the mechanism starts."""
        return "identity" if getattr(self.config, "identity", False) else "published"

    def trained(self, ended: Checkpoint) -> Mapping[str, Tensor]:
        """The weights that are kept: with patience the best ones, else the last."""
        best = self.out / files.BEST
        return read_file(best)[0] if self.config.patience is not None and best.exists() else ended.network

    def run(self) -> Summary:
        begun = take_up(self.out)
        with steady(begun.standing.threads if begun else self.config.threads):
            self.open(begun)
            self._keep_record(begun)
            self.first = copy_parameters(self.network, self.sites)
            if begun is None or begun.standing.stopped_by is None:
                fit(self.learner, self.config, self.out, begun, self.report)
                begun = take_up(self.out)
            if begun is None:
                raise RunError(f"{self.out} has no checkpoint after training; something removes its files")
            return self._finish(begun)

    def _keep_record(self, begun: Checkpoint | None) -> None:
        """Write what the run begins with, or hold a resumed one against it."""
        record = read_record(self.out) if begun else None
        if begun and record and not self.accept:
            for split, contents in self.contents().items():
                check_split(self.out, record, split, contents, accept=False)
            return
        read = self.overview.to_dict() if self.overview else record.read if record else {}
        write_record(self.out, make_record(self.config, read, self.contents()))

    def tell_data(self, overview: Overview, *chosen: str) -> None:
        """Report what was read, and what was chosen by it, before training."""
        self.overview = overview
        self.tell("prepare", 0.0, notes=(*overview.lines(), *chosen))

    def _finish(self, ended: Checkpoint) -> Summary:
        """From the trained weights to everything that is measured; the summary comes last."""
        config, standing = self.config, ended.standing
        self.network.load_state_dict(self.trained(ended))
        write_atomic(self.out / files.MODEL, packed(self.network.state_dict(), self.metadata | header(self.network)))
        with watch_effects(self.network, self.sites) as watched:
            found, measured = environment(), self.measure(ended)
        learned = count_unmoved(self.network, self.sites, self.first)
        effects = {name: effect.to_dict() | learned[name] for name, effect in watched.items()}
        mark_dead(measured.gate_health, effects)
        device = {"threads": standing.threads, "device": str(pick_device(config.device))}
        summary = Summary(
            task=config.task,
            arm=config.arm_name,
            mechanism=config.mechanism,
            network=config.network,
            seed=config.seed,
            start=self.start,
            metrics=measured.metrics,
            sites=[site | effects[site["name"]] for site in self.sites],
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            epochs=round(standing.step / self.steps_per_epoch, 6),
            steps=standing.step,
            training_seconds=round(standing.elapsed_s, 3),
            stopped_by=standing.stopped_by or "epochs",
            resumed=standing.resumed,
            train_size=self.sizes["train"],
            val_size=self.sizes["val"],
            test_size=self.sizes["test"],
            gate_health=measured.gate_health,
            pointing=measured.pointing,
            versions=found["versions"],
            machine=found["machine"] | device,
            command=self.command,
        )
        write_atomic(self.out / files.SUMMARY, summary.to_json())
        self.tell("done", 1.0, ended)
        return summary

    def tell(self, stage: str, fraction: float, ended: Checkpoint | None = None, notes: tuple[str, ...] = ()) -> None:
        """Report a stage before or behind the training, and how much of it is done."""
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
                validation=validated(rows),
                notes=notes,
            )
        )
