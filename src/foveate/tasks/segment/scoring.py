"""Predict whole cases with a network, and hold them against their labels."""

import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foveate.data.json_files import read_json
from foveate.data.labels import IGNORED
from foveate.data.layouts import list_cases
from foveate.data.mask_values import MaskRule
from foveate.data.pictures import SPLITS
from foveate.data.scans import read_case
from foveate.data.volumes import Case, Volume, Volumes, open_volume_split, open_volumes, volumes_of
from foveate.errors import DataError, RunError
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import Prediction, keep_largest, predict_case
from foveate.tasks.segment.metrics import Score, score_case
from foveate.tasks.segment.preparation import Preparation, Prepared

__all__ = ["infer", "open_begun", "open_data", "open_other", "score_cases", "score_volume"]


def open_data(config: SegmentConfig) -> Volumes:
    """The data of a run, split as it says."""
    return open_volumes(
        config.data,
        fold=config.fold,
        folds=config.folds,
        split_file=config.split_file,
        ignore=config.ignore,
        threshold=config.threshold,
    )


def open_begun(config: SegmentConfig, splits: Path) -> Volumes:
    """The data of a run that has begun, divided as it began, whatever came into its folder since.

    Args:
        config: The run.
        splits: Its file that names the cases of each split.

    Raises:
        DataError: If a case of it is not there any more.
        RunError: If the file does not hold what the run wrote.
    """
    listing, held = list_cases(Path(config.data), rule=MaskRule(config.ignore, config.threshold)), _held(splits)
    known = {case.name: case for case in [*listing.cases, *(listing.val or []), *(listing.test or [])]}
    missing = [name for name in chain(*held.values()) if name not in known]
    if missing:
        raise DataError(f"the run needs {', '.join(missing)}, which {config.data} does not hold with labels any more")
    divided = {split: [known[name] for name in names] for split, names in held.items()}
    return volumes_of(listing, config.data, divided, f"as {splits.name} says", [], config.threshold)


def open_other(data: str, splits: Path, split: str, rule: MaskRule | None = None) -> tuple[Volumes, Sequence[Case]]:
    """Open other data than a run's own, and choose the cases to measure: those of a split if the data say splits, else
    all; but of data that hold cases of the run, those of the run's own split.

    Args:
        data: Where they are.
        splits: The file of the run that names the cases of each split.
        split: Which split.
        rule: What the run says of the values in masks.

    Raises:
        DataError: If there is no such case.
        RunError: If the file does not hold what the run wrote.
    """
    rule = rule or MaskRule()
    found = open_volume_split(data, split, _held(splits), ignore=rule.ignore, threshold=rule.threshold)
    return found, found.splits[split]


def _held(splits: Path) -> dict[str, list[str]]:
    """The names of the cases of each split of a run."""
    content = read_json(splits)
    if not isinstance(content, dict):
        raise RunError(f"{splits} must list names of cases under each of {', '.join(SPLITS)}; got {content!r}")
    for split in SPLITS:
        names = content.get(split)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RunError(f"{splits} must list names of cases under {split!r}; got {names!r}")
    return {split: content[split] for split in SPLITS}


def score_cases(
    network: nn.Module,
    preparation: Preparation,
    config: SegmentConfig,
    volumes: Volumes,
    cases: Sequence[Case],
    device: torch.device,
    told: Callable[[int], None] | None = None,
) -> list[Score]:
    """Predict cases and hold them against their labels, on the grids of their files; `told` takes how many are done."""
    network.to(device).eval()
    scores: list[Score] = []
    for done, case in enumerate(cases, start=1):
        volume = read_case(case, volumes)
        if volume.remark and told is None:  # training has said it once for all cases
            warnings.warn(f"{case.name}: {volume.remark}", stacklevel=2)
        if volume.label is not None:
            label, _, _ = infer(network, preparation, config, volume, device)
            scores += score_volume(label, volume, preparation.classes)
        if told is not None:
            told(done)
    return scores


def score_volume(label: Tensor, volume: Volume, classes: Sequence[str]) -> list[Score]:
    """Hold a predicted label map against the label of its case; voxels to ignore count as background in both."""
    assert volume.label is not None
    predicted, truth = label.numpy(), volume.label.numpy()
    if len(classes) <= IGNORED:
        ignored = truth == IGNORED
        predicted, truth = np.where(ignored, 0, predicted), np.where(ignored, 0, truth)
    return score_case(volume.name, predicted, truth, classes, volume.spacing)


def infer(
    network: nn.Module,
    preparation: Preparation,
    config: SegmentConfig,
    volume: Volume,
    device: torch.device,
) -> tuple[Tensor, Prediction, Prepared]:
    """The label map of a case, on the grid of its file, with the probabilities and what the network saw."""
    ready = preparation.prepare(volume)
    found = predict_case(
        network,
        ready.image,
        ready.grid,
        preparation.patch_size,
        overlap=config.overlap,
        flips=_flipped(config, preparation.spatial_dims) if config.flips else (),
        device=device,
    )
    label = found.label()
    return keep_largest(label) if config.largest_component else label, found, ready


def _flipped(config: SegmentConfig, spatial_dims: int) -> Sequence[int]:
    """The axes that training may flip: the others have sides that are not alike."""
    return range(spatial_dims) if config.flip_axes is None else config.flip_axes
