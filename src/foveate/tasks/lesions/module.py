"""The task `lesions` for Lightning: the module with its losses and validation, and the module with the slices."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from foveate.networks import MaskRCNN
from foveate.rules import in_workers
from foveate.tasks.cases import CaseStore
from foveate.tasks.learner import Learner, of_all
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.found import find
from foveate.tasks.lesions.froc import RATES, Froc
from foveate.tasks.lesions.preparation import Ready
from foveate.tasks.lesions.scoring import annotated_slices, count
from foveate.tasks.lesions.slices import SliceSet
from foveate.tasks.resume import Standing
from foveate.tasks.samples import EpochBatches, WholeBatches

__all__ = ["LesionLearner", "SliceModule"]

NO_VOLUME = -1

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class LesionLearner(Learner):
    """A network that learns to detect in slices.

    Validation measures val_sensitivity, the share of lesions that are found at half a false positive a slice.

    Args:
        network: From pictures or bags to losses in training, to boxes and masks else.
        config: The run.
        new: See Learner.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands.
        volumes: For validation.
    """

    config: LesionConfig
    network: MaskRCNN
    measures = ("val_sensitivity",)

    def __init__(
        self,
        network: MaskRCNN,
        config: LesionConfig,
        new: list[str],
        steps_per_epoch: int,
        standing: Standing,
        volumes: CaseStore[Ready],
    ) -> None:
        super().__init__(network, config, new, steps_per_epoch, standing)
        self.volumes = volumes
        self.froc = Froc()

    @property
    def clip(self) -> float | None:
        return self.config.clip

    def loss_of(self, batch: Batch) -> tuple[Tensor, int]:
        images, targets = batch
        losses = self.network(images, targets)
        return torch.stack([loss.float() for loss in losses.values()]).sum(), len(images)

    def _freeze_statistics(self) -> None:
        super()._freeze_statistics()
        # What gives losses and samples regions has no statistics, and does so in training alone.
        for module in (self.network, self.network.rpn, self.network.roi_heads):
            module.training = True

    def validation_step(self, batch: list[int], batch_idx: int) -> None:
        if not self.due(self.config.validate_every):
            return
        for number in batch:
            if number != NO_VOLUME:
                ready = self.volumes[number]
                for index, found in find(self.network, ready, annotated_slices(ready)):
                    count(self.froc, found, ready, index)

    def measured(self) -> dict[str, float | None]:
        # Every process takes part, also one without volumes: the others wait for it.
        if not self.due(self.config.validate_every):
            return dict.fromkeys(self.measures)
        froc, self.froc = self.froc, Froc()
        froc.best, froc.wrong = of_all(froc.best), of_all(froc.wrong)
        froc.slices = sum(of_all([froc.slices]))
        return {"val_sensitivity": froc.sensitivity(RATES[0])}

    def objective(self, row: dict[str, float | None]) -> float | None:
        return None if row["val_sensitivity"] is None else 1 - row["val_sensitivity"]


class SliceModule(L.LightningDataModule):
    """The batches of a run, from where it stands.

    Args:
        slices: What is learned from.
        volumes: How many there are to validate with; only their numbers go through the loader.
        config: The run.
        standing: Where it stands.
    """

    def __init__(self, slices: SliceSet, volumes: int, config: LesionConfig, standing: Standing) -> None:
        super().__init__()
        self.slices, self.volumes, self.config, self.standing = slices, volumes, config, standing

    def train_dataloader(self) -> DataLoader[Any]:
        standing, config = self.standing, self.config
        self.slices.epoch = standing.epoch
        batches = EpochBatches(
            len(self.slices),
            config.batch_size,
            config.seed,
            standing.epoch,
            standing.batch,
            *self._processes(),
            groups=self.slices.groups(),
        )
        options = {"num_workers": config.num_workers, "worker_init_fn": in_workers()}
        return DataLoader(self.slices, batch_sampler=batches, collate_fn=_apart, **options)

    def val_dataloader(self) -> DataLoader[Any]:
        # A process for which there is no volume gets NO_VOLUME: Lightning takes no empty loader.
        batches = list(WholeBatches(self.volumes, 1, *self._processes())) or [[self.volumes]]
        numbers = [*range(self.volumes), NO_VOLUME]
        return DataLoader(numbers, batch_sampler=batches, collate_fn=list)  # pyright: ignore[reportArgumentType]

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def _apart(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> Batch:
    """Pictures and targets as lists, for volumes differ in size."""
    return [image for image, _ in samples], [target for _, target in samples]
