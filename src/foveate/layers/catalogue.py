"""The mechanisms by name: what each is, where it usually goes, and how to build it."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveate.layers.chain import distinct

__all__ = ["MECHANISMS", "PAIRED", "Mechanism", "build", "check_options", "describe", "find", "options_of"]


@dataclass(frozen=True)
class Mechanism:
    """One entry of the catalogue.

    Args:
        name: The name in code, on the command line and in reports.
        layer: The class in foveate.layers.
        paper: Authors, venue and address.
        family: What the gate or map runs over: "channel", "spatial", "channel and spatial", "pairwise", "control".
        place: Where it usually goes: "every block", "between stages", "chosen blocks" or "every level of a pyramid".
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
    "scse": Mechanism(
        name="scse",
        layer="ScSE",
        paper="Roy et al., MICCAI 2018, https://arxiv.org/abs/1803.02579",
        family="channel and spatial",
        place="every block",
        summary="a gate per channel and, beside it, a gate per position from a 1x1 convolution",
    ),
    "eca": Mechanism(
        name="eca",
        layer="ECA",
        paper="Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151",
        family="channel",
        place="every block",
        summary="a gate per channel from a 1-D convolution across the channels' means",
    ),
    "cbam": Mechanism(
        name="cbam",
        layer="CBAM",
        paper="Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521",
        family="channel and spatial",
        place="every block",
        summary="a gate per channel from means and maxima, then a gate per position from a 7x7 convolution",
    ),
    "bam": Mechanism(
        name="bam",
        layer="BAM",
        paper="Park et al., BMVC 2018, https://arxiv.org/abs/1807.06514",
        family="channel and spatial",
        place="between stages",
        summary="one gate per channel and position, from a channel branch plus a dilated spatial branch",
    ),
    "nonlocal": Mechanism(
        name="nonlocal",
        layer="NonLocal",
        paper="Wang et al., CVPR 2018, https://arxiv.org/abs/1711.07971",
        family="pairwise",
        place="chosen blocks",
        summary="adds to every position a weighted sum over all positions",
    ),
    "spatial": Mechanism(
        name="spatial",
        layer="SpatialGate",
        paper="Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521",
        family="spatial",
        place="every block",
        summary="a gate per position from a 7x7 convolution over the channels' maximum and mean: half of cbam",
    ),
    "eca-spatial": Mechanism(
        name="eca-spatial",
        layer="Chain",
        paper="Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151; Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521",
        family="channel and spatial",
        place="every block",
        summary="eca, then the spatial gate of cbam",
        parts=("eca", "spatial"),
    ),
    "placebo": Mechanism(
        name="placebo",
        layer="Placebo",
        paper="a control, no paper",
        family="control",
        place="every block",
        summary="a gate held at one, without parameters",
    ),
}

PAIRED: dict[str, Mechanism] = {
    "volumetric": Mechanism(
        name="volumetric",
        layer="VolumetricAttention",
        paper="Wang et al., MICCAI 2019, https://arxiv.org/abs/2004.01997",
        family="channel and spatial",
        place="every level of a pyramid",
        summary="a gate per channel, then a gate per position, each from an attention over a bag of slices",
    ),
}
"""What takes a second input, and so stands only in networks that have one: `build` and `describe` refuse it."""


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


def find(name: str) -> Mechanism:
    """The entry of a mechanism, of one in PAIRED too.

    Raises:
        LookupError: If there is no such mechanism.
    """
    return PAIRED[name] if name in PAIRED else describe(name)


def build(name: str, channels: int, *, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """The layer of a mechanism, or of a chain such as "eca+spatial".

    Args:
        name: A name of MECHANISMS, or several joined by "+".
        channels: Channels of the input and of the output.
        spatial_dims: Spatial axes of the input. It goes to layers with a kernel over space; the others take any space.
        options: The layer's own options. For a chain: a mapping for each part, as in eca={"kernel_size": 3}.

    Raises:
        LookupError: If there is no such mechanism.
        TypeError: If the layer has no such option.
    """
    mechanism = describe(name)
    layer = getattr(importlib.import_module("foveate.layers"), mechanism.layer)
    if mechanism.parts:
        given = _options_by_part(name, distinct(mechanism.parts), options)
        built = [
            build(part, channels, spatial_dims=spatial_dims, **part_options)
            for part, part_options in zip(mechanism.parts, given, strict=True)
        ]
        return layer(*zip(mechanism.parts, built, strict=True))
    check_options(mechanism.layer, options, options_of(name))
    if "spatial_dims" in inspect.signature(layer).parameters:
        options["spatial_dims"] = spatial_dims
    return layer(channels, **options)


def options_of(name: str) -> list[str]:
    """The options of a mechanism's layer; for a chain its parts, each of which takes a mapping.

    Raises:
        LookupError: If there is no such mechanism.
    """
    mechanism = find(name)
    if mechanism.parts:
        return distinct(mechanism.parts)
    layer = getattr(importlib.import_module("foveate.layers"), mechanism.layer)
    return [option for option in list(inspect.signature(layer).parameters)[1:] if option != "spatial_dims"]


def _entry(name: str) -> Mechanism:
    if name in MECHANISMS:
        return MECHANISMS[name]
    if name in PAIRED:
        raise LookupError(f"{name} takes a bag of slices beside its input, as in the network va_mask_rcnn_resnet50")
    near = difflib.get_close_matches(name, MECHANISMS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(MECHANISMS)}"
    raise LookupError(f'no mechanism "{name}"; {hint}')


def _options_by_part(name: str, parts: list[str], options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    check_options(name, options, parts)
    for part, given in options.items():
        if not isinstance(given, Mapping):
            raise TypeError(f"{name} takes {part} as a mapping of options; got {given!r}")
    return [options.get(part, {}) for part in parts]


def check_options(owner: str, options: Mapping[str, Any], taken: list[str]) -> None:
    """Raise a TypeError that names the first option which is not among those that are taken."""
    for option in options:
        if option not in taken:
            raise TypeError(f'{owner} has no option "{option}"; it takes {", ".join(taken) or "none"}')
