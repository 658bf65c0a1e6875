"""Train, evaluate, predict: a run is a folder, and these are the ways to make and use one."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from foveate.tasks.config import RunConfig
from foveate.tasks.summary import Progress, Summary

__all__ = ["attend", "evaluate", "load_run", "predict", "train"]


def train(
    config: RunConfig,
    out: Path,
    *,
    fresh: bool = False,
    progress: Callable[[Progress], None] | None = None,
    command: str | None = None,
) -> Summary:
    """Train a network and write its run folder; resume an unfinished one, return a finished one at once."""
    raise NotImplementedError


def evaluate(run: Path, data: str | None = None, split: str = "test", *, device: str = "auto") -> dict[str, float]:
    """The metrics of a finished run on some data; its own where none is given."""
    raise NotImplementedError


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto") -> Path:
    """Classify picture files and folders of them; write out/predictions.csv and return its path."""
    raise NotImplementedError


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto") -> list[Path]:
    """Draw what a finished run attends to in picture files: overlays as PNG below out; their paths."""
    raise NotImplementedError


def load_run(run: Path, *, device: str = "cpu") -> tuple[nn.Module, RunConfig]:
    """The trained network, in eval mode, and the configuration of a finished run."""
    raise NotImplementedError
