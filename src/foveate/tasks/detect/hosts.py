"""Networks of runs that detect, built before anything is trained: to count them, and to measure what they cost."""

from typing import Any

import torch
from torch import nn

from foveate.errors import DataError
from foveate.rules import reading
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.job import open_data
from foveate.tasks.detect.network import build_network
from foveate.tasks.detect.preparation import Preparation, prepare_for

__all__ = ["build", "preparation_for"]


def preparation_for(config: DetectConfig) -> tuple[Preparation, tuple[int, int]]:
    """What a new run of a configuration will do with its pictures, and the (height, width) of a usual one.

    Raises:
        DataError: If there is no picture to test with, so that nothing could be compared.
    """
    with reading(config.read_rules):
        boxes = open_data(config)
    if not len(boxes.splits["test"]):
        raise DataError(f"{boxes.source} has no picture in its test split, so that nothing can be compared")
    preparation, train = prepare_for(config, boxes), boxes.splits["train"]
    sizes = sorted(preparation.size.of(*train.size(index)) for index in range(len(train)))
    return preparation, sizes[len(sizes) // 2]


def build(
    config: DetectConfig, opened: tuple[Preparation, tuple[int, int]], device: str = "cpu"
) -> tuple[nn.Module, tuple[int, ...], list[dict[str, Any]]]:
    """The network of a run, the (channels, height, width) of a usual picture, and its sites.

    On "meta" nothing is computed: for counting only.
    """
    preparation, size = opened
    with torch.device(device):
        network, sites = build_network(config, preparation)
    return network, (3, *size), sites
