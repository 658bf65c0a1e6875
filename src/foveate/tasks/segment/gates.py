"""The mechanism "attention-gate": it makes an Attention U-Net of a U-Net, and stands in chains like any other.

It is no mechanism of the catalogue, for it takes a second, coarser feature, which only a host such as a U-Net has.
"""

from typing import Any

from torch import nn

from foveate.layers import AttentionGate
from foveate.layers.catalogue import describe
from foveate.networks import catalogue
from foveate.tasks.segment.config import SegmentConfig

__all__ = ["GATE", "mechanism_options", "parts_of", "sites_of"]

GATE = "attention-gate"


def parts_of(mechanism: str) -> tuple[bool, str]:
    """Whether a mechanism such as "attention-gate+se" has attention gates, and what else it is, or "none".

    Raises:
        LookupError: If there is no such mechanism.
        ValueError: If it names the gates twice.
    """
    parts = mechanism.split("+")
    if parts.count(GATE) > 1:
        raise ValueError(f"{GATE} stands on a skip connection once; got {mechanism}")
    others = "+".join(part for part in parts if part != GATE) or "none"
    if others != "none":
        try:
            describe(others)
        except LookupError as error:
            raise LookupError(f"{error.args[0]}; to segment there is {GATE} too") from None
    return GATE in parts, others


def mechanism_options(config: SegmentConfig) -> dict[str, Any]:
    """What the builder of a run's network is told of the mechanism.

    Raises:
        ValueError: If the network has gates of its own, or options could mean two mechanisms.
    """
    gated, others = parts_of(config.mechanism)
    options = dict(config.options) or None
    if not gated:
        return {} if others == "none" else {"mechanism": others, "options": options}
    if catalogue.describe(config.network).name != "unet" or "gates" in config.network_options:
        raise ValueError(f"{GATE} goes into a unet without gates; {config.network} has its own")
    if others == "none":
        return {"gates": 1, "gate_options": options}
    if options is not None:
        raise ValueError(f"options go to one mechanism; got {options} for {config.mechanism}")
    return {"gates": 1, "mechanism": others}


def sites_of(network: nn.Module, mechanism: str) -> list[dict[str, Any]]:
    """The places that hold a run's mechanism: the name and the channels of each."""
    sites: dict[str, int] = getattr(network, "sites", {})
    if GATE in mechanism.split("+"):
        gates = {name: each.channels for name, each in network.named_modules() if isinstance(each, AttentionGate)}
        sites = gates | sites
    return [{"name": name, "channels": channels} for name, channels in sites.items()]
