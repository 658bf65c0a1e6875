"""Train, evaluate, predict: a run is a folder, and these are the ways to make and use one."""

import dataclasses
import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data import SPLITS
from foveate.rules import ReadRules, reading
from foveate.tasks import files
from foveate.tasks.config import TrainingConfig, command_for, read_config
from foveate.tasks.finished import finished
from foveate.tasks.record import Guard
from foveate.tasks.summary import Progress, Summary, read_summary

__all__ = ["attend", "evaluate", "example_inputs", "open_network", "predict", "train"]

Report = Callable[[Progress], None]
PLACES = {
    "classify": "foveate.tasks.classify_run",
    "segment": "foveate.tasks.segment.run",
    "detect": "foveate.tasks.detect.run",
    "lesions": "foveate.tasks.lesions.run",
    "translate": "foveate.tasks.translate.run",
}
"""The module of each task, which has RunJob, evaluate, predict, attend, open_run and open_name."""


def train(
    config: TrainingConfig,
    out: Path,
    *,
    fresh: bool = False,
    progress: Report | None = None,
    command: str | None = None,
    accept_changed_data: bool = False,
) -> Summary:
    """Train a network and write its run folder; resume an unfinished one, return a finished one at once.

    Args:
        config: The run.
        out: Its folder, the only place that is written to.
        fresh: Start over, whatever run the folder holds.
        progress: Takes Progress about twice a second.
        command: What to give as the way to repeat the run. Default: a `foveate train` that does.
        accept_changed_data: Resume although the data changed since the run began.

    Raises:
        RunError: The folder holds another run, is damaged, or cannot be written; or another process works in it.
        DataError: The pictures cannot be used.
        TrainingError: The loss is not finite.
    """
    out = Path(out)
    config = _absolute(config)
    with files.world_errors(out), files.alone(out, config, fresh=fresh), reading(config.read_rules):
        files.prepare(out, config, fresh=fresh)
        finished = read_summary(out)
        if finished is not None:
            return finished
        command = command or command_for(config, out)
        job = _place(config.task).RunJob(config, out, progress, command, accept=accept_changed_data)
        return job.run()


def evaluate(
    run: Path,
    data: str | None = None,
    split: str = "test",
    *,
    device: str = "auto",
    rows: Path | None = None,
    accept_changed_data: bool = False,
) -> dict[str, Any]:
    """Measure a finished run on a split of some data; of its own if none is given.

    Other data that say no splits are measured as a whole. Beside the metrics, "samples" holds how many samples of which
    split were measured, and "measured" what part of the data they are.

    Args:
        run: Its folder.
        data: Other data than the run's own.
        split: "train", "val" or "test".
        device: Where to compute.
        rows: A CSV file for a row of each picture, of each case and class, or of each box.
        accept_changed_data: Measure although data or settings of the run changed since it began.

    Raises:
        DataError: The data have classes that the run does not know, or changed since the run began.
        RunError: The settings changed since the run began.
    """
    if split not in SPLITS:
        raise ValueError(f"split takes train, val or test; got {split!r}")
    place = _place_of(run)
    finished(run)
    with reading(_rules_of(run)):
        guard = Guard(run, accept=accept_changed_data)
        guard.settings(read_config(Path(run) / files.CONFIG))
        return place.evaluate(run, _other(run, data), split, device=device, rows=rows, guard=guard)


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto", **options: Any) -> Path:
    """Apply a finished run to files and folders of them, and return what was written.

    A run that classifies writes out/predictions.csv; one that segments label maps and probabilities; one that detects
    out/predictions.json in COCO's layout and pictures with the boxes, in volumes label maps and boxes, of which
    `threshold` decides the least score.
    """
    place = _place_of(run)
    _check_options(run, place.predict, options)
    with reading(_rules_of(run)):
        return place.predict(run, inputs, out, device=device, **options)


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto", **options: Any) -> list[Path]:
    """Draw what a finished run attends to: pictures for each map, and their paths.

    A run that segments gives the maps of its gates in the space of each scan. Of a run that detects the attention of
    its queries and tokens is drawn; its options are those of foveate.tasks.detect.run.attend.
    """
    place = _place_of(run)
    _check_options(run, place.attend, options)
    with reading(_rules_of(run)):
        return place.attend(run, inputs, out, device=device, **options)


def open_network(
    network: str, mechanism: str = "none", shape: tuple[int, ...] | None = None
) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name or that of a run folder, and the (channels, *space) that it takes.

    By name it is built for `shape`, or else for what its paper shows it, with 1000 classes; one that segments with 2,
    one that detects with 91.
    """
    if (Path(network) / files.CONFIG).is_file():
        if mechanism != "none":
            raise ValueError(f"{network} is a run, whose mechanism is settled; give a network's name with a mechanism")
        found, own = _place_of(Path(network)).open_run(Path(network))
        return found, shape or own
    if "/" in network:
        return _place("classify").open_name(network, mechanism, shape or (3, 224, 224))
    from foveate.networks import catalogue

    entry = catalogue.describe(network)
    return _place(entry.task).open_name(network, mechanism, shape or tuple(map(int, entry.input.split("x"))))


def example_inputs(network: nn.Module, shape: tuple[int, ...], batch_size: int) -> Any:
    """What costs are measured with: a shape; of a network that translates tokens of source and target."""
    if hasattr(network, "num_tokens"):
        return [torch.zeros(batch_size, length, dtype=torch.int64) for length in shape]
    return batch_size, *shape


def _place(task: str) -> Any:
    return importlib.import_module(PLACES[task])


def _place_of(run: Path) -> Any:
    """The module of a run's task; what is no run of ours is found out there."""
    path = Path(run) / files.CONFIG
    return _place(read_config(path).task if path.is_file() else "classify")


def _rules_of(run: Path) -> ReadRules:
    """Return the rules by which a run read its data."""
    path = Path(run) / files.CONFIG
    return read_config(path).read_rules if path.is_file() else ReadRules()


def _other(run: Path, data: str | None) -> str | None:
    """The data to measure on; None for those of the run, also by name."""
    own = read_config(Path(run) / files.CONFIG).data
    same = data is not None and (data == own or Path(data).absolute() == Path(own).absolute())
    return None if same else data


def _check_options(run: Path, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options of another task's runs."""
    taken = inspect.signature(function).parameters
    for name, value in options.items():
        if name not in taken:
            path = Path(run) / files.CONFIG
            task = read_config(path).task if path.is_file() else finished(run).task
            raise ValueError(f"runs of the task {task} take no {name}; got {name}={value!r} for {run}")


def _absolute(config: TrainingConfig) -> TrainingConfig:
    """With paths that mean the same wherever the run is taken up from."""
    paths = {"data": None if config.suited(config.data) else config.data, "init": config.init}
    paths |= {name: getattr(config, name, None) for name in ("split_file", "images")}
    changed = {name: os.path.abspath(path) for name, path in paths.items() if path is not None}  # noqa: PTH100
    return dataclasses.replace(config, **changed)
