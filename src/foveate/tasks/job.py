"""One call of train, from the first weights to the summary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.data import Pictures, open_pictures
from foveate.data.folders import FolderSplit
from foveate.errors import RunError
from foveate.files import write_atomic
from foveate.networks.published import header, packed, read_file
from foveate.tasks import attention, files, scoring
from foveate.tasks.classify import Classifier, PictureModule, class_weights
from foveate.tasks.config import RunConfig
from foveate.tasks.environment import environment, pick_device
from foveate.tasks.fit import fit, steady
from foveate.tasks.hosts import build, new_modules
from foveate.tasks.preprocess import KEY, preprocess_for
from foveate.tasks.resume import Checkpoint, Standing, take_up
from foveate.tasks.samples import EpochBatches
from foveate.tasks.summary import Progress, Summary
from foveate.tasks.weights import features_of, head_of, heads_of

__all__ = ["Job"]

Report = Callable[[Progress], None]


class Job:
    """Build, fit, look at the test pictures, sum up.

    Args:
        config: The run.
        out: Its folder, made ready.
        report: Takes Progress.
        command: How to repeat the run.
    """

    def __init__(self, config: RunConfig, out: Path, report: Report | None, command: str) -> None:
        self.config, self.out, self.report, self.command = config, out, report, command

    def run(self) -> Summary:
        begun = take_up(self.out)
        with steady(begun.standing.threads if begun else self.config.threads):
            self.pictures = open_pictures(self.config.data)
            self.network, shape, self.sites = build(self.config, pictures=self.pictures)
            self.new = new_modules(self.config, self.network, self.sites)
            self.preprocess = preprocess_for(self.config, self.pictures, self.network, shape)
            self.head = head_of(self.network, len(self.pictures.classes))
            if begun is None:
                _check_readable(self.pictures)
            if begun is None or begun.standing.stopped_by is None:
                fit(self._learner, self.config, self.out, begun, self.report)
                begun = take_up(self.out)
            if begun is None:
                raise RunError(f"{self.out} has no checkpoint after training; something removes its files")
            return self._finish(begun)

    def _learner(self, standing: Standing) -> tuple[Classifier, PictureModule]:
        config, train = self.config, self.pictures.splits["train"]
        weights = class_weights(train, len(self.preprocess.classes)) if config.class_weights else None
        steps = EpochBatches.per_epoch(len(train), config.batch_size)
        learning = [*self.new, *heads_of(self.network, len(self.preprocess.classes))]
        learner = Classifier(self.network, self.preprocess, config, learning, weights, steps, standing)
        return learner, PictureModule(self.pictures, self.preprocess, config, standing)

    def _finish(self, ended: Checkpoint) -> Summary:
        """From the trained weights to everything that is measured on the test pictures; the summary comes last."""
        self._tell("attend", ended)
        best = self.out / files.BEST
        state = read_file(best)[0] if self.config.patience is not None and best.exists() else ended.network
        self.network.load_state_dict(state)
        metadata = {KEY: self.preprocess.to_json()} | header(self.network)
        write_atomic(self.out / files.MODEL, packed(self.network.state_dict(), metadata))
        metrics, gate_health, pointing = self._measure()
        standing = ended.standing
        metrics["val_accuracy"] = next(
            (row["val_accuracy"] for row in standing.rows if row["val_loss"] == standing.best_loss),
            standing.rows[-1]["val_accuracy"],
        )
        found = environment()
        device = {"threads": standing.threads, "device": str(pick_device(self.config.device))}
        steps_per_epoch = EpochBatches.per_epoch(len(self.pictures.splits["train"]), self.config.batch_size)
        summary = Summary(
            task=self.config.task,
            arm=self.config.arm_name,
            mechanism=self.config.mechanism,
            network=self.config.network,
            seed=self.config.seed,
            start="identity" if self.config.identity else "published",
            metrics=metrics,
            sites=self.sites,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            epochs=round(standing.step / steps_per_epoch, 6),
            steps=standing.step,
            training_seconds=round(standing.elapsed_s, 3),
            stopped_by=standing.stopped_by or "epochs",
            resumed=standing.resumed,
            train_size=len(self.pictures.splits["train"]),
            val_size=len(self.pictures.splits["val"]),
            test_size=len(self.pictures.splits["test"]),
            gate_health=gate_health,
            pointing=pointing,
            versions=found["versions"],
            machine=found["machine"] | device,
            command=self.command,
        )
        write_atomic(self.out / files.SUMMARY, summary.to_json())
        self._tell("done", ended)
        return summary

    def _measure(self) -> tuple[dict[str, float | None], dict[str, dict[str, Any]], dict[str, Any]]:
        split, classes = self.pictures.splits["test"], self.pictures.classes
        device = pick_device(self.config.device)
        self.network.to(device)
        labels = scoring.labels_of(split)
        logits = scoring.classify(self.network, self.preprocess, split, device)
        names = [split.name(index) for index in range(len(split))]
        scoring.write_predictions(self.out / files.PREDICTIONS, names, logits, classes, labels)
        samples = attention.pick_samples(labels.tolist(), len(classes))
        indices = attention.spread_out(len(split), samples)
        features = features_of(self.network, self.head)
        seen = attention.look(self.network, self.new, self.preprocess, split, indices, features, device)
        attention.write_maps(self.out / files.MAPS, seen, split, classes, len(samples))
        return scoring.measure(logits, labels), attention.gate_health(seen), attention.pointing(seen)

    def _tell(self, stage: str, ended: Checkpoint) -> None:
        if self.report is not None:
            standing = ended.standing
            last = standing.rows[-1]
            self.report(
                Progress(
                    arm=self.config.arm_name,
                    seed=self.config.seed,
                    stage=stage,
                    epoch=last["epoch"] or 0.0,
                    epochs=self.config.epochs,
                    fraction=1.0,
                    seconds_left=0.0,
                    val_accuracy=last["val_accuracy"],
                )
            )


def _check_readable(pictures: Pictures) -> None:
    """Decode what is not read before the end of an epoch: no hours of training shall end at a damaged file."""
    for name in ("val", "test"):
        split = pictures.splits[name]
        if isinstance(split, FolderSplit):
            for index in range(len(split)):
                split.image(index)
