"""Keeper: the callback that watches a run, stops it, and keeps what a later process needs to go on with it."""

import io
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from foveate.errors import TrainingError
from foveate.escaping import TableWriter
from foveate.files import replace_file, write_atomic
from foveate.networks.published import packed
from foveate.rules import adopt
from foveate.tasks.config import TrainingConfig
from foveate.tasks.files import BEST, LAST, METRICS, PREVIOUS, TENSORBOARD
from foveate.tasks.learner import Learner, of_all
from foveate.tasks.summary import Progress, validated

__all__ = ["COLUMNS", "Keeper"]

COLUMNS = ("epoch", "step", "seconds", "learning_rate", "train_loss")  # and what the task measures
SAVE_EVERY_S = 30.0
SAVE_SHARE = 0.05  # of the time at most goes into checkpoints, but for those that are quickly written
QUICK_S = 0.5
REPORT_EVERY_S = 0.5


class Keeper(L.Callback):
    """Write metrics and checkpoints, report progress, and end the training.

    Args:
        out: The run folder.
        config: The run.
        report: Takes Progress about twice a second; None if nobody asks.
    """

    def __init__(self, out: Path, config: TrainingConfig, report: Callable[[Progress], None] | None) -> None:
        self.out, self.config, self.report = out, config, report
        self.writer: Any = None
        self.marked = self.saved = self.reported = self.began = 0.0
        self.began_at = 0.0
        self.save_after, self.rest = SAVE_EVERY_S, 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        adopt(self.config.read_rules)  # a process of its own for each device inherits none

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _learner(pl_module)
        module.standing.take_part(trainer.global_rank, trainer.world_size)
        self.began = self.saved = time.monotonic()
        self.began_at = self._fraction(module)
        if trainer.world_size > 1:
            # Where one process has failed, the others wait for it: they shall end when told to, not note it down. The
            # end of a parent is told by SIGINT, which a worker of a study ignores and its children inherit ignored.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            (self.out / LAST).parent.mkdir(exist_ok=True)
            self.writer = SummaryWriter(str(self.out / TENSORBOARD), purge_step=module.standing.step + 1)
            self._write_rows(module)
        self._tell(module, now=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.marked = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _learner(pl_module)
        standing = module.standing
        now = time.monotonic()
        standing.elapsed_s += now - self.marked
        self.marked = now
        standing.step += 1
        standing.batch += 1
        limit = self.config.max_time_s
        save = now - self.saved >= self.save_after and standing.batch < module.steps_per_epoch
        if trainer.world_size > 1:  # one clock for all processes
            standing.elapsed_s, save = trainer.strategy.broadcast((standing.elapsed_s, save))
        if limit is not None and standing.elapsed_s >= limit:
            standing.stopped_by = "max_time"
            trainer.should_stop = True
        elif save:
            self._save(trainer)
            self.marked = time.monotonic()
        self._tell(module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _learner(pl_module)
        standing = module.standing
        row = self._row(trainer, module)
        loss = row.get("val_loss")
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} after epoch {row['epoch']:g}, step {standing.step}; "
                "a lower learning_rate or precision 32 may help"
            )
        standing.rows.append(row)
        if standing.batch >= module.steps_per_epoch:
            standing.epoch, standing.batch = standing.epoch + 1, 0
        standing.loss_sum, standing.loss_count = 0.0, 0
        self._judge(trainer, module, row)
        if trainer.is_global_zero:
            module.epoch_ended(self.out)
            self._write_rows(module)
            for name, value in list(row.items())[3:]:
                if value is not None:
                    self.writer.add_scalar(name, value, standing.step)
            self.writer.flush()
        save = trainer.should_stop or time.monotonic() - self.saved >= self.rest
        if trainer.strategy.broadcast(save) if trainer.world_size > 1 else save:
            self._save(trainer)
        self._tell(module, now=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _row(self, trainer: L.Trainer, module: Learner) -> dict[str, float | None]:
        standing = module.standing
        loss_sum, loss_count = standing.loss_sum, standing.loss_count
        if trainer.world_size > 1:
            sums = torch.tensor([loss_sum, loss_count], dtype=torch.float64, device=module.device)
            loss_sum, loss_count = trainer.strategy.reduce(sums, reduce_op="sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]
        return {
            "epoch": round(standing.epoch + standing.batch / module.steps_per_epoch, 6),
            "step": standing.step,
            "seconds": round(standing.elapsed_s, 3),
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "train_loss": loss_sum / loss_count,
        } | module.measured()

    def _judge(self, trainer: L.Trainer, module: Learner, row: dict[str, float | None]) -> None:
        """Whether training is over after this epoch."""
        standing, config = module.standing, self.config
        found = module.objective(row)
        if config.patience is not None and found is not None:
            if standing.best_loss is None or found < standing.best_loss:
                standing.best_loss, standing.best_epoch = found, standing.epoch
                if trainer.is_global_zero:
                    write_atomic(self.out / BEST, packed(module.network.state_dict()))
            elif standing.stopped_by is None and standing.epoch - standing.best_epoch >= config.patience:
                standing.stopped_by = "early_stop"
        if standing.stopped_by is None and config.epochs is not None and standing.epoch >= config.epochs:
            standing.stopped_by = "epochs"
        trainer.should_stop = standing.stopped_by is not None

    def _save(self, trainer: L.Trainer) -> None:
        began = time.monotonic()
        path = self.out / LAST
        standing = _learner(trainer.lightning_module).standing
        if trainer.world_size > 1:  # each process has the loss of its own share
            standing.loss_parts = of_all([[standing.loss_sum, standing.loss_count]])
        if trainer.is_global_zero:
            replace_file(path, trainer.save_checkpoint, keep=self.out / PREVIOUS)
        else:
            trainer.save_checkpoint(path)  # the other processes take part in making it, and write nothing
        self.saved = time.monotonic()
        taken = self.saved - began
        self.rest = 0.0 if taken < QUICK_S else taken / SAVE_SHARE
        self.save_after = max(SAVE_EVERY_S, self.rest)

    def _write_rows(self, module: Learner) -> None:
        text = io.StringIO()
        writer = TableWriter(text)
        columns = (*COLUMNS, *module.measures)
        writer.writerow(columns)
        writer.writerows([row[name] for name in columns] for row in module.standing.rows)
        write_atomic(self.out / METRICS, text.getvalue())

    def _fraction(self, module: Learner) -> float:
        return module.standing.fraction(self.config, module.steps_per_epoch)

    def _tell(self, module: Learner, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self.report is None or module.global_rank or (moment - self.reported < REPORT_EVERY_S and not now):
            return
        self.reported = moment
        standing, fraction = module.standing, self._fraction(module)
        gained = fraction - self.began_at
        self.report(
            Progress(
                arm=self.config.arm_name,
                seed=self.config.seed,
                stage="train",
                epoch=standing.epoch + standing.batch / module.steps_per_epoch,
                epochs=self.config.epochs,
                fraction=fraction,
                seconds_left=(moment - self.began) * (1 - fraction) / gained if gained > 0 else None,
                validation=validated(standing.rows),
                notes=module.take_remarks(),
            )
        )

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _learner(module: L.LightningModule) -> Learner:
    if not isinstance(module, Learner):
        raise TypeError(f"Keeper watches a Learner; got {type(module).__name__}")
    return module
