"""Build the network of a run: a host of ours, timm's or torchvision's, with the mechanism in it."""

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveate.data import Clips, Pictures, open_clips, open_pictures
from foveate.data.clips import EMBEDDED, open_clip_split
from foveate.data.pictures import OneSplit, open_picture_split
from foveate.errors import CheckpointError, DataError
from foveate.layers import AttentionGate
from foveate.rules import reading
from foveate.surgery.hook import Start
from foveate.tasks.config import RunConfig
from foveate.tasks.inputs_of_weights import inputs_of
from foveate.tasks.preprocess import CLIP_FIELDS
from foveate.tasks.weights import fetch_published, heads_of, load_into, read_weights, start_from

__all__ = [
    "MECHANISM_SEED",
    "build",
    "build_network",
    "input_shape",
    "insert_mechanism",
    "new_modules",
    "open_samples",
    "open_split",
    "takes_clips",
]

Shape = tuple[int, ...]
LARGEST_OWN_SIDE = 256  # larger pictures are brought to USUAL_SIDE unless a size is asked for
USUAL_SIDE = 224
MECHANISM_SEED = 1_000_003  # added to the run's seed: the host's weights do not depend on the mechanism's


def build(
    config: RunConfig, *, samples: Pictures | Clips | None = None, device: str = "cpu"
) -> tuple[nn.Module, Shape, list[dict[str, Any]]]:
    """The network of a run, the (channels, height, width) that it takes, or (channels, time, height, width), and its
    sites: name and channels of each.

    The seed decides the weights, and the host's do not depend on the mechanism. On "meta" nothing is computed: for
    counting only.
    """
    if _ours(config):
        from foveate.networks import catalogue

        catalogue.describe(config.network, config.task)
    samples = samples or open_samples(config, config.data)
    shape = input_shape(config, samples)
    with torch.device(device):
        network, sites = build_network(config, len(samples.classes), shape)
    return network, shape, sites


def open_samples(config: RunConfig, data: str) -> Pictures | Clips:
    """What a run classifies: clips if its network takes them, else pictures.

    Raises:
        DataError: If the data are of the other kind, or cannot be used.
        ValueError: If the run has settings of clips, and its network takes pictures.
    """
    with reading(config.read_rules):
        return open_clips(data) if _are_clips(config, data) else open_pictures(data)


def open_split(config: RunConfig, data: str, split: str) -> OneSplit:
    """Open one split of other data than a run's own, all of them if they say no splits; else as open_samples."""
    with reading(config.read_rules):
        return open_clip_split(data, split) if _are_clips(config, data) else open_picture_split(data, split)


def _are_clips(config: RunConfig, data: str) -> bool:
    """Tell if a run takes clips, and refuse data and settings of the other kind."""
    if takes_clips(config.network):
        if data == "demo" or data.endswith(".npz"):
            raise DataError(f"{data} holds pictures, for networks such as resnet18; {config.network} takes clips")
        return True
    for name in CLIP_FIELDS:
        if getattr(config, name) is not None:
            raise ValueError(f"{name} is for networks of clips, such as c2d_resnet50; got {config.network}")
    if data in EMBEDDED:
        raise DataError(f"{data} holds clips, for networks such as c2d_tiny; {config.network} takes pictures")
    return False


def takes_clips(network: str) -> bool:
    """Whether a network of a run takes clips."""
    from foveate.networks import catalogue

    return _ours_by_name(network) and catalogue.describe(network, "classify").clips


def build_network(config: RunConfig, num_classes: int, shape: Shape) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The network for some number of classes and some shape of input, and its sites."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network, sites = _host(config, num_classes, shape)
        if config.mechanism != "none" and not sites:
            torch.manual_seed(config.seed + MECHANISM_SEED)
            start = "identity" if config.identity else "published"
            sites = insert_mechanism(network, config.mechanism, config.options, config.where, start, shape)
    new = new_modules(config, network, sites)
    if config.init is not None:
        start_from(network, config.init, new, heads_of(network, num_classes), ours=_ours(config))
    elif config.pretrained and not config.network.startswith("timm/"):  # timm loads its own
        name = _name_of_pictures(config.network.rpartition("/")[2])
        load_into(network, fetch_published(name), f"the published {name}", new, heads_of(network, num_classes))
    return network, sites


def new_modules(config: RunConfig, network: nn.Module, sites: list[dict[str, Any]]) -> list[str]:
    """The names of the modules that are the mechanism: those the host did not have, and a network's own gates."""
    names = [site["name"] for site in sites]
    gates = [name for name, module in network.named_modules() if isinstance(module, AttentionGate)]
    return [*(names if _built_in(config) else [f"{name}.inserted" for name in names]), *gates]


def input_shape(config: RunConfig, samples: Pictures | Clips) -> Shape:
    """The (channels, height, width) to which every picture is brought; of clips (channels, time, height, width)."""
    if isinstance(samples, Clips):
        channels, *space = _picture_shape(config, samples)
        return channels, config.frames or _usual_frames(config), *space
    return _picture_shape(config, samples)


def _usual_frames(config: RunConfig) -> int:
    """How many frames a clip has where nobody says: those for which the steps along time were made."""
    from foveate.networks import catalogue

    geometry = config.network_options.get("geometry")
    if geometry is None:
        return int(catalogue.describe(config.network).input.split("x")[1])
    return 32 if geometry in ("released", "paper") else 8


def _picture_shape(config: RunConfig, pictures: Pictures | Clips) -> Shape:
    channels = pictures.channels
    if "/" in config.network or config.pretrained:
        channels = 3
    elif config.init is not None:
        first = next(
            (value for value in read_weights(config.init, ours=_ours(config)).values() if value.ndim in (4, 5)), None
        )
        channels = channels if first is None else int(first.shape[1])
    if config.image_size is not None:
        return channels, config.image_size, config.image_size
    fixed = _fixed_size(config.network)
    if fixed is not None:
        return channels, *fixed
    known = inputs_of(config)
    if known is not None:
        return channels, *known.size
    if pictures.size is not None and max(pictures.size) <= LARGEST_OWN_SIDE:
        return channels, *pictures.size
    return channels, USUAL_SIDE, USUAL_SIDE


def _host(config: RunConfig, num_classes: int, shape: Shape) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The host, with the mechanism in it where it is one of ours that has a place for it."""
    reserved = {"num_classes", "in_channels", "in_chans", "mechanism", "options", "width", "pretrained", "weights"}
    taken = sorted(reserved & set(config.network_options))
    if taken:
        raise ValueError(f"network_options cannot set {', '.join(taken)}; the run decides that")
    if "/" not in config.network:
        return _own_host(config, num_classes, shape)
    if config.width != 1.0:
        raise ValueError(f"{config.network} has no width to set, only networks of Foveate's catalogue have")
    library, _, name = config.network.partition("/")
    builders: dict[str, Callable[..., nn.Module]] = {"timm": _timm_host, "torchvision": _torchvision_host}
    if library not in builders:
        raise LookupError(f'no host "{config.network}"; it takes a name of ours, timm/NAME or torchvision/NAME')
    network = builders[library](config, name, num_classes, shape)
    was_training = network.training
    with torch.no_grad():
        found = network.eval()(torch.zeros(2, *shape))
    network.train(was_training)
    if not isinstance(found, Tensor) or found.shape != (2, num_classes):
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"a classifier gives (batch, {num_classes}); {config.network} gives {kind}")
    return network, []


def _own_host(config: RunConfig, num_classes: int, shape: Shape) -> tuple[nn.Module, list[dict[str, Any]]]:
    from foveate.networks import catalogue

    entry = catalogue.describe(config.network)
    if entry.built_in and config.mechanism != "none":
        host = entry.builder.split(":")[1]
        raise ValueError(f"{config.network} has {entry.built_in} built in; a host for {config.mechanism} is {host}")
    options: dict[str, Any] = dict(config.network_options)
    if config.mechanism != "none" and _built_in(config):
        options |= {"mechanism": config.mechanism, "options": config.options or None}
    network = catalogue.build(
        config.network, num_classes=num_classes, in_channels=shape[0], width=config.width, **options
    )
    sites: dict[str, int] = getattr(network, "sites", {})
    return network, [{"name": name, "channels": channels} for name, channels in sites.items()]


def _ours(config: RunConfig) -> bool:
    """Whether the host is of our own catalogue, so that published checkpoints have its weights under other keys."""
    return _ours_by_name(config.network)


def _ours_by_name(network: str) -> bool:
    return "/" not in network


def _name_of_pictures(network: str) -> str:
    """The network for pictures whose weights one of clips starts from: resnet50 for i3d_resnet50."""
    return network[network.index("resnet") :] if "resnet" in network and takes_clips(network) else network


def _built_in(config: RunConfig) -> bool:
    return "/" not in config.network and not config.identity and config.where is None


def _timm_host(config: RunConfig, name: str, num_classes: int, shape: Shape) -> nn.Module:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise LookupError(f'timm has no model "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    options: dict[str, Any] = dict(config.network_options)
    fixed = _fixed_size(config.network)
    if fixed is not None and fixed != shape[1:]:
        options["img_size"] = shape[1:]
    create = partial(timm.create_model, name, num_classes=num_classes, in_chans=shape[0], **options)
    if not config.pretrained:
        return create()
    try:
        return create(pretrained=True)
    except TypeError:  # an option that the model does not have
        raise
    except Exception as error:  # no network, no such weights, a damaged download: the hub has many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"the published weights of {config.network} could not be fetched: {reason}") from None


def _torchvision_host(config: RunConfig, name: str, num_classes: int, shape: Shape) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        near = difflib.get_close_matches(name, models.list_models(module=models), n=1)
        raise LookupError(f'torchvision has no classifier "{name}"' + (f'; did you mean "{near[0]}"?' if near else ""))
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes, **config.network_options}
    fixed = _fixed_size(config.network)
    if fixed is not None and fixed != shape[1:]:
        options["image_size"] = shape[1]
    return models.get_model(name, **options)


def _fixed_size(network: str) -> tuple[int, int] | None:
    """The (height, width) of a foreign host that takes only one; None of one that takes any."""
    library, _, name = network.partition("/")
    if library == "timm":
        import timm

        given = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        if given is not None and given.fixed_input_size:
            return given.input_size[1], given.input_size[2]
    if library == "torchvision" and name.startswith("vit_"):
        return 224, 224
    return None


def insert_mechanism(
    network: nn.Module, mechanism: str, options: Mapping[str, Any], where: str | None, start: Start, shape: Shape
) -> list[dict[str, Any]]:
    """Insert a mechanism of the catalogue where it usually goes, or behind the modules that `where` describes; the
    name and the channels of each site.
    """
    from foveate.layers import catalogue
    from foveate.surgery import insert
    from foveate.tasks.places import usual_places

    places = usual_places(network, catalogue.describe(mechanism).place) if where is None else frozenset()
    found = insert(
        network,
        where if where is not None else lambda name, module: name in places,
        partial(catalogue.build, mechanism, **options),
        start=start,
        example=torch.zeros(2, *shape),
    )
    return [{"name": site.name, "channels": site.channels} for site in found]
