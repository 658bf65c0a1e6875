"""Attention and gating mechanisms for computer vision: exact layers, insertion, capture and honest comparison.

    import foveate as fv

    gate = fv.layers.SE(256, reduction=16)
    network = fv.networks.resnet50(mechanism="cbam", num_classes=10)
    fv.insert(host, "layer3.*", "cbam")
    with fv.capture(host) as maps:
        host(images)

Nothing is imported until it is used: `import foveate` is quick, and torch comes with the first name asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from foveate._version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

    from foveate import layers, networks
    from foveate.auditing import audit
    from foveate.capture import capture, edit, taps
    from foveate.compare.cost import profile
    from foveate.compare.forecast import forecast
    from foveate.networks.hub import from_hub, push_to_hub
    from foveate.networks.published import from_checkpoint, save_checkpoint, to_publisher
    from foveate.surgery import Site, load_host, rehearse, remove
    from foveate.tasks.export import export

__all__ = [
    "__version__",
    "audit",
    "capture",
    "edit",
    "export",
    "forecast",
    "from_checkpoint",
    "from_hub",
    "insert",
    "layers",
    "load_host",
    "networks",
    "profile",
    "push_to_hub",
    "rehearse",
    "remove",
    "save_checkpoint",
    "taps",
    "to_publisher",
]

# The room of each public name. `capture` is a room that can be called (see foveate/capture/__init__.py).
_ROOMS = {
    "audit": "foveate.auditing",
    "edit": "foveate.capture",
    "taps": "foveate.capture",
    "export": "foveate.tasks.export",
    "forecast": "foveate.compare.forecast",
    "from_checkpoint": "foveate.networks.published",
    "from_hub": "foveate.networks.hub",
    "push_to_hub": "foveate.networks.hub",
    "save_checkpoint": "foveate.networks.published",
    "to_publisher": "foveate.networks.published",
    "load_host": "foveate.surgery",
    "profile": "foveate.compare.cost",
    "rehearse": "foveate.surgery",
    "remove": "foveate.surgery",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        value = getattr(importlib.import_module(_ROOMS[name]), name)
    elif name in ("capture", "layers", "networks"):
        value = importlib.import_module(f"foveate.{name}")
    else:
        raise AttributeError(f"foveate has no name {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def insert(
    host: nn.Module,
    where: str | type[nn.Module] | Callable[[str, nn.Module], bool],
    mechanism: str | Callable[..., nn.Module],
    *,
    start: Literal["identity", "published"] = "identity",
    layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    example: Tensor | tuple[Any, ...] | None = None,
    **options: Any,
) -> list[Site]:
    """Put a mechanism after modules of a host; the host computes what it did until the mechanism is trained.

    The first output is the host's own, bit for bit. In training the mechanism is blended in over the first 50 optimizer
    steps, whatever the optimizer: foveate.surgery.Blended has the equation. The host's class, parameter names and
    weights stay, and `remove` takes the mechanism out again exactly.

    Args:
        host: Any network. Insert before torch.compile, DDP and the optimizer.
        where: Names of modules by pattern ("layer3.*": `*` stays within one name, `**` crosses), a class of modules,
            or a function of name and module.
        mechanism: A name of the catalogue ("cbam", "eca+spatial"), or a function from channels to a module. It is told
            the number of spatial axes where it takes spatial_dims.
        start: "identity" as above, or "published": mechanism(x) from the first step, with the paper's own start.
        layout: Where the channels stand in the features; found by a dry run unless given.
        example: An input for the dry run that measures channels; guessed from the host unless given.
        options: Options of the named mechanism, such as reduction=8.

    Returns:
        The sites, in the order of the host's modules, each with name, channels, shape and layout.

    Raises:
        LookupError: No module matches, or no mechanism has that name.
        ValueError: A site cannot take a mechanism, or the layout cannot be found.
    """
    from functools import partial

    from foveate import surgery
    from foveate.layers import catalogue

    if isinstance(mechanism, str):
        mechanism = partial(catalogue.build, mechanism, **options)
    elif options:
        raise TypeError(f"options {sorted(options)} need a mechanism by name; got {mechanism!r}")
    return surgery.insert(host, where, mechanism, start=start, layout=layout, example=example)
