"""Build the network of a run that detects in slices."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foveate.errors import CheckpointError
from foveate.layers import VolumetricAttention
from foveate.networks import MaskRCNN, catalogue
from foveate.networks.published import inspect
from foveate.surgery import blend_in
from foveate.tasks import files
from foveate.tasks.finished import fill, kept, rebuilding
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.preparation import KEY, Preparation
from foveate.tasks.weights import fetch_published, load_into, start_from

__all__ = ["build_network", "input_shape", "learning_modules", "load_run", "mechanism_modules", "preparation_of"]

DECIDED = (
    "num_classes",
    "mechanism",
    "options",
    "bag",
    "bag_stride",
    "include_target",
    "anchor_sizes",
    "norm",
    "norm_eps",
    "width",
    "min_size",
    "max_size",
)
VOLUMETRIC = "volumetric"
LEAST_SCORE = 0.01  # of what a network gives: low, for 16 false positives a slice are counted
COCO = "maskrcnn_resnet50_fpn"
MASKS = ("roi_heads.mask_head", "roi_heads.mask_predictor")
BACKBONES = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}
"""torchvision's names of the bottleneck networks that weights are published for."""


def build_network(
    config: LesionConfig, preparation: Preparation, *, start: bool = True
) -> tuple[MaskRCNN, list[dict[str, Any]]]:
    """The network of a run, and its sites; weights are drawn from the seed, or taken from where the run starts.

    The seed decides the weights, and the host's do not depend on the mechanism.

    Args:
        config: The run.
        preparation: What the network takes.
        start: Whether weights are loaded that the run starts from.
    """
    taken = sorted(set(DECIDED) & set(config.network_options))
    if taken:
        raise ValueError(f"network_options cannot set {', '.join(taken)}; the run decides that")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = catalogue.build(config.network, **_options(config, preparation))
    assert isinstance(network, MaskRCNN)
    sites = [{"name": name, "channels": channels} for name, channels in network.sites.items()]
    if config.identity:
        _begin_as_identity(network)
    new = mechanism_modules(sites)
    if start and config.init is not None:
        _start_from(network, config.init, new)
    elif start and config.pretrained:
        _load_published(network, config, new)
    return network, sites


def _begin_as_identity(network: MaskRCNN) -> None:
    """Blend in every mechanism between the pyramid and what reads it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, channels in network.sites.items():
            module = network.get_submodule(name)
            x, bag = torch.randn(2, channels, 16, 16), torch.randn(2, 3, channels, 16, 16)
            blend_in(module, x, *((bag,) if isinstance(module, VolumetricAttention) else ()))


def _options(config: LesionConfig, preparation: Preparation) -> dict[str, Any]:
    """What the builder gets."""
    entry = catalogue.describe(config.network, config.task)
    options: dict[str, Any] = {"num_classes": len(preparation.classes) + 1, "norm": preparation.norm}
    options["norm_eps"] = preparation.norm_eps
    options |= {"width": config.width, **config.network_options}
    options["detector"] = {"box_score_thresh": LEAST_SCORE, **options.get("detector", {})}
    if config.image_size is not None:
        options |= {"min_size": config.image_size, "max_size": config.image_size}
    if config.anchor_sizes is not None:
        options["anchor_sizes"] = config.anchor_sizes
    if not preparation.masks:
        options["mask_channels"] = ()
    published = entry
    if config.mechanism == VOLUMETRIC and not entry.built_in:
        published = catalogue.describe(f"va_{entry.name}")
        reduced = {**published.options.get("options", {}), **config.options}
        options |= {"mechanism": VOLUMETRIC, "options": reduced or None}
    elif config.mechanism != "none":
        options |= {"mechanism": config.mechanism, "options": config.options or None}
    if published.built_in == VOLUMETRIC:
        options |= {"bag": config.bag or published.options["bag"], "bag_stride": preparation.bag_stride}
        options["include_target"] = config.include_target
    return options


def input_shape(network: MaskRCNN, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one input of (height, width): a picture, or where there is a bag a bag of them."""
    return (*((network.bag,) if network.bag > 1 else ()), 3, *size)


def mechanism_modules(sites: list[dict[str, Any]]) -> list[str]:
    """The names of the modules that are the mechanism."""
    return [site["name"] for site in sites]


def learning_modules(network: MaskRCNN, sites: list[dict[str, Any]]) -> list[str]:
    """The names of the modules that learn with train_only="inserted": the mechanism, and what gives classes."""
    return [*mechanism_modules(sites), *network.head_names]


def _start_from(network: MaskRCNN, path: str, new: list[str]) -> None:
    """Load a checkpoint of a Mask R-CNN, or of a ResNet into the body."""
    found = inspect(path)
    if found.architecture is not None and found.architecture.kind == "resnet":
        if found.problems:
            raise CheckpointError(f"{path} has keys of {found.publisher}, but {found.problems[0]}")
        _load_body(network, dict(found.state), path, new)
    else:
        start_from(network, path, new, [*network.head_names, *_left(network, found.state or {}, path)], ours=True)


def _left(network: MaskRCNN, state: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The modules of a Mask R-CNN's masks where a network of boxes starts from one; says so."""
    here, there = (any(key.startswith(MASKS) for key in given) for given in (network.state_dict(), state))
    if here or not there:
        return ()
    warnings.warn(f"{source} has weights for masks, which are left: the data have boxes alone", stacklevel=3)
    return MASKS


def _load_body(network: MaskRCNN, state: dict[str, Any], source: str, new: list[str]) -> None:
    held = {f"backbone.body.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    load_into(network, held, source, [*new, "backbone.fpn", "rpn", "roi_heads"])


def _load_published(network: MaskRCNN, config: LesionConfig, new: list[str]) -> None:
    """Mask R-CNN of COCO where it is published, else the body's ResNet of ImageNet."""
    backbone = {} if network.architecture is None else network.architecture.options["backbone"]
    name = BACKBONES.get(tuple(backbone.get("depths", ())))
    if name is None or set(backbone) != {"block", "depths"}:
        raise ValueError(f"no weights are published for the backbone of {config.network}: {dict(backbone)}")
    if name == "resnet50":
        state, source = fetch_published(COCO), f"the published {COCO}"
        load_into(network, state, source, new, [*network.head_names, *_left(network, state, source)])
    else:
        _load_body(network, fetch_published(name), f"the published {name}", new)


def load_run(run: Path) -> tuple[MaskRCNN, LesionConfig, Preparation]:
    """The trained network of a finished run, in eval mode on the CPU, with all that it needs."""
    preparation = preparation_of(run)
    config = LesionConfig.from_file(Path(run) / files.CONFIG)
    # The trained weights are in the folder: where the run started from need not exist any more.
    with rebuilding(run):
        network, _ = build_network(config, preparation, start=False)
    fill(network, run)
    return network.eval(), config, preparation


def preparation_of(run: Path) -> Preparation:
    """What a finished run's network takes and gives, kept with its weights."""
    return kept(run, KEY, Preparation.from_json)
