"""Predict whole cases with a network, and hold them against their labels."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.data.faults import read_errors
from foveate.data.scans import read_case
from foveate.data.volumes import Case, Volume, Volumes, open_volumes
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.inference import Prediction, keep_largest, predict_case
from foveate.tasks.segment.metrics import Score, score_case
from foveate.tasks.segment.preparation import Preparation, Prepared

__all__ = ["infer", "open_data", "open_other", "score_cases"]


def open_data(config: SegmentConfig) -> Volumes:
    """The data of a run, split as it says."""
    return open_volumes(config.data, fold=config.fold, folds=config.folds, split_file=config.split_file)


def open_other(data: str, splits: Path) -> Volumes:
    """Other data than a run's own, split as they say; those of the same cases, perhaps in another place, as the run's.

    Args:
        data: Where they are.
        splits: The file of the run that names the cases of each split.
    """
    found = open_volumes(data)
    with read_errors(splits):
        held = json.loads(splits.read_text(encoding="utf-8")) if splits.exists() else {}
    # Else what a fold validates elsewhere would be measured on cases that the run was trained with.
    same = sorted(chain(*held.values())) == sorted(chain(*found.names().values()))
    return open_volumes(data, split_file=splits) if same and held != found.names() else found


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
        if volume.label is not None:
            label, _, _ = infer(network, preparation, config, volume, device)
            truth = volume.label.numpy()
            scores += score_case(volume.name, label.numpy(), truth, preparation.classes, volume.spacing)
        if told is not None:
            told(done)
    return scores


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
        flips=config.flips,
        device=device,
    )
    label = found.label()
    return keep_largest(label) if config.largest_component else label, found, ready
