"""One call of train that classifies pictures."""

import torch

from foveate.data import Pictures, open_pictures
from foveate.data.folders import FolderSplit
from foveate.tasks import attention, files, scoring
from foveate.tasks.classify import Classifier, PictureModule, class_weights
from foveate.tasks.config import RunConfig
from foveate.tasks.environment import pick_device
from foveate.tasks.hosts import build, new_modules
from foveate.tasks.job import Job, Measured
from foveate.tasks.preprocess import KEY, preprocess_for
from foveate.tasks.resume import Checkpoint, Standing
from foveate.tasks.samples import EpochBatches
from foveate.tasks.weights import features_of, head_of, heads_of

__all__ = ["ClassifyJob"]


class ClassifyJob(Job):
    """Build, fit, look at the test pictures."""

    config: RunConfig

    def open(self, begun: Checkpoint | None) -> None:
        self.pictures = open_pictures(self.config.data)
        self.network, shape, self.sites = build(self.config, pictures=self.pictures)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.new = new_modules(self.config, self.network, self.sites)
        self.preprocess = preprocess_for(self.config, self.pictures, self.network, shape)
        self.head = head_of(self.network, len(self.pictures.classes))
        if begun is None:
            _check_readable(self.pictures)

    def learner(self, standing: Standing) -> tuple[Classifier, PictureModule]:
        config, train = self.config, self.pictures.splits["train"]
        weights = class_weights(train, len(self.preprocess.classes)) if config.class_weights else None
        learning = [*self.new, *heads_of(self.network, len(self.preprocess.classes))]
        learner = Classifier(self.network, self.preprocess, config, learning, weights, self.steps_per_epoch, standing)
        return learner, PictureModule(self.pictures, self.preprocess, config, standing)

    def measure(self, ended: Checkpoint) -> Measured:
        self.tell("attend", 1.0, ended)
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
        rows, best = ended.standing.rows, ended.standing.best_loss
        validated = next((row["val_accuracy"] for row in rows if row["val_loss"] == best), rows[-1]["val_accuracy"])
        metrics = scoring.measure(logits, labels) | {"val_accuracy": validated}
        return Measured(metrics, attention.gate_health(seen), attention.pointing(seen))

    @property
    def metadata(self) -> dict[str, str]:
        return {KEY: self.preprocess.to_json()}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(split) for name, split in self.pictures.splits.items()}

    @property
    def steps_per_epoch(self) -> int:
        return EpochBatches.per_epoch(self.sizes["train"], self.config.batch_size)


def _check_readable(pictures: Pictures) -> None:
    """Decode what is not read before the end of an epoch: no hours of training shall end at a damaged file."""
    for name in ("val", "test"):
        split = pictures.splits[name]
        if isinstance(split, FolderSplit):
            for index in range(len(split)):
                split.image(index)
