"""Where a run stands, and taking it up again from its checkpoints."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch

from foveate.errors import RunError
from foveate.tasks.config import TrainingConfig
from foveate.tasks.files import LAST, PREVIOUS

__all__ = ["Checkpoint", "Standing", "read_checkpoint", "take_up"]


@dataclasses.dataclass
class Standing:
    """How far a run is, to the batch; together with weights and optimizer all that its future depends on.

    Args:
        step: Steps of the optimizer.
        epoch: Whole epochs.
        batch: Batches of the next one.
        elapsed_s: Seconds of training, of all processes that worked on it one after the other.
        loss_sum: Sum of the loss over the pictures or patches of this epoch.
        loss_count: Their number.
        loss_parts: The two of each process where several train, in a checkpoint; empty otherwise.
        rows: What metrics.csv holds.
        best_loss: The lowest validation loss, or what else the task calls best, lower being better.
        best_epoch: The epoch after which it was.
        resumed: How often the run was taken up.
        stopped_by: "epochs", "max_time" or "early_stop" when training is over.
        threads: Threads of the arithmetic, for they decide the last bits.
        memory: What the task remembers from one validation to the next: plain values.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    loss_parts: list[list[float]] = dataclasses.field(default_factory=list)
    rows: list[dict[str, float | None]] = dataclasses.field(default_factory=list)
    best_loss: float | None = None
    best_epoch: int = 0
    resumed: int = 0
    stopped_by: str | None = None
    threads: int | None = None
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    def take_part(self, rank: int, world: int) -> None:
        """Take this process's own share of the loss from a checkpoint that several processes made.

        If they were not as many as now, the first process takes all of it.
        """
        parts, self.loss_parts = self.loss_parts, []
        if len(parts) == world:
            self.loss_sum, self.loss_count = parts[rank][0], int(parts[rank][1])
        elif parts or world > 1:
            parts = parts or [[self.loss_sum, self.loss_count]]
            whole = sum(part[0] for part in parts), int(sum(part[1] for part in parts))
            self.loss_sum, self.loss_count = whole if rank == 0 else (0.0, 0)

    def fraction(self, config: TrainingConfig, steps_per_epoch: int) -> float:
        """How much of the training is done, 0 to 1, by epochs or by time, whichever ends it first."""
        steps = self.step / (config.epochs * steps_per_epoch) if config.epochs is not None else 0.0
        seconds = self.elapsed_s / config.max_time_s if config.max_time_s is not None else 0.0
        return min(1.0, max(steps, seconds))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that could be read: its file, where the run stood, and the state of the network."""

    path: Path
    standing: Standing
    network: dict[str, torch.Tensor]


def take_up(out: Path) -> Checkpoint | None:
    """The last checkpoint of a run, or the one before it if the last is damaged; None if there is none.

    Raises:
        RunError: There are checkpoints, and none can be read.
    """
    troubles = []
    for name in (LAST, PREVIOUS):
        path = out / name
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except RunError as error:
            troubles.append(error)
            continue
        if troubles:
            warnings.warn(f"{troubles[0]}; the run goes on from {path}", stacklevel=2)
        return checkpoint
    if troubles:
        raise RunError(f"{troubles[0]}, and there is no older one; start over with fresh")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing anything that it may hold."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        standing = Standing(**held["foveate"])
        prefix = "network."
        network = {
            key.removeprefix(prefix): value for key, value in held["state_dict"].items() if key.startswith(prefix)
        }
    except Exception as error:  # a damaged file fails in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(f"{path} is damaged and cannot be resumed from ({reason})") from None
    return Checkpoint(path, standing, network)
