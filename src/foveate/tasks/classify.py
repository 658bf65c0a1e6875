"""The task `classify` for Lightning: the module with its loss, optimizer and metrics, and the module with the data."""

from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from foveate.data import Clips, ClipSplit, Pictures, Split
from foveate.rules import in_workers
from foveate.tasks.answers import logits_of, loss_of
from foveate.tasks.clips import ClipSet, sample_set
from foveate.tasks.config import RunConfig
from foveate.tasks.learner import Learner
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.resume import Standing
from foveate.tasks.samples import EpochBatches, PictureSet, WholeBatches

__all__ = ["Classifier", "SampleModule", "class_weights"]


def class_weights(split: Split | ClipSplit, num_classes: int) -> Tensor:
    """The inverse frequency of each class, 1 where all are equally frequent."""
    counts = torch.bincount(
        torch.tensor([split.label(index) for index in range(len(split))]), minlength=num_classes
    ).float()
    return counts.sum() / (num_classes * counts)


class Classifier(Learner):
    """A network that learns to classify.

    Args:
        network: From a normalised picture or clip to logits.
        preprocess: Normalises.
        config: The run.
        new: See Learner.
        weights: Of the classes in the loss, or None.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands.
    """

    weights: Tensor | None
    measures = ("val_loss", "val_accuracy")

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        config: RunConfig,
        new: list[str],
        weights: Tensor | None,
        steps_per_epoch: int,
        standing: Standing,
    ) -> None:
        super().__init__(network, config, new, steps_per_epoch, standing)
        self.preprocess, self.label_smoothing = preprocess, config.label_smoothing
        self.register_buffer("weights", weights, persistent=False)
        self.val_loss = MeanMetric()
        self.val_accuracy = MulticlassAccuracy(num_classes=len(preprocess.classes), average="micro")

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        answers = self.network(self.preprocess.normalise(images))
        options = {"weight": self.weights, "label_smoothing": self.label_smoothing}
        return loss_of(self.network, answers, labels, **options), len(labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = logits_of(self.network, self.network(self.preprocess.normalise(images)))
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.val_accuracy.update(logits, labels)

    def measured(self) -> dict[str, float | None]:
        found = {"val_loss": self.val_loss.compute().item(), "val_accuracy": self.val_accuracy.compute().item()}
        self.val_loss.reset()
        self.val_accuracy.reset()
        return dict(found)

    def objective(self, row: dict[str, float | None]) -> float | None:
        return row["val_loss"]


class SampleModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        samples: The pictures or clips.
        preprocess: Brings them to one size.
        config: The run.
        standing: Where it stands.
    """

    def __init__(
        self, samples: Pictures | Clips, preprocess: Preprocess, config: RunConfig, standing: Standing
    ) -> None:
        super().__init__()
        self.config, self.standing = config, standing
        given = samples.splits["train"], preprocess, config.augment, config.seed
        self.train_set = ClipSet(*given, training=True) if preprocess.frames else PictureSet(*given)
        self.val_set = sample_set(samples.splits["val"], preprocess)

    def train_dataloader(self) -> DataLoader[Any]:
        standing, config = self.standing, self.config
        self.train_set.epoch = standing.epoch
        batches = EpochBatches(
            len(self.train_set),
            config.batch_size,
            config.seed,
            standing.epoch,
            standing.batch,
            *self._processes(),
        )
        return self._loader(self.train_set, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        batch_size = max(1, 2 * self.config.batch_size // self.config.devices)
        return self._loader(self.val_set, WholeBatches(len(self.val_set), batch_size, *self._processes()))

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def _loader(self, pictures: PictureSet, batches: Iterable[list[int]]) -> DataLoader[Any]:
        return DataLoader(
            pictures,
            batch_sampler=batches,  # pyright: ignore[reportArgumentType]
            num_workers=self.config.num_workers,
            worker_init_fn=in_workers(),
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
        )


def _as_fetched(batch: Any) -> Any:
    return batch
