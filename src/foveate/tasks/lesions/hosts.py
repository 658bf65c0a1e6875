"""Networks of runs that detect in slices, built before anything is trained: to count and to measure them."""

from typing import Any

import torch
from torch import nn

from foveate.errors import DataError
from foveate.networks import catalogue
from foveate.rules import reading
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.job import open_data
from foveate.tasks.lesions.network import build_network, input_shape
from foveate.tasks.lesions.preparation import Preparation, prepare_for

__all__ = ["build", "preparation_for"]

Opened = tuple[Preparation, tuple[int, int]]


def preparation_for(config: LesionConfig) -> Opened:
    """What a new run of a configuration will do with its volumes, and the (height, width) of a slice of the first.

    Raises:
        DataError: If there is no volume to test with, so that nothing could be compared.
        ValueError: If the network has a mechanism of its own.
    """
    entry = catalogue.describe(config.network, config.task)
    if entry.built_in is not None:
        raise ValueError(
            f"a study takes a plain host, mask_rcnn_*, of which {entry.built_in} is an arm; got {entry.name}"
        )
    with reading(config.read_rules):
        stacks = open_data(config)
        if not len(stacks.splits["test"]):
            raise DataError(f"{stacks.source} has no volume in its test split, so that nothing can be compared")
        preparation = prepare_for(config, stacks)
        ready = preparation.prepare(stacks.splits["train"].stack(0))
    return preparation, (ready.stack.slices.shape[1], ready.stack.slices.shape[2])


def build(
    config: LesionConfig, opened: Opened, device: str = "cpu"
) -> tuple[nn.Module, tuple[int, ...], list[dict[str, Any]]]:
    """The network of a run, the shape of one input, (3, height, width) or (bag, 3, height, width), and its sites.

    On "meta" nothing is computed: for counting only.
    """
    preparation, size = opened
    # Where a mechanism begins as the identity, it is tried out, which "meta" cannot do.
    with torch.device("cpu" if config.identity and config.mechanism != "none" else device):
        network, sites = build_network(config, preparation)
    return network, input_shape(network, size), sites
