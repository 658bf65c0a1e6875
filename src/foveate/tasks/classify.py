"""The task `classify` for Lightning: the module with its loss, optimizer and metrics, and the module with the data."""

import logging
import math
import random
import warnings
from collections.abc import Iterable
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from foveate.data import Pictures, Split
from foveate.errors import TrainingError
from foveate.tasks.config import RunConfig
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.resume import Standing
from foveate.tasks.samples import EpochBatches, PictureSet, WholeBatches, draw_seed

__all__ = ["Classifier", "PictureModule", "class_weights", "learning_factor", "quiet_lightning"]

WARMUP_AT_MOST = 0.2  # of the whole run


def quiet_lightning() -> None:
    """Keep Lightning from talking about itself; what matters is told by Progress."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.ERROR)


def class_weights(split: Split, num_classes: int) -> Tensor:
    """The inverse frequency of each class, 1 where all are equally frequent."""
    counts = torch.bincount(
        torch.tensor([split.label(index) for index in range(len(split))]), minlength=num_classes
    ).float()
    return counts.sum() / (num_classes * counts)


def learning_factor(schedule: str, done: float, warmed: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        schedule: A run's `schedule`.
        done: How much of the run is done, 0 to 1.
        warmed: How much of the warm-up is done; beyond 1 it is over.
    """
    rise = min(1.0, max(warmed, done / WARMUP_AT_MOST))
    if schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if schedule == "step":
        return rise * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
    return rise


class Classifier(L.LightningModule):
    """A network in training.

    Args:
        network: From a normalised picture to logits.
        preprocess: Normalises.
        config: The run.
        new: Names of the modules that are the mechanism or the classifier: they learn with train_only="inserted", and
            at the full rate with a host_learning_rate.
        weights: Of the classes in the loss, or None.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands; it goes into checkpoints, and comes back from them.
    """

    weights: Tensor | None

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
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.preprocess, self.config, self.new = preprocess, config, new
        self.steps_per_epoch, self.standing = steps_per_epoch, standing
        self.register_buffer("weights", weights, persistent=False)
        self.val_loss = MeanMetric()
        self.val_accuracy = MulticlassAccuracy(num_classes=len(preprocess.classes), average="micro")
        if config.train_only == "inserted":
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(self._is_new(name))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A process of distributed training begins by unpickling this.
        quiet_lightning()
        warnings.simplefilter("ignore")
        super().__setstate__(state)

    def _is_new(self, name: str) -> bool:
        return name.startswith(tuple(f"{module}." for module in self.new))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.config
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                host_rate = config.host_learning_rate
                rate = config.learning_rate if host_rate is None or self._is_new(name) else host_rate
                decay = config.weight_decay if parameter.ndim > 1 else 0.0  # neither norms, nor biases, nor alpha
                groups.setdefault((rate, decay), []).append(parameter)
        params = [
            {"params": held, "lr": rate, "full_lr": rate, "weight_decay": decay}
            for (rate, decay), held in groups.items()
        ]
        if config.optimizer == "sgd":
            return torch.optim.SGD(params, lr=config.learning_rate, momentum=0.9)
        return torch.optim.AdamW(params, lr=config.learning_rate, fused=self.device.type in ("cpu", "cuda"))

    def on_fit_start(self) -> None:
        if self.standing.threads is not None:
            torch.set_num_threads(self.standing.threads)

    def on_train_epoch_start(self) -> None:
        if self.config.train_only == "inserted":
            self._freeze_statistics()

    def _freeze_statistics(self) -> None:
        """The host's batch normalisation keeps what it measured in its own training."""
        self.network.eval()
        for name in self.new:
            self.network.get_submodule(name).train()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # What dropout draws is a function of the step, so that a resumed run draws the same.
        seed = draw_seed(self.config.seed, self.standing.step, self.global_rank)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes milliseconds for devices that are not there
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        factor = learning_factor(
            self.config.schedule,
            self.standing.fraction(self.config, self.steps_per_epoch),
            (self.standing.step + 1) / max(1.0, self.config.warmup_epochs * self.steps_per_epoch),
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = factor * group["full_lr"]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.network(self.preprocess.normalise(images))
        loss = F.cross_entropy(logits.float(), labels, weight=self.weights, label_smoothing=self.config.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            place = f"epoch {self.standing.epoch + 1}, step {self.standing.step + 1}"
            raise TrainingError(f"the loss is {value} in {place}; a lower learning_rate or precision 32 may help")
        self.standing.loss_sum += value * len(labels)
        self.standing.loss_count += len(labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(self.preprocess.normalise(images)).float()
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.val_accuracy.update(logits, labels)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The place in the run is ours to keep: Lightning's loops start anew, with the batches that are still to come.
        del checkpoint["loops"]
        checkpoint["foveate"] = self.standing.to_dict()


class PictureModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        pictures: The data.
        preprocess: Brings the pictures to one size.
        config: The run.
        standing: Where it stands.
    """

    def __init__(self, pictures: Pictures, preprocess: Preprocess, config: RunConfig, standing: Standing) -> None:
        super().__init__()
        self.config, self.standing = config, standing
        self.train_set = PictureSet(pictures.splits["train"], preprocess, config.augment, config.seed)
        self.val_set = PictureSet(pictures.splits["val"], preprocess)

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
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
        )


def _as_fetched(batch: Any) -> Any:
    return batch
