"""Build the network of a run that detects."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.errors import CheckpointError
from foveate.networks import DETR, catalogue
from foveate.networks.architecture import Architecture
from foveate.networks.published import inspect
from foveate.tasks import files
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.preparation import KEY, Preparation
from foveate.tasks.finished import fill, kept, rebuilding
from foveate.tasks.hosts import MECHANISM_SEED, insert_mechanism
from foveate.tasks.weights import check_decisive, fetch_published, load_into, start_from

__all__ = ["arranged", "build_network", "learning_modules", "load_run", "mechanism_modules", "preparation_of"]

DECIDED = ("num_classes", "num_queries", "panoptic", "frozen", "mechanism", "options", "width")
HEADS = ("class_embed", "query_embed")  # what other classes, and another number of queries, start anew
MASKS = ("mask_attention", "mask_head")
PUBLISHED: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
VERSION = "IMAGENET1K_V1"  # of torchvision's weights: those that DETR was trained from


def build_network(config: DetectConfig, preparation: Preparation) -> tuple[DETR, list[dict[str, Any]]]:
    """The network of a run, and its sites; weights are drawn from the seed, or taken from where the run starts.

    The seed decides the weights, and the host's do not depend on the mechanism.
    """
    taken = sorted(set(DECIDED) & set(config.network_options))
    if taken:
        raise ValueError(f"network_options cannot set {', '.join(taken)}; the run decides that")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = _host(config, preparation)
        sites = [{"name": name, "channels": channels} for name, channels in network.sites.items()]
        if config.inserted:
            torch.manual_seed(config.seed + MECHANISM_SEED)
            start = "identity" if config.identity else "published"
            shape = (3, preparation.short, preparation.short)
            found = insert_mechanism(network.backbone, config.mechanism, config.options, config.where, start, shape)
            sites = [site | {"name": f"backbone.{site['name']}"} for site in found]
    new = [*mechanism_modules(config, sites), *(MASKS if config.masks else ())]
    if config.init is not None:
        _start_from(network, config.init, new)
    elif config.pretrained:
        name = _published_backbone(network, config)
        _load_backbone(network, fetch_published(name, VERSION), f"the published {name}", new)
    return network, sites


def _host(config: DetectConfig, preparation: Preparation) -> DETR:
    catalogue.describe(config.network, config.task)
    built_in = config.mechanism != "none" and not config.inserted
    mechanism = {"mechanism": config.mechanism, "options": config.options or None} if built_in else {}
    network = catalogue.build(
        config.network,
        num_classes=len(preparation.classes),
        num_queries=preparation.num_queries,
        panoptic=preparation.masks,
        frozen=config.freezes,
        width=config.width,
        **config.network_options,
        **mechanism,
    )
    assert isinstance(network, DETR)
    return network


def _start_from(network: DETR, path: str, new: list[str]) -> None:
    """Load a checkpoint of a DETR, or of a ResNet into the backbone."""
    found = inspect(path)
    if network.mask_head is None and any(key.startswith(MASKS) for key in found.state):
        raise CheckpointError(f"{path} has a head for masks, which a run has with masks=true")
    if found.architecture is not None and found.architecture.kind == "resnet":
        if found.problems:
            raise CheckpointError(f"{path} has keys of {found.publisher}, but {found.problems[0]}")
        check_decisive(path, found.architecture, _backbone_of(network))
        _load_backbone(network, found.state, path, new)
    else:
        start_from(network, path, new, HEADS, ours=True)


def _load_backbone(network: DETR, state: Mapping[str, Tensor], source: str, new: list[str]) -> None:
    held = {f"backbone.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    rest = [name for name, _ in network.named_children() if name != "backbone"]
    load_into(network, held, source, [*new, *rest])


def _backbone_of(network: DETR) -> Architecture | None:
    """What the backbone is, as a network by itself."""
    whole = network.architecture
    if whole is None:
        return None
    mechanism = {name: whole.options[name] for name in ("mechanism", "options") if name in whole.options}
    return Architecture("resnet", {**whole.options["backbone"], **mechanism})


def _published_backbone(network: DETR, config: DetectConfig) -> str:
    """The name of torchvision's network that the backbone is."""
    architecture = network.architecture
    backbone: Mapping[str, Any] = {} if architecture is None else architecture.options["backbone"]
    name = PUBLISHED.get((backbone.get("block", ""), tuple(backbone.get("depths", ()))))
    if name is None or set(backbone) != {"block", "depths"}:
        raise ValueError(f"no weights are published for the backbone of {config.network}: {dict(backbone)}")
    return name


def mechanism_modules(config: DetectConfig, sites: list[dict[str, Any]]) -> list[str]:
    """The names of the modules that are the mechanism."""
    names = [site["name"] for site in sites]
    return [f"{name}.inserted" for name in names] if config.inserted else names


def learning_modules(config: DetectConfig, sites: list[dict[str, Any]]) -> list[str]:
    """The names of the modules that learn with train_only="inserted": the mechanism, and the masks or the classes."""
    return [*mechanism_modules(config, sites), *(MASKS if config.masks else ("class_embed",))]


def load_run(run: Path) -> tuple[DETR, DetectConfig, Preparation]:
    """The trained network of a finished run, in eval mode on the CPU, with all that it needs."""
    preparation = preparation_of(run)
    config = DetectConfig.from_file(Path(run) / files.CONFIG)
    # The trained weights are in the folder: where the run started from need not exist any more.
    start = "identity" if config.identity else "published"
    bare = dataclasses.replace(config, start=start, frozen=config.freezes, pretrained=False, init=None)
    with rebuilding(run):
        network, _ = build_network(bare, preparation)
    fill(network, run)
    return arranged(network).eval(), config, preparation


def arranged(network: DETR) -> DETR:
    """The network in the memory layout with the channels last, in which its convolutions are quicker."""
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def preparation_of(run: Path) -> Preparation:
    """What a finished run's network takes and gives, kept with its weights."""
    return kept(run, KEY, Preparation.from_json)
