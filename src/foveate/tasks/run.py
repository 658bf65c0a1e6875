"""Train, evaluate, predict: a run is a folder, and these are the ways to make and use one."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data import SPLITS, SUFFIXES, open_pictures
from foveate.data.folders import FolderSplit
from foveate.errors import CheckpointError, DataError, RunError
from foveate.networks.published import read_file
from foveate.tasks import files
from foveate.tasks.config import RunConfig, TrainingConfig, command_for, read_config
from foveate.tasks.environment import pick_device
from foveate.tasks.hosts import build_network, new_modules
from foveate.tasks.preprocess import KEY, Preprocess
from foveate.tasks.summary import Progress, Summary, read_summary
from foveate.tasks.weights import features_of, head_of

__all__ = ["attend", "evaluate", "load_run", "open_network", "predict", "read_preprocess", "train"]

Report = Callable[[Progress], None]


def train(
    config: TrainingConfig,
    out: Path,
    *,
    fresh: bool = False,
    progress: Report | None = None,
    command: str | None = None,
) -> Summary:
    """Train a network and write its run folder; resume an unfinished one, return a finished one at once.

    Args:
        config: The run.
        out: Its folder, the only place that is written to.
        fresh: Start over, whatever run the folder holds.
        progress: Takes Progress about twice a second.
        command: What to give as the way to repeat the run. Default: a `foveate train` that does.

    Raises:
        RunError: The folder holds another run, is damaged, or cannot be written.
        DataError: The pictures cannot be used.
        TrainingError: The loss is not finite.
    """
    out = Path(out)
    config = _absolute(config)
    with files.world_errors(out):
        files.prepare(out, config, fresh=fresh)
        finished = read_summary(out)
        if finished is not None:
            return finished
        return _job(config, out, progress, command or command_for(config, out)).run()


def _job(config: TrainingConfig, out: Path, progress: Report | None, command: str) -> Any:
    if isinstance(config, RunConfig):
        from foveate.tasks.classify_job import ClassifyJob

        return ClassifyJob(config, out, progress, command)
    from foveate.tasks.segment.config import SegmentConfig
    from foveate.tasks.segment.job import SegmentJob

    assert isinstance(config, SegmentConfig)
    return SegmentJob(config, out, progress, command)


def evaluate(
    run: Path, data: str | None = None, split: str = "test", *, device: str = "auto", rows: Path | None = None
) -> dict[str, float | None]:
    """The metrics of a finished run on a split of some data; its own where none is given.

    A CSV file of `rows` takes a row for each picture, or for each case and class.

    Raises:
        DataError: The data has other classes than the run.
    """
    from foveate.tasks import scoring

    if split not in SPLITS:
        raise ValueError(f"split takes train, val or test; got {split!r}")
    if _segments(run):
        from foveate.tasks.segment.run import evaluate as evaluate_segmentation

        return evaluate_segmentation(run, data, split, device=device, rows=rows)
    network, config = load_run(run)
    preprocess = read_preprocess(run)
    pictures = open_pictures(data or config.data)
    if pictures.classes != preprocess.classes:
        raise DataError(f"{pictures.source} has classes {pictures.classes}; the run knows {preprocess.classes}")
    chosen, where = pictures.splits[split], pick_device(device)
    logits, labels = scoring.classify(network.to(where), preprocess, chosen, where), scoring.labels_of(chosen)
    if rows is not None:
        names = [chosen.name(index) for index in range(len(chosen))]
        with files.world_errors(rows):
            scoring.write_predictions(rows, names, logits, pictures.classes, labels)
    return scoring.measure(logits, labels)


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto") -> Path:
    """Classify picture files and folders of them; write out/predictions.csv and return its path.

    A run that segments writes label maps and probabilities, and returns `out`.
    """
    if _segments(run):
        from foveate.tasks.segment.run import predict as predict_segmentation

        return predict_segmentation(run, inputs, out, device=device)
    from foveate.tasks import scoring

    network, _ = load_run(run)
    preprocess, where = read_preprocess(run), pick_device(device)
    split, names = _given_pictures(inputs, preprocess)
    path = Path(out) / files.PREDICTIONS
    with files.world_errors(Path(out)):
        logits = scoring.classify(network.to(where), preprocess, split, where)
        scoring.write_predictions(path, names, logits, preprocess.classes)
    return path


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str = "auto") -> list[Path]:
    """Draw what a finished run attends to in pictures: NAME.TAP.png for each map, gates.csv for channels; their paths.

    "network" is the evidence for the predicted class (Grad-CAM); the others are the mechanism's own maps. A run that
    segments gives the maps of its gates in the space of each scan.
    """
    if _segments(run):
        from foveate.tasks.segment.run import attend as attend_segmentation

        return attend_segmentation(run, inputs, out, device=device)
    from foveate.tasks import attention, overlays

    network, config = load_run(run)
    preprocess, where = read_preprocess(run), pick_device(device)
    split, names = _given_pictures(inputs, preprocess)
    new = new_modules(config, network, [dict(site) for site in _finished(run).sites])
    features = features_of(network, head_of(network, len(preprocess.classes)))
    with files.world_errors(Path(out)):
        seen = attention.look(
            network.to(where), new, preprocess, split, list(range(len(split))), features, where, labelled=False
        )
        return overlays.write_overlays(Path(out), seen, names)


def load_run(run: Path) -> tuple[nn.Module, RunConfig]:
    """The trained network of a finished run, in eval mode on the CPU, and its configuration."""
    run = Path(run)
    _finished(run)
    config = RunConfig.from_file(run / files.CONFIG)
    preprocess = read_preprocess(run)
    # The trained weights are in the folder: where the run started from need not exist any more.
    start = "identity" if config.identity else "published"
    bare = dataclasses.replace(config, start=start, pretrained=False, init=None)
    network, _ = build_network(bare, len(preprocess.classes), (preprocess.channels, *preprocess.size))
    try:
        network.load_state_dict(read_file(run / files.MODEL)[0])
    except (CheckpointError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{run / files.MODEL} does not hold the weights of this run: {reason}") from None
    return network.to(memory_format=torch.channels_last).eval(), config  # pyright: ignore[reportCallIssue]


def read_preprocess(run: Path) -> Preprocess:
    """What a finished run's network takes and gives, kept with its weights."""
    from safetensors import SafetensorError, safe_open

    path = Path(run) / files.MODEL
    try:
        with safe_open(path, framework="pt") as held:
            return Preprocess.from_json((held.metadata() or {})[KEY])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read as the weights of a run: {error}") from None


def open_network(
    network: str, mechanism: str = "none", shape: tuple[int, ...] | None = None
) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name or that of a run folder, and the (channels, *space) that it takes.

    By name it is built for `shape`, or else for what its paper shows it, with 1000 classes; one that segments with 2.
    """
    if (Path(network) / files.CONFIG).is_file():
        if mechanism != "none":
            raise ValueError(f"{network} is a run, whose mechanism is settled; give a network's name with a mechanism")
        if _segments(Path(network)):
            from foveate.tasks.segment.network import load_run as load_segmentation

            found, _, preparation = load_segmentation(Path(network))
            return found, shape or (len(preparation.modalities), *preparation.patch_size)
        preprocess = read_preprocess(Path(network))
        return load_run(Path(network))[0], shape or (preprocess.channels, *preprocess.size)
    if "/" in network:
        return _classifier(network, mechanism, shape or (3, 224, 224))
    from foveate.networks import catalogue

    entry = catalogue.describe(network)
    build = _segmenter if entry.task == "segment" else _classifier
    return build(network, mechanism, shape or tuple(map(int, entry.input.split("x"))))


def _classifier(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    if len(shape) != 3:
        raise ValueError(f"{network} takes channels, height and width; got {'x'.join(map(str, shape))}")
    built, _ = build_network(RunConfig(network=network, mechanism=mechanism), 1000, (shape[0], shape[1], shape[2]))
    return built.eval(), shape


def _segmenter(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    from foveate.tasks.segment.config import SegmentConfig
    from foveate.tasks.segment.network import build_network as build_segmenter
    from foveate.tasks.segment.preparation import Preparation

    channels = [str(number) for number in range(shape[0])]
    prepared = Preparation(["background", "foreground"], [0, 1], channels, len(shape) - 1, None, [], shape[1:])
    built, _ = build_segmenter(SegmentConfig(data="none", network=network, mechanism=mechanism), prepared)
    return built.eval(), shape


def _absolute(config: TrainingConfig) -> TrainingConfig:
    """With paths that mean the same wherever the run is taken up from."""
    paths = {"data": config.data if config.data != "demo" else None, "init": config.init}
    paths["split_file"] = getattr(config, "split_file", None)
    changed = {name: os.path.abspath(path) for name, path in paths.items() if path is not None}  # noqa: PTH100
    return dataclasses.replace(config, **changed)


def _segments(run: Path) -> bool:
    """Whether a run segments; what is no run of ours is found out later."""
    path = Path(run) / files.CONFIG
    return path.is_file() and read_config(path).task == "segment"


def _finished(run: Path) -> Summary:
    summary = read_summary(Path(run))
    if summary is None:
        state = "is not finished" if (Path(run) / files.CONFIG).exists() else "is no run folder"
        raise RunError(f"this takes the folder of a finished run; {run} {state}")
    return summary


def _given_pictures(inputs: Sequence[Path], preprocess: Preprocess) -> tuple[FolderSplit, list[str]]:
    """Pictures on the command line, and a name for each."""
    found: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"{given} holds no pictures ({', '.join(SUFFIXES)})")
            found += inside
        elif given.exists():
            found.append(given)
        else:
            raise DataError(f"{given} does not exist")
    if not found:
        raise DataError("at least one picture is needed; none was given")
    root = Path(os.path.commonpath([path.absolute().parent for path in found]))
    names = [path.absolute().relative_to(root).as_posix() for path in found]
    return FolderSplit(root, [path.absolute() for path in found], [0] * len(found), preprocess.channels), names
