"""The task `segment` for Lightning: the module with its loss and validation, and the module with the patches."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from foveate.data.labels import IGNORED
from foveate.rules import in_workers
from foveate.tasks.cases import CaseStore
from foveate.tasks.learner import Learner
from foveate.tasks.resume import Standing
from foveate.tasks.samples import EpochBatches, WholeBatches
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import predict_case
from foveate.tasks.segment.losses import LOSSES, deeply_supervised
from foveate.tasks.segment.patches import PatchSet, augmentation
from foveate.tasks.segment.preparation import Preparation, Prepared

__all__ = ["PatchModule", "Segmenter", "patches_per_epoch"]

FEWEST = 100  # patches in an epoch, if nothing else is asked for
NO_CASE = -1


def patches_per_epoch(config: SegmentConfig, cases: int) -> int:
    """Patches in an epoch."""
    return config.patches_per_epoch or max(cases, FEWEST)


class Segmenter(Learner):
    """A network that learns to segment.

    Args:
        network: From patches to logits, or in training to a list of them, finest first.
        preparation: What it takes.
        config: The run.
        new: See Learner.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands.
        cases: For validation.
    """

    measures = ("val_dice",)

    def __init__(
        self,
        network: nn.Module,
        preparation: Preparation,
        config: SegmentConfig,
        new: list[str],
        steps_per_epoch: int,
        standing: Standing,
        cases: CaseStore[Prepared],
    ) -> None:
        super().__init__(network, config, new, steps_per_epoch, standing)
        self.preparation, self.cases, self.segment = preparation, cases, config
        self.val_dice = MeanMetric(nan_strategy="ignore")

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        options: dict[str, Any] = {"batch": self.segment.batch_dice} if self.segment.loss == "dice_ce" else {}
        options |= {"ignored": IGNORED} if self.preparation.ignored else {}

        def loss(logits: Tensor, label: Tensor) -> Tensor:
            return LOSSES[self.segment.loss](logits, label, **options)

        return deeply_supervised(loss, self.network(images), labels), len(labels)

    def validation_step(self, batch: list[int], batch_idx: int) -> None:
        if not self.due(self.segment.validate_every):
            return
        for index in batch:
            if index == NO_CASE:
                continue
            case = self.cases[index]
            assert case.label is not None
            found = predict_case(
                self.network,
                case.image,
                case.grid,
                self.preparation.patch_size,
                overlap=self.segment.overlap,
                device=self.device,
            )
            self.val_dice.update(mean_dice(found.probabilities.argmax(dim=0), case.label, len(found.probabilities)))

    def measured(self) -> dict[str, float | None]:
        # Every process takes part, also one without cases: the others wait for it.
        found = self.val_dice.compute().item() if self.due(self.segment.validate_every) else math.nan
        self.val_dice.reset()
        return {"val_dice": None if math.isnan(found) else found}

    def objective(self, row: dict[str, float | None]) -> float | None:
        return None if row["val_dice"] is None else 1 - row["val_dice"]


def mean_dice(predicted: Tensor, truth: Tensor, num_classes: int) -> float:
    """The mean over the classes but the background; not a number where none is there or predicted."""
    scores, counted = [], truth != IGNORED
    for index in range(1, num_classes):
        found, there = (predicted == index) & (counted | (num_classes > IGNORED)), truth == index
        total = int(found.sum()) + int(there.sum())
        if total:
            scores.append(2 * int((found & there).sum()) / total)
    return sum(scores) / len(scores) if scores else float("nan")


class PatchModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        train: The cases to learn from.
        val: The cases to validate with; only their numbers go through the loader.
        preparation: What the network takes.
        config: The run.
        standing: Where it stands.
    """

    def __init__(
        self,
        train: CaseStore[Prepared],
        val: CaseStore[Prepared],
        preparation: Preparation,
        config: SegmentConfig,
        standing: Standing,
    ) -> None:
        super().__init__()
        self.config, self.standing, self.val = config, standing, val
        change = augmentation(config.augment, preparation.spatial_dims, config.flip_axes)
        count = patches_per_epoch(config, len(train))
        self.patches = PatchSet(train, preparation.patch_size, count, config.foreground, change, config.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        standing, config = self.standing, self.config
        self.patches.epoch = standing.epoch
        batches = EpochBatches(
            len(self.patches), config.batch_size, config.seed, standing.epoch, standing.batch, *self._processes()
        )
        return DataLoader(
            self.patches,
            batch_sampler=batches,
            num_workers=config.num_workers,
            worker_init_fn=in_workers(),
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        # A process for which there is no case gets NO_CASE: Lightning takes no empty loader.
        batches = list(WholeBatches(len(self.val), 1, *self._processes())) or [[len(self.val)]]
        numbers = [*range(len(self.val)), NO_CASE]
        return DataLoader(numbers, batch_sampler=batches, collate_fn=_as_fetched)  # pyright: ignore[reportArgumentType]

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def _as_fetched(batch: Any) -> Any:
    return batch
