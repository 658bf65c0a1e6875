"""The mechanisms by name: what each is, where it usually goes, and how to build it."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["MECHANISMS", "Mechanism", "build", "describe"]


@dataclass(frozen=True)
class Mechanism:
    """One entry of the catalogue.

    Args:
        name: The name in code, on the command line and in reports.
        layer: The class in foveate.layers.
        paper: Authors, venue and address.
        family: What the gate or map runs over: "channel", "spatial", "channel and spatial", "pairwise", "control".
        place: Where it usually goes: "every block", "between stages" or "chosen blocks".
        summary: What it computes, in one line.
        parts: For a chain, the names of its mechanisms in their order.
    """

    name: str
    layer: str
    paper: str
    family: str
    place: str
    summary: str
    parts: tuple[str, ...] = ()


MECHANISMS: dict[str, Mechanism] = {
    "se": Mechanism(
        name="se",
        layer="SE",
        paper="Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507",
        family="channel",
        place="every block",
        summary="a gate per channel from a bottleneck over the channels' means",
    ),
    "eca": Mechanism(
        name="eca",
        layer="ECA",
        paper="Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151",
        family="channel",
        place="every block",
        summary="a gate per channel from a 1-D convolution across the channels' means",
    ),
    "placebo": Mechanism(
        name="placebo",
        layer="Placebo",
        paper="a control: no paper",
        family="control",
        place="every block",
        summary="a gate held at one, without parameters",
    ),
}


def describe(name: str) -> Mechanism:
    """The entry of a mechanism, or of a chain such as "eca+spatial", which goes where its first part goes.

    Raises:
        LookupError: If there is no such mechanism.
    """
    parts = tuple(part for given in name.split("+") for part in _entry(given).parts or (given,))
    if "+" not in name:
        return _entry(name)
    entries = [_entry(part) for part in parts]
    return Mechanism(
        name=name,
        layer="Chain",
        paper="; ".join(dict.fromkeys(entry.paper for entry in entries)),
        family=" and ".join(dict.fromkeys(entry.family for entry in entries)),
        place=entries[0].place,
        summary="; then ".join(entry.summary for entry in entries),
        parts=parts,
    )


def build(name: str, channels: int, *, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """The layer of a mechanism, or of a chain such as "eca+spatial".

    Args:
        name: A name of MECHANISMS, or several joined by "+".
        channels: Channels of the input and of the output.
        spatial_dims: Spatial axes of the input. It matters to the layers that have a kernel over space, and goes to them only.
        options: The layer's own options. For a chain: a mapping for each part, as in eca={"kernel_size": 3}.

    Raises:
        LookupError: If there is no such mechanism.
        TypeError: If the layer has no such option.
    """
    mechanism = describe(name)
    layer = getattr(importlib.import_module("foveate.layers"), mechanism.layer)
    if mechanism.parts:
        _check_options(name, options, list(mechanism.parts))
        if bare := [part for part, value in options.items() if not isinstance(value, Mapping)]:
            raise TypeError(f'{name} takes {bare[0]} as a mapping of options; got {options[bare[0]]!r}')
        built = [build(part, channels, spatial_dims=spatial_dims, **options.get(part, {})) for part in mechanism.parts]
        return layer(*zip(mechanism.parts, built, strict=True))
    taken = list(inspect.signature(layer).parameters)[1:]
    _check_options(mechanism.layer, options, [option for option in taken if option != "spatial_dims"])
    if "spatial_dims" in taken:
        options["spatial_dims"] = spatial_dims
    return layer(channels, **options)


def _entry(name: str) -> Mechanism:
    if name in MECHANISMS:
        return MECHANISMS[name]
    near = difflib.get_close_matches(name, MECHANISMS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(MECHANISMS)}"
    raise LookupError(f'no mechanism "{name}"; {hint}')


def _check_options(owner: str, options: Mapping[str, Any], taken: list[str]) -> None:
    for option in options:
        if option not in taken:
            raise TypeError(f'{owner} has no option "{option}"; it takes {", ".join(taken) or "none"}')
