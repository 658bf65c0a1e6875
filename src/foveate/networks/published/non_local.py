"""AlexHex7/Non-local_pytorch: non-local blocks, one to a file."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from foveate.networks.architecture import Architecture
from foveate.networks.published.publisher import Found, Publisher, Shape, Shapes, part_name

__all__ = ["ALEXHEX7"]


def _recognise(shapes: Shapes, options: Mapping[str, Any]) -> Found | None:
    pooled = "g.0.weight" in shapes
    value = "g.0.weight" if pooled else "g.weight"
    if value not in shapes or not ("W.weight" in shapes or "W.0.weight" in shapes):
        return None
    spatial_dims = min(max(len(shapes[value]) - 2, 1), 3)
    hidden_channels, channels, *_ = shapes.axes(value, spatial_dims + 2)
    given: dict[str, Any] = {"channels": channels, "hidden_channels": hidden_channels}
    given |= {"pool": "after" if pooled else "none", "norm": "none" if "W.weight" in shapes else "batch"}
    if "theta.weight" not in shapes:
        return Found(Architecture("nonlocal", given | {"pairwise": "gaussian"}), {}, spatial_dims)
    if "concat_project.0.weight" in shapes:
        return Found(Architecture("nonlocal", given | {"pairwise": "concatenation"}), {}, spatial_dims)
    assumed = {"pairwise": options.get("pairwise", "embedded_gaussian")}  # a dot product has the same keys
    return Found(Architecture("nonlocal", given | assumed), assumed, spatial_dims)


def _their_name(key: str, block: nn.Module) -> str:
    pooled = ".0" if getattr(block, "pool", None) == "after" else ""
    batch = isinstance(getattr(block, "norm", None), nn.BatchNorm1d)
    parts = (
        ("g", f"g{pooled}"),
        ("phi", f"phi{pooled}"),
        ("out", "W.0" if batch else "W"),
        ("norm", "W.1"),
        ("concat", "concat_project.0"),
    )
    return part_name(key, parts)


def _their_shape(key: str, shape: Shape, spatial_dims: int) -> Shape:
    if key == "concat.weight":
        return (*shape, 1, 1)  # this convolution runs over queries and keys
    projection = key.endswith(".weight") and not key.startswith("norm.")
    return (*shape, *[1] * spatial_dims) if projection else shape


ALEXHEX7 = Publisher("AlexHex7/Non-local_pytorch", _recognise, _their_name, _their_shape, ("pairwise",))
