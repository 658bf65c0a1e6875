"""The networks by name: what each is, what it takes, and how to build it."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from torch import nn

__all__ = ["NETWORKS", "Network", "build", "describe"]


@dataclass(frozen=True)
class Network:
    """One entry of the catalogue.

    Args:
        name: The name in code, on the command line and in reports.
        builder: Where the function is that builds it, as "module:function".
        task: What it is for: "classify".
        input: The shape of one input at which costs are published, such as "3x224x224".
        paper: Authors, venue and address.
        family: Networks that differ only in size share it.
    """

    name: str
    builder: str
    task: str
    input: str
    paper: str
    family: str


HE = "He et al., CVPR 2016, https://arxiv.org/abs/1512.03385"
XIE = "Xie et al., CVPR 2017, https://arxiv.org/abs/1611.05431"
RESNET = "foveate.networks.resnet"

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("resnet18", f"{RESNET}:resnet18", "classify", "3x224x224", HE, "resnet"),
        Network("resnet34", f"{RESNET}:resnet34", "classify", "3x224x224", HE, "resnet"),
        Network("resnet50", f"{RESNET}:resnet50", "classify", "3x224x224", HE, "resnet"),
        Network("resnet101", f"{RESNET}:resnet101", "classify", "3x224x224", HE, "resnet"),
        Network("resnet152", f"{RESNET}:resnet152", "classify", "3x224x224", HE, "resnet"),
        Network("resnet_tiny", f"{RESNET}:resnet_tiny", "classify", "3x40x40", HE, "resnet"),
        Network("resnext50_32x4d", f"{RESNET}:resnext50_32x4d", "classify", "3x224x224", XIE, "resnext"),
        Network("resnext101_32x4d", f"{RESNET}:resnext101_32x4d", "classify", "3x224x224", XIE, "resnext"),
        Network("resnext101_32x8d", f"{RESNET}:resnext101_32x8d", "classify", "3x224x224", XIE, "resnext"),
    )
}


def describe(name: str) -> Network:
    """The entry of a network.

    Raises:
        LookupError: If there is no such network.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    near = difflib.get_close_matches(name, NETWORKS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(NETWORKS)}"
    raise LookupError(f'no network "{name}"; {hint}')


def build(name: str, **options: Any) -> nn.Module:
    """The network of that name, such as build("resnet50", num_classes=10, mechanism="cbam").

    Raises:
        LookupError: If there is no such network.
        TypeError: If its builder has no such option.
    """
    module, function = describe(name).builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    taken = _options(builder)
    for option in options:
        if option not in taken:
            raise TypeError(f'{name} has no option "{option}"; it takes {", ".join(taken)}')
    return builder(**options)


def _options(builder: Callable[..., nn.Module]) -> list[str]:
    """The keywords a builder takes, with those of a TypedDict behind `**settings: Unpack[...]`."""
    taken = []
    for parameter in inspect.signature(builder).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (settings,) = get_args(get_type_hints(builder)[parameter.name])
            taken += get_type_hints(settings)
        else:
            taken.append(parameter.name)
    return taken
