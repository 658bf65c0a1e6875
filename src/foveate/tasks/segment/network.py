"""Build the network of a run that segments."""

import dataclasses
import difflib
import importlib
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from foveate.errors import MissingExtra
from foveate.layers import AttentionGate
from foveate.networks import UNet, catalogue
from foveate.networks.skip import Skip
from foveate.surgery import blend_in
from foveate.tasks import files
from foveate.tasks.finished import fill, kept, rebuilding
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.gates import mechanism_options, parts_of, sites_of
from foveate.tasks.segment.preparation import KEY, Preparation
from foveate.tasks.weights import start_from

__all__ = ["arrange", "build_network", "load_run", "new_modules", "preparation_of"]

MONAI = "monai/"
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a weight
DECIDED = ("num_classes", "in_channels", "spatial_dims", "mechanism", "options", "width", "deep_supervision")


def build_network(config: SegmentConfig, preparation: Preparation) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The network of a run, its weights drawn from the seed or taken from `init`, and the sites of its mechanism."""
    taken = sorted(set(DECIDED) & set(config.network_options))
    if taken:
        raise ValueError(f"network_options cannot set {', '.join(taken)}; the run decides that")
    build = _monai if config.network.startswith(MONAI) else _own
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build(config, preparation)
    if config.identity:
        _begin_as_identity(network, parts_of(config.mechanism)[0], preparation.spatial_dims)
    if config.init is not None:
        start_from(network, config.init, new_modules(network), ("heads", "final"), ours=build is _own)
    return network, sites_of(network, config.mechanism)


def _begin_as_identity(network: nn.Module, gates: bool, spatial_dims: int) -> None:
    """Blend in every mechanism; if attention gates are one, gated skip connections as a whole.

    A gate has a convolution and a normalisation after it, so that only the whole connection can be the identity.
    """
    skips = network.skips.items() if gates and isinstance(network, UNet) else ()
    gated = {f"skips.{level}": skip for level, skip in skips if len(cast(Skip, skip).gates) > 0}
    sites: dict[str, int] = getattr(network, "sites", {})
    alone = {name: channels for name, channels in sites.items() if name.rpartition(".")[0] not in gated}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for skip in (cast(Skip, skip) for skip in gated.values()):
            gate = cast(AttentionGate, skip.gates[0])
            x, g = (torch.randn(2, size, *[16] * spatial_dims) for size in (skip.channels, gate.gating_channels))
            blend_in(skip, x, g)
        for name, channels in alone.items():
            blend_in(network.get_submodule(name), torch.randn(2, channels, *[16] * spatial_dims))


def _own(config: SegmentConfig, preparation: Preparation) -> nn.Module:
    """A network of the catalogue."""
    catalogue.describe(config.network, config.task)
    return catalogue.build(
        config.network,
        num_classes=len(preparation.classes),
        in_channels=len(preparation.modalities),
        spatial_dims=preparation.spatial_dims,
        width=config.width,
        deep_supervision=config.deep_supervision,
        **config.network_options,
        **mechanism_options(config),
    )


def _monai(config: SegmentConfig, preparation: Preparation) -> nn.Module:
    """A network of MONAI, as it is: "monai/UNet" with its own options."""
    try:
        nets = importlib.import_module("monai.networks.nets")
    except ImportError:
        raise MissingExtra("monai", "medical") from None
    name = config.network.removeprefix(MONAI)
    kind = getattr(nets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        near = difflib.get_close_matches(name, dir(nets), n=1)
        raise LookupError(f'MONAI has no network "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    plain = {"mechanism": "none", "width": 1.0, "deep_supervision": False, "train_only": "all"}
    for given, usual in plain.items():
        if getattr(config, given) != usual:
            raise ValueError(f"{config.network} is taken as it is: {given} must be {usual}")
    sizes = {"in_channels": len(preparation.modalities), "out_channels": len(preparation.classes)}
    try:
        network = kind(spatial_dims=preparation.spatial_dims, **sizes, **config.network_options)
    except Exception as error:  # what the options lead to inside is theirs
        raise ValueError(f"{_told(config)} cannot be built: {_reason(error)}") from None
    _check_answer(network, config, preparation)
    return network


def _check_answer(network: nn.Module, config: SegmentConfig, preparation: Preparation) -> None:
    """Refuse a foreign network that does not give a class for each voxel of a patch."""
    space = preparation.patch_size
    wanted = (2, len(preparation.classes), *space)
    try:
        with torch.no_grad():
            found = network.eval()(torch.zeros(2, len(preparation.modalities), *space))
    except Exception as error:  # as above
        raise ValueError(f"{_told(config)} does not take patches of {space}: {_reason(error)}") from None
    network.train()
    if not isinstance(found, torch.Tensor) or found.shape != wanted:
        kind = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(
            f"a network that segments gives {wanted} for patches of {space}; {config.network} gives {kind}"
        )


def _told(config: SegmentConfig) -> str:
    return f"{config.network} with options {config.network_options}"


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def new_modules(network: nn.Module) -> list[str]:
    """The names of the modules that a plain U-Net of the same widths does not have, and of those that give classes."""
    sites: dict[str, int] = getattr(network, "sites", {})
    gates = [name for name, _ in network.named_modules() if name.endswith((".gates", ".combine", "gating", ".blend"))]
    return [*sites, *gates]


def arrange(network: nn.Module) -> None:
    """Bring the weights to the layout with the channels last; a convolution answers in the layout of its weight."""
    for parameter in network.parameters():
        if parameter.ndim in LAYOUTS:
            parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[parameter.ndim])


def load_run(run: Path) -> tuple[nn.Module, SegmentConfig, Preparation]:
    """The trained network of a finished run, in eval mode on the CPU, with all that it needs."""
    preparation = preparation_of(run)
    config = SegmentConfig.from_file(Path(run) / files.CONFIG)
    # The trained weights are in the folder: where the run started from need not exist any more.
    start = "identity" if config.identity else "published"
    with rebuilding(run):
        network, _ = build_network(dataclasses.replace(config, start=start, init=None), preparation)
    fill(network, run)
    if config.channels_last:
        arrange(network)
    return network.eval(), config, preparation


def preparation_of(run: Path) -> Preparation:
    """What a finished run's network takes and gives, kept with its weights."""
    return kept(run, KEY, Preparation.from_json)
