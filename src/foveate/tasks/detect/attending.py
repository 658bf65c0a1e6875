"""Where a detector looks in a picture: each found box's query, chosen points in both directions, and its mechanism."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.capture import capture
from foveate.networks import DETR
from foveate.tasks.attention import own_taps
from foveate.tasks.detect.drawing import Panel
from foveate.tasks.detect.found import Found, detect
from foveate.tasks.detect.looks import grid_of, on_picture, spatial_maps
from foveate.tasks.detect.preparation import Preparation

__all__ = ["Attention", "Point", "attention_in", "mask_panels", "point_panels", "query_panels"]

Point = tuple[float, float]
MOST_POINTS = 4  # middles of found boxes, where no point is asked for


@dataclass(frozen=True, eq=False)
class Attention:
    """The maps of one picture, on the CPU.

    Args:
        size: (height, width) of the picture.
        given: Of what the network got.
        stride: Pixels of that which a token stands for.
        found: The boxes.
        shown: The queries that are shown, the best first.
        queries: Where these look: (query, head, rows, columns).
        points: In pixels of the picture, (x, y).
        looks_at: What each point looks at: (point, head, rows, columns); None without an encoder.
        looked_at_by: What looks at each point, likewise: how much of its attention every place gives to the point.
        masks: What the queries' masks begin with: (query, head, rows, columns); None without masks.
        spatial: Of each tap of the mechanism with places, (height, width).
        gates: Of each tap of the mechanism with channels, averaged over places: (channel).
    """

    size: tuple[int, int]
    given: tuple[int, int]
    stride: int
    found: Found
    shown: list[int]
    queries: Tensor
    points: list[Point]
    looks_at: Tensor | None
    looked_at_by: Tensor | None
    masks: Tensor | None
    spatial: dict[str, Tensor]
    gates: dict[str, Tensor]


def attention_in(
    network: DETR,
    preparation: Preparation,
    new: Sequence[str],
    image: Tensor,
    *,
    threshold: float,
    points: Sequence[Point] = (),
    layer: int | None = None,
) -> Attention:
    """Detect in a picture uint8 (3, height, width), and keep where what is found and what is asked for looks.

    Args:
        network: In evaluation mode.
        preparation: What it takes.
        new: Names of the modules that are the mechanism.
        image: The picture.
        threshold: The least score of a box; where none has it, the best one is shown.
        points: (x, y) in pixels of the picture. Default: the middles of the best boxes.
        layer: Of encoder and decoder, from 1. Default: the last of each.

    Raises:
        ValueError: If a point lies outside of the picture, or there is no such layer.
        LookupError: If points are asked for and there is no encoder.
    """
    size = (image.shape[1], image.shape[2])
    encoder, decoder = _taps(network, layer)
    if points and encoder is None:
        raise LookupError("points look at each other in the encoder; this network has encoder_layers=0")
    for x, y in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise ValueError(f"a point lies in the picture, which has {size[1]} x {size[0]} pixels; got {x:g},{y:g}")
    given = preparation.size.of(*size)
    grid, own = grid_of(network, given), own_taps(network, new)
    masks = "mask_attention.weights" if preparation.masks else None
    with capture(network, only=[name for name in (decoder, masks, *own) if name is not None]) as maps:
        found, _ = detect(network, preparation, image)
    shown = found.above(threshold).tolist() or [int(found.scores.argmax())]
    chosen = list(points) or [_middle(found, query, size) for query in shown[:MOST_POINTS]]
    tokens = torch.tensor([_token(point, size, given, network.stride) for point in chosen])
    looks_at = looked_at_by = None
    if encoder is not None:

        def both(weights: Tensor) -> Tensor:
            """Rows and columns of the points; the whole map may be large."""
            at = tokens.to(weights.device)
            return torch.stack([weights[:, :, at], weights[..., at].mT])

        with capture(network, only=[encoder], keep=both) as rows:
            detect(network, preparation, image)
        looks_at, looked_at_by = (each[0].transpose(0, 1).unflatten(2, grid) for each in rows[encoder].float().cpu())
    channels = [name for name, axes in own.items() if axes.split()[1] == "channel"]
    gates = {name: maps[name][0].float().reshape(maps[name].shape[1], -1).mean(dim=1).cpu() for name in channels}
    return Attention(
        size,
        given,
        network.stride,
        found,
        shown,
        maps[decoder][0, :, shown].float().transpose(0, 1).unflatten(2, grid).cpu(),
        chosen,
        looks_at,
        looked_at_by,
        None if masks is None else maps[masks][0, shown].float().cpu(),
        spatial_maps(dict(maps), own),
        gates,
    )


def query_panels(image: Tensor, seen: Attention, classes: Sequence[str], *, heads: bool) -> list[Panel]:
    """All boxes, then where the query of each looks: the mean over heads, or a panel for each head."""
    panels = [] if heads else [Panel("what is found", image, None, seen.found.boxes_xyxy[seen.shown].tolist())]
    for number, query in enumerate(seen.shown):
        box = seen.found.boxes_xyxy[query].tolist()
        title = f"{classes[int(seen.found.labels[query])]} {float(seen.found.scores[query]):.2f}, query {query}"
        panels += _panels(title, image, seen, seen.queries[number], heads, boxes_xyxy=[box])
    return panels


def point_panels(image: Tensor, seen: Attention, *, heads: bool) -> list[Panel]:
    """What each point looks at, and what looks at it."""
    panels = []
    if seen.looks_at is None or seen.looked_at_by is None:
        return panels
    for number, point in enumerate(seen.points):
        where = f"({point[0]:.4g}, {point[1]:.4g})"
        panels += _panels(f"what {where} looks at", image, seen, seen.looks_at[number], heads, point=point)
        panels += _panels(f"what looks at {where}", image, seen, seen.looked_at_by[number], heads, point=point)
    return panels


def mask_panels(image: Tensor, seen: Attention, classes: Sequence[str], *, heads: bool) -> list[Panel]:
    """What the mask of each box begins with."""
    if seen.masks is None:
        return []
    panels = []
    for number, query in enumerate(seen.shown):
        title = f"mask of {classes[int(seen.found.labels[query])]}, query {query}"
        box = seen.found.boxes_xyxy[query].tolist()
        panels += _panels(title, image, seen, seen.masks[number], heads, boxes_xyxy=[box])
    return panels


def _panels(title: str, image: Tensor, seen: Attention, weights: Tensor, heads: bool, **marks: Any) -> list[Panel]:
    maps = weights if heads else weights.mean(dim=0, keepdim=True)
    over = [on_picture(each, seen.stride, seen.given, seen.size) for each in maps]
    titles = [f"{title}, head {head + 1}" if heads else title for head in range(len(over))]
    return [Panel(named, image, heat, **marks) for named, heat in zip(titles, over, strict=True)]


def _taps(network: DETR, layer: int | None) -> tuple[str | None, str]:
    """The taps of self-attention in the encoder, if it has any, and of cross-attention in the decoder."""
    names = []
    for stack, kind in (("encoder", "self_attn"), ("decoder", "cross_attn")):
        layers = len(network.get_submodule(stack).layers)  # pyright: ignore[reportArgumentType]
        number = layers if layer is None else layer
        if layers and not 1 <= number <= layers:
            raise ValueError(f"the {stack} has layers 1 to {layers}; got {number}")
        names.append(f"{stack}.layers.{number - 1}.{kind}.weights" if layers else None)
    return names[0], names[1]


def _middle(found: Found, query: int, size: tuple[int, int]) -> Point:
    left, top, right, bottom = found.boxes_xyxy[query].tolist()
    x, y = (left + right) / 2, (top + bottom) / 2
    return min(max(x, 0.0), size[1] - 1.0), min(max(y, 0.0), size[0] - 1.0)


def _token(point: Point, size: tuple[int, int], given: tuple[int, int], stride: int) -> int:
    """The number of the token that stands for a pixel: by the place of the pixel in what the network got."""
    row, column = (int(at * to / of) // stride for at, to, of in zip(point[::-1], given, size, strict=True))
    return row * -(-given[1] // stride) + column
