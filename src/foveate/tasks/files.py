"""The run folder: its names, and deciding whether a folder can take a run."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foveate.errors import FoveateError, RunError
from foveate.files import write_atomic
from foveate.locking import LOCK, locked
from foveate.tasks.config import TrainingConfig, read_config

__all__ = ["CONFIG", "LAST", "METRICS", "MODEL", "PREVIOUS", "RECORD", "alone", "prepare", "world_errors"]

CONFIG = "config.json"
METRICS = "metrics.csv"
PREDICTIONS = "predictions.csv"
CASES = "cases.csv"
PREPARATION = "preparation.json"
BLEU = "bleu.json"
SPLITS = "splits.json"
SLICES = "slices.json"
FROC = "froc.csv"
RECORD = "data.json"
MODEL = "model.safetensors"
SUMMARY = "summary.json"
MAPS = "maps"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
LAST = f"{CHECKPOINTS}/last.ckpt"
PREVIOUS = f"{CHECKPOINTS}/previous.ckpt"
BEST = f"{CHECKPOINTS}/best.safetensors"

OWN = (CONFIG, METRICS, PREDICTIONS, CASES, BLEU, PREPARATION, RECORD, SPLITS, SLICES, FROC, MODEL, SUMMARY, MAPS)
OWN += (CHECKPOINTS, TENSORBOARD)
ORPHANS_S = 8.0  # for the processes that read data to notice that the run which they read for was killed
MAY_CHANGE = ("num_workers",)  # does not change the numbers


@contextmanager
def world_errors(out: Path) -> Iterator[None]:
    """Tell a folder that cannot be written, or a full disk, in a sentence."""
    try:
        yield
    except FoveateError:
        raise
    except OSError as error:
        raise RunError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error


@contextmanager
def alone(out: Path, config: TrainingConfig, *, fresh: bool) -> Iterator[None]:
    """Keep other processes out of a run folder meanwhile; a finished run that is only read needs no lock.

    Raises:
        RunError: Another process is at work in the folder, or something else than a run is in it.
    """
    if (out / SUMMARY).exists() and not fresh:
        yield
        return
    if not (out / CONFIG).exists():
        _check_empty(out)
    with locked(out / LOCK, wait_s=ORPHANS_S if config.num_workers else 0.0):
        yield


def prepare(out: Path, config: TrainingConfig, *, fresh: bool) -> None:
    """Make the folder ready for a run: new, or begun by the same configuration.

    A configuration that failed before its first checkpoint leaves the folder to another.

    Raises:
        RunError: Another run, or something else, is in the folder.
    """
    path = out / CONFIG
    begun = any((out / name).exists() for name in (LAST, PREVIOUS, SUMMARY))
    if fresh and path.exists():
        if not begun:
            read_config(path)  # refuses a config.json of somebody else, which is no run of ours to clear
        clear(out)
    elif path.exists():
        held = read_config(path)
        if begun:
            _check_same(path, held, config)
            return
    else:
        _check_empty(out)
    write_atomic(path, config.to_json())


def _check_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"a run needs a folder; {out} is a file")
    held = (entry for entry in out.iterdir() if entry.suffix != ".tmp" and entry.name != LOCK) if out.exists() else ()
    strange = sorted(entry.name for entry in held)
    if strange:
        raise RunError(f"{out} holds {strange[0]} but no {CONFIG}: it is no run folder; give an empty or a new one")


def clear(out: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in OWN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_same(path: Path, held: TrainingConfig, wanted: TrainingConfig) -> None:
    differing = [
        f"{field.name} is {getattr(held, field.name, None)!r} there and {getattr(wanted, field.name)!r} here"
        for field in dataclasses.fields(wanted)
        if field.name not in MAY_CHANGE and getattr(held, field.name, None) != getattr(wanted, field.name)
    ]
    if differing:
        told = differing[0] + (f", and {len(differing) - 1} more settings differ" if len(differing) > 1 else "")
        raise RunError(f"{path} belongs to another run: {told}; take another folder, or start over with fresh")
