"""What a finished run holds: its summary, its weights, and what is kept with them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from torch import nn

from foveate.errors import CheckpointError, FoveateError, RunError
from foveate.files import irregular
from foveate.networks.published import read_file
from foveate.tasks import files
from foveate.tasks.summary import Summary, read_summary
from foveate.tasks.weights import not_finite

__all__ = ["begun_with", "fill", "finished", "kept", "rebuilding"]

Kept = TypeVar("Kept")
# What reading JSON that was edited by hand ends in.
ODD = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, LookupError)


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
    odd = irregular(path)
    if odd is not None:
        raise RunError(f"{path} must be a file of weights; it is {odd}")
    try:
        with safe_open(path, framework="pt") as held:
            return read((held.metadata() or {})[key])
    except (OSError, SafetensorError, *ODD) as error:
        raise RunError(f"{path} cannot be read as the weights of a run: {_reason(error)}") from None


def begun_with(path: Path, read: Callable[[str], Kept]) -> Kept:
    """Read what an unfinished run chose when it began, kept in a file of its folder; a RunError names a damaged one."""
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, *ODD) as error:
        raise RunError(
            f"{path} does not hold what the run began with: {_reason(error)}; start over with fresh"
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def rebuilding(run: Path) -> Iterator[None]:
    """Turn whatever building a network from an edited config.json raises into a RunError that names the file."""
    try:
        yield
    except FoveateError:
        raise
    except Exception as error:  # edited by hand, it may ask for anything
        path = Path(run) / files.CONFIG
        raise RunError(f"{path} does not describe the network of this run: {_reason(error)}") from None


def fill(network: nn.Module, run: Path) -> None:
    """Give a network the trained weights of a run."""
    path = Path(run) / files.MODEL
    try:
        state = read_file(path)[0]
        network.load_state_dict(state)
    except (CheckpointError, RuntimeError) as error:
        raise RunError(f"{path} does not hold the weights of this run: {_reason(error)}") from None
    name = not_finite(state)
    if name is not None:
        raise RunError(f"{path} must hold finite weights; {name} holds NaN or infinity")
