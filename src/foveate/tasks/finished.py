"""What a finished run holds: its summary, its weights, and what is kept with them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from foveate.errors import CheckpointError, RunError
from foveate.networks.published import read_file
from foveate.tasks import files
from foveate.tasks.summary import Summary, read_summary

__all__ = ["fill", "finished", "kept"]

Kept = TypeVar("Kept")


def finished(run: Path) -> Summary:
    """The summary of a run; one that is none, or is not finished, is a RunError."""
    summary = read_summary(Path(run))
    if summary is None:
        state = "is not finished" if (Path(run) / files.CONFIG).exists() else "is no run folder"
        raise RunError(f"this takes the folder of a finished run; {run} {state}")
    return summary


def kept(run: Path, key: str, read: Callable[[str], Kept]) -> Kept:
    """What a finished run's network takes and gives, read from the text that is kept under a key with its weights."""
    from safetensors import SafetensorError, safe_open

    finished(run)
    path = Path(run) / files.MODEL
    try:
        with safe_open(path, framework="pt") as held:
            return read((held.metadata() or {})[key])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read as the weights of a run: {error}") from None


def fill(network: nn.Module, run: Path) -> None:
    """Give a network the trained weights of a run."""
    path = Path(run) / files.MODEL
    try:
        network.load_state_dict(read_file(path)[0])
    except (CheckpointError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} does not hold the weights of this run: {reason}") from None
