"""What the training of every task shares: optimizer, learning rate, random numbers, and the place in the run."""

import abc
import logging
import math
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, distributed, nn

from foveate.errors import TrainingError
from foveate.tasks.config import TrainingConfig
from foveate.tasks.resume import Standing
from foveate.tasks.samples import draw_seed

__all__ = ["Learner", "learning_factor", "of_all", "quiet_lightning"]

WARMUP_AT_MOST = 0.2  # of the whole run


def quiet_lightning() -> None:
    """Keep Lightning from talking about itself; what matters is told by Progress."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.ERROR)


def learning_factor(schedule: str, done: float, warmed: float) -> float:
    """What the learning rate is multiplied by.

    Args:
        schedule: A run's `schedule`.
        done: How much of the run is done, 0 to 1.
        warmed: How much of the warm-up is done; beyond 1 it is over.
    """
    if schedule == "noam":
        return min(warmed, warmed**-0.5)
    rise = min(1.0, max(warmed, done / WARMUP_AT_MOST))
    if schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if schedule == "step":
        return rise * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
    if schedule == "drop":
        return rise * (1.0 if done < 2 / 3 else 0.1)
    return rise


def of_all(own: list[Any]) -> list[Any]:
    """Such a list of every process, one after the other; torchmetrics' own way needs them to be of one length."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return own
    lists: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(lists, own)
    return [each for part in lists for each in part]


class Learner(L.LightningModule, abc.ABC):
    """A network in training; a task says what its loss is and what it measures in validation.

    Args:
        network: What learns.
        config: The run.
        new: Names of the modules that are the mechanism or the head: they learn with train_only="inserted", and at the
            full rate with a host_learning_rate.
        steps_per_epoch: Batches in an epoch.
        standing: Where the run stands; it goes into checkpoints, and comes back from them.
        rates: Learning rates of the parameters whose names begin so, 0 for those that do not learn; what is new keeps
            the full rate.
    """

    measures: tuple[str, ...]  # what validation adds to the rows of metrics.csv

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        new: list[str],
        steps_per_epoch: int,
        standing: Standing,
        rates: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.network, self.config, self.new = network, config, new
        self.steps_per_epoch, self.standing, self.rates = steps_per_epoch, standing, dict(rates)
        self.remarks: dict[str, str | None] = {}
        for name, parameter in network.named_parameters():
            if self._rate(name) == 0:
                parameter.requires_grad_(False)

    @property
    def clip(self) -> float | None:
        """The norm that the gradients of a step are cut to; None for none."""
        return None

    def configure_gradient_clipping(self, optimizer: Any, *options: Any, **more: Any) -> None:
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")

    @abc.abstractmethod
    def loss_of(self, batch: Any) -> tuple[Tensor, int]:
        """The mean loss over a batch, and how many there are in it."""

    @abc.abstractmethod
    def measured(self) -> dict[str, float | None]:
        """What the last validation found, by `measures`, forgotten by this; None where there was none."""

    @abc.abstractmethod
    def objective(self, row: dict[str, float | None]) -> float | None:
        """What of a row decides which epoch is the best one: lower is better; None without a validation."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A process of distributed training begins by unpickling this.
        quiet_lightning()
        warnings.simplefilter("ignore")
        super().__setstate__(state)

    def epoch_ended(self, out: Path) -> None:
        """Keep in the run's folder what the task needs of this epoch beside the checkpoint; one process calls it."""

    def due(self, every: int) -> bool:
        """Whether this epoch has a validation, where only every few have one, and the last."""
        standing, config = self.standing, self.config
        epoch = standing.epoch + 1
        last = standing.stopped_by is not None or (config.epochs is not None and epoch >= config.epochs)
        return last or epoch % every == 0

    def remark(self, what: str, line: str) -> None:
        """Have a line shown to the user, once for each `what`."""
        self.remarks.setdefault(what, line)

    def take_remarks(self) -> tuple[str, ...]:
        """The lines that were not shown yet."""
        fresh = tuple(line for line in self.remarks.values() if line is not None)
        self.remarks = dict.fromkeys(self.remarks)
        return fresh

    def _rate(self, name: str) -> float:
        """The learning rate of a parameter."""
        config, host_rate = self.config, self.config.host_learning_rate
        if name.startswith(tuple(f"{module}." for module in self.new)):
            return config.learning_rate
        if config.train_only == "inserted":
            return 0.0
        usual = config.learning_rate if host_rate is None else host_rate
        return next((rate for prefix, rate in self.rates.items() if name.startswith(prefix)), usual)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.config
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                decay = config.weight_decay if parameter.ndim > 1 else 0.0  # neither norms, nor biases, nor alpha
                groups.setdefault((self._rate(name), decay), []).append(parameter)
        params = [
            {"params": held, "lr": rate, "full_lr": rate, "weight_decay": decay}
            for (rate, decay), held in groups.items()
        ]
        if config.optimizer == "sgd":
            return torch.optim.SGD(params, lr=config.learning_rate, momentum=0.9)
        # A fused step in mixed precision takes the scale off the gradients itself, after they would be clipped.
        clipped = self.clip is not None and config.precision != "32"
        fused = self.device.type in ("cpu", "cuda") and not clipped
        betas = config.betas[0], config.betas[1]
        return torch.optim.AdamW(params, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=fused)

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
            (self.standing.step + 1) / max(1.0, self.config.warmup(self.steps_per_epoch)),
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = factor * group["full_lr"]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, count = self.loss_of(batch)
        value = loss.item()
        if not math.isfinite(value):
            place = f"epoch {self.standing.epoch + 1}, step {self.standing.step + 1}"
            raise TrainingError(f"the loss is {value} in {place}; a lower learning_rate or precision 32 may help")
        self.standing.loss_sum += value * count
        self.standing.loss_count += count
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The place in the run is ours to keep: Lightning's loops start anew, with the batches that are still to come.
        del checkpoint["loops"]
        checkpoint["foveate"] = self.standing.to_dict()
