"""Networks of runs that segment, built before anything is trained: to count them, and to measure what they cost."""

from typing import Any

import torch
from torch import nn

from foveate.data.scans import read_case
from foveate.errors import DataError
from foveate.rules import reading
from foveate.tasks.environment import pick_device
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.memory import check_memory
from foveate.tasks.segment.network import build_network
from foveate.tasks.segment.preparation import Preparation, prepare_for
from foveate.tasks.segment.scoring import open_data

__all__ = ["build", "preparation_for"]


def preparation_for(config: SegmentConfig) -> Preparation:
    """What a new run of a configuration will do with its cases.

    Raises:
        DataError: If there is no case to test with, so that nothing could be compared.
    """
    with reading(config.read_rules):
        volumes = open_data(config)
        if not volumes.splits["test"]:
            raise DataError(f"{volumes.source} has no case in its test split, so that nothing can be compared")
        train = volumes.splits["train"]
        return prepare_for(config, volumes, lambda index: read_case(train[index], volumes), len(train))


def build(
    config: SegmentConfig, preparation: Preparation, device: str = "cpu"
) -> tuple[nn.Module, tuple[int, ...], list[dict[str, Any]]]:
    """The network of a run, the (channels, *space) of its patches, and its sites; on "meta" for counting only.

    Raises:
        TrainingError: If a training step needs more memory than is free.
    """
    # Where a mechanism begins as the identity, it is tried out, which "meta" cannot do.
    with torch.device("cpu" if config.identity else device):
        network, sites = build_network(config, preparation)
    channels, patch = len(preparation.modalities), preparation.patch_size
    if device != "meta":
        size = config.batch_size // config.devices
        check_memory(network, channels, patch, size, pick_device(config.device), config.precision != "32")
    return network, (channels, *patch), sites
