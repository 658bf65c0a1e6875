"""Measure how much each mechanism of a trained network changes its features, and at which strength."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.surgery import Blend, Blended, Inserted
from foveate.surgery.hook import inserted_in

__all__ = ["Effect", "copy_parameters", "count_unmoved", "mark_dead", "watch_effects"]


class Effect:
    """The relative change that one mechanism makes, over all the features that it has seen.

    Args:
        mechanism: The module that takes the features and returns them.
    """

    def __init__(self, mechanism: nn.Module) -> None:
        blend = mechanism if isinstance(mechanism, Inserted) else getattr(mechanism, "blend", None)
        self.blend = blend if isinstance(blend, Blended) and blend.alpha is not None else None
        self.changed, self.whole = 0.0, 0.0

    def see(self, _module: nn.Module, args: tuple, output: object) -> None:
        """Add the features of one call, as a forward hook."""
        x = args[0] if args else None
        if isinstance(x, Tensor) and isinstance(output, Tensor) and x.shape == output.shape:
            self.changed += torch.linalg.vector_norm((output.detach() - x.detach()).float()).item() ** 2
            self.whole += torch.linalg.vector_norm(x.detach().float()).item() ** 2

    def to_dict(self) -> dict[str, float | None]:
        """Return strength and ramp (None if not blended in) and change, |output - input| / |input|, None if unknown."""
        change = (self.changed / self.whole) ** 0.5 if self.whole > 0 else None
        return {
            "strength": None if self.blend is None else round(self.blend.strength, 6),
            "ramp": None if self.blend is None else round(self.blend.ramp, 6),
            "change": change if change is not None and math.isfinite(change) else None,
        }


@contextmanager
def watch_effects(network: nn.Module, sites: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Effect]]:
    """Measure the effect of the mechanisms at some sites while the network is used; by the name of the site."""
    with ExitStack() as hooks:
        effects = {}
        for site in sites:
            mechanism = _mechanism_at(network, site["name"])
            effects[site["name"]] = effect = Effect(mechanism)
            hooks.callback(mechanism.register_forward_hook(effect.see).remove)
        with torch.no_grad():
            yield effects


def _mechanism_at(network: nn.Module, name: str) -> nn.Module:
    """Return what is inserted at a site, else the outermost module around it that is blended in, else the site."""
    module = network.get_submodule(name)
    if (child := inserted_in(module)) is not None:
        return child
    parts = name.split(".")
    around = [network.get_submodule(".".join(parts[: count + 1])) for count in range(len(parts))]
    return next((each for each in around if isinstance(getattr(each, "blend", None), Blend)), module)


def copy_parameters(network: nn.Module, sites: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """Return copies of the parameters of the mechanisms at some sites, by site."""
    return {site["name"]: _own_parameters(_mechanism_at(network, site["name"])) for site in sites}


def _own_parameters(mechanism: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters of a mechanism, without that of its blend, which moves whatever the mechanism does."""
    named = mechanism.named_parameters()
    return {name: value.detach().cpu().clone() for name, value in named if name not in ("alpha", "blend.alpha")}


def count_unmoved(
    network: nn.Module, sites: Sequence[Mapping[str, Any]], begun: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, int]]:
    """Count the parameters of each mechanism, and those that training has not moved, by site."""
    now = copy_parameters(network, sites)
    return {
        site: {
            "parameters": len(values),
            "unmoved": sum(value.equal(begun[site][name]) for name, value in values.items()),
        }
        for site, values in now.items()
    }


def mark_dead(health: dict[str, dict[str, Any]], effects: Mapping[str, Mapping[str, Any]]) -> None:
    """Call the maps of a mechanism dead that changes nothing or has learned nothing, however lively they are."""
    for site, effect in effects.items():
        idle = effect["parameters"] > 0 and effect["unmoved"] == effect["parameters"]
        if effect["change"] == 0 or idle:
            for tap, entry in health.items():
                if tap.startswith(f"{site}."):
                    entry["alive"] = False
