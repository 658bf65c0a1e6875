"""Make and use a run that classifies pictures or clips."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data.contents import contents_of
from foveate.data.depth import set_bits
from foveate.data.pictures import OneSplit
from foveate.errors import DataError
from foveate.tasks import attention, files, overlays, scoring
from foveate.tasks.classify_job import ClassifyJob as RunJob
from foveate.tasks.clips import looped, sample_set
from foveate.tasks.config import RunConfig
from foveate.tasks.environment import pick_device
from foveate.tasks.finished import fill, finished, kept, rebuilding
from foveate.tasks.hosts import build_network, new_modules, open_samples, open_split, takes_clips
from foveate.tasks.inputs import each_input, given_clips, given_pictures, keep_apart
from foveate.tasks.layout import channels_last
from foveate.tasks.preprocess import KEY, Preprocess
from foveate.tasks.record import Guard
from foveate.tasks.weights import features_of, head_of

__all__ = [
    "RunJob",
    "attend",
    "evaluate",
    "load_run",
    "open_name",
    "open_run",
    "predict",
    "read_preprocess",
]


def evaluate(
    run: Path, data: str | None, split: str, *, device: str, rows: Path | None, guard: Guard
) -> dict[str, Any]:
    """The metrics of a run on a split of some data; `rows` takes a row for each picture."""
    network, config = load_run(run)
    preprocess, where = read_preprocess(run), pick_device(device)
    found = _own_split(config, split, guard) if data is None else _other_split(config, data, split, guard)
    unknown = [name for name in found.classes if name not in preprocess.classes]
    if unknown or (data is None and found.classes != preprocess.classes):
        raise DataError(f"{found.source} has classes {found.classes}; the run knows {preprocess.classes}")
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    set_bits({split: found.split}, preprocess.bits)
    numbers = torch.tensor([preprocess.classes.index(name) for name in found.classes])
    labels = numbers[scoring.labels_of(found.split)]
    logits = scoring.classify(network.to(where), preprocess, found.split, where)
    if rows is not None:
        names = [found.split.name(index) for index in range(len(found.split))]
        with files.world_errors(rows):
            scoring.write_predictions(rows, names, logits, preprocess.classes, labels)
    return {"samples": {split: len(labels)}, "measured": found.rule, **scoring.measure(logits, labels)}


def _own_split(config: RunConfig, split: str, guard: Guard) -> OneSplit:
    """A split of the run's own data, divided as the run began."""
    samples = open_samples(config, config.data)
    guard.own(split, contents_of(samples.splits[split], samples.classes))
    return OneSplit(samples.source, samples.classes, samples.splits[split], samples.rule, samples.notes)


def _other_split(config: RunConfig, data: str, split: str, guard: Guard) -> OneSplit:
    """A split of other data, or all of them if they say none, without what the run learned from."""
    found = open_split(config, data, split)
    whole = found.rule.startswith("all of ")
    kept = guard.other(split, contents_of(found.split, found.classes), found.source, whole=whole)
    return found if kept is None else dataclasses.replace(found, split=found.split.chosen(kept))


def predict(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> Path:
    """Write out/predictions.csv and return its path; what cannot be read is told at the end."""
    network, _ = load_run(run)
    preprocess, where = read_preprocess(run), pick_device(device)
    if preprocess.frames:
        keep_apart(inputs, out, "videos")
    split, names = _given(inputs, preprocess)
    path = Path(out) / files.PREDICTIONS
    with files.world_errors(Path(out)), each_input() as usable:
        found = scoring.classify_usable(network.to(where), preprocess, split, where, usable)
        if found:
            logits = torch.stack(list(found.values()))
            scoring.write_predictions(path, [names[index] for index in found], logits, preprocess.classes)
    return path


def attend(run: Path, inputs: Sequence[Path], out: Path, *, device: str) -> list[Path]:
    """Write NAME.TAP.png for each map, "network" being the evidence for the predicted class (Grad-CAM), and gates.csv
    for gates of channels; their paths. What cannot be read is told at the end.
    """
    network, config = load_run(run)
    preprocess, where = read_preprocess(run), pick_device(device)
    keep_apart(inputs, out, "videos" if preprocess.frames else "pictures")
    split, names = _given(inputs, preprocess)
    overlays.flat_names(names)
    new = new_modules(config, network, [dict(site) for site in finished(run).sites])
    features = features_of(network, head_of(network, len(preprocess.classes)))
    samples, written = sample_set(split, preprocess), []
    with files.world_errors(Path(out)), each_input() as usable:
        indices = [index for index in range(len(split)) if usable(lambda at: samples.view([at], 0), index) is not None]
        if indices:
            seen = attention.look(network.to(where), new, preprocess, split, indices, features, where, labelled=False)
            written = overlays.write_overlays(Path(out), seen, [names[index] for index in indices])
    return written


def load_run(run: Path) -> tuple[nn.Module, RunConfig]:
    """The trained network of a finished run, in eval mode on the CPU, and its configuration."""
    run = Path(run)
    finished(run)
    config = RunConfig.from_file(run / files.CONFIG)
    preprocess = read_preprocess(run)
    # The trained weights are in the folder: where the run started from need not exist any more.
    start = "identity" if config.identity else "published"
    bare = dataclasses.replace(config, start=start, pretrained=False, init=None)
    with rebuilding(run):
        network, _ = build_network(bare, len(preprocess.classes), preprocess.shape)
    fill(network, run)
    return channels_last(network).eval(), config


def _given(inputs: Sequence[Path], preprocess: Preprocess) -> tuple[Any, list[str]]:
    """The pictures or the videos on the command line, and a name for each."""
    if not preprocess.frames:
        return given_pictures(inputs, preprocess.channels, preprocess.bits)
    split, names = given_clips(inputs, preprocess.channels, preprocess.bits)
    if short := looped(split, preprocess):
        told = f"{short} of {len(split)} videos are shorter than a clip of {preprocess.frames} frames, "
        warnings.warn(f"{told}{preprocess.frame_stride} apart, which begins again at their first frame", stacklevel=3)
    return split, names


def read_preprocess(run: Path) -> Preprocess:
    """What a finished run's network takes and gives, kept with its weights."""
    return kept(run, KEY, Preprocess.from_json)


def open_run(run: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a run, and the (channels, height, width) or (channels, time, height, width) that it takes."""
    return load_run(run)[0], read_preprocess(run).shape


def open_name(network: str, mechanism: str, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by name, for 1000 classes."""
    clips = takes_clips(network)
    if len(shape) != 3 + clips:
        wanted = "channels, time, height and width" if clips else "channels, height and width"
        raise ValueError(f"{network} takes {wanted}; got {'x'.join(map(str, shape))}")
    built, _ = build_network(RunConfig(network=network, mechanism=mechanism), 1000, shape)
    return built.eval(), shape
