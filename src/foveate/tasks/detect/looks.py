"""What a trained detector attends to in test pictures: where its queries look, and what its mechanism lets through."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as v2

from foveate.capture import capture, health
from foveate.data.boxes import BoxSplit, Objects
from foveate.files import write_atomic
from foveate.networks import DETR
from foveate.tasks.attention import HEALTH_VALUES, own_taps
from foveate.tasks.detect.augment import normalised, target_of
from foveate.tasks.detect.found import Found, detect
from foveate.tasks.detect.matcher import match
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.square import SIDE, Square

__all__ = ["cross_attention", "gate_health", "grid_of", "on_picture", "pointing", "spatial_maps", "write_maps"]

SAMPLES = 8  # pictures whose maps are kept
POINTED = 256  # pictures over which pointing is measured
HEALTHY = 16  # pictures over which the health of gates is measured
SHOWN = 0.5  # the least score of a box that is drawn
ROWS = "batch *query *key"


def cross_attention(network: DETR) -> str:
    """The tap of the last decoder layer's attention from queries to tokens."""
    return f"decoder.layers.{len(network.decoder.layers) - 1}.cross_attn.weights"


def grid_of(network: DETR, size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the tokens of what the network got, (height, width)."""
    rows, columns = (-(-side // network.stride) for side in size)
    return rows, columns


def on_picture(heat: Tensor, stride: int, given: Sequence[int], size: Sequence[int]) -> Tensor:
    """A map of tokens, (rows, columns), over a picture of (height, width): each token covers stride pixels of what the
    network got, the last ones less.
    """
    cells = heat.float().repeat_interleave(stride, dim=0).repeat_interleave(stride, dim=1)[: given[0], : given[1]]
    return nn.functional.interpolate(cells[None, None], tuple(size), mode="nearest-exact")[0, 0]


def spatial_maps(maps: dict[str, Tensor], axes: dict[str, str]) -> dict[str, Tensor]:
    """The maps of a mechanism that have places, each (height, width) of a single picture.

    A gate is averaged over its channels; of weights it is how much attention each place is given by all.
    """
    found = {}
    for name, given in axes.items():
        if given.endswith("*space") or given == ROWS:
            seen = maps[name][0].float()
            found[name] = seen.reshape(-1, *seen.shape[-2:]).mean(dim=0).cpu()
    return found


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen in one picture.

    Args:
        found: The boxes.
        queries: Where each query looks, averaged over heads: (query, rows, columns).
        spatial: Of each tap of the mechanism with places: (height, width).
        logits: (1, 1, query, class + 1), and boxes (1, 1, query, 4), as the matcher takes them.
    """

    found: Found
    queries: Tensor
    spatial: dict[str, Tensor]
    logits: Tensor
    boxes: Tensor


def see(network: DETR, preparation: Preparation, new: Sequence[str], image: Tensor) -> Sight:
    """Detect in a picture, and keep the maps."""
    own, cross = own_taps(network, new), cross_attention(network)
    with capture(network, only=[*own, cross]) as maps:
        found, answer = detect(network, preparation, image)
    grid = grid_of(network, preparation.size.of(*image.shape[-2:]))
    queries = maps[cross][0].float().mean(dim=0).unflatten(1, grid).cpu()
    logits, boxes = (answer[name][None].float().cpu() for name in ("pred_logits", "pred_boxes"))
    return Sight(found, queries, spatial_maps(dict(maps), own), logits, boxes)


def gate_health(
    network: DETR, preparation: Preparation, new: Sequence[str], split: BoxSplit
) -> dict[str, dict[str, Any]]:
    """Health of each tap of the mechanism, over test pictures brought to one size; see foveate.capture.health."""
    watched = own_taps(network, new)
    indices = _spread(len(split), HEALTHY)
    if not watched or len(indices) < 2:
        return {}
    device, kept = next(network.parameters()).device, {name: [] for name in watched}
    for index in indices:
        image = normalised(v2.resize(split.image(index), [preparation.short, preparation.short]))
        with torch.no_grad(), capture(network, only=list(watched)) as maps:
            network(image[None].to(device))
        for name, values in kept.items():
            if len(values) < max(2, HEALTH_VALUES // maps[name].numel()):
                values.append(maps[name].float().cpu())
    return {name: dict(health(torch.cat(values), watched[name])) for name, values in kept.items()}


def pointing(network: DETR, preparation: Preparation, new: Sequence[str], split: BoxSplit) -> dict[str, Any]:
    """How often the highest value of a map lies in a true box, and how often by chance.

    "network" is the attention of the query that answers for an object, held against the object's own box; "mechanism"
    the mean over its taps with places, held against all boxes; each of these is under "taps".
    """
    queries: list[bool] = []
    chance: list[float] = []
    taps: dict[str, list[bool]] = {}
    for index in _spread(len(split), POINTED):
        objects, (height, width) = split.objects(index), split.size(index)
        if objects.crowd.all():
            continue
        sight, target = see(network, preparation, new, split.image(index)), target_of(objects, (height, width))
        pairs = match(sight.logits, sight.boxes, [target])
        assert target.numbers is not None
        wanted = objects.boxes_xyxy[target.numbers[pairs.object]]
        given = preparation.size.of(height, width)
        scale = height / given[0] * network.stride, width / given[1] * network.stride
        for query, box in zip(pairs.query.tolist(), wanted, strict=True):
            queries.append(_peak_inside(sight.queries[query], box[None], scale))
            chance.append(float((box[2] - box[0]) * (box[3] - box[1])) / (height * width))
        for name, heat in sight.spatial.items():
            scale = height / heat.shape[0], width / heat.shape[1]
            taps.setdefault(name, []).append(_peak_inside(heat, objects.boxes_xyxy, scale))
    by_tap = {name: sum(hits) / len(hits) for name, hits in taps.items()}
    return {
        "network": sum(queries) / len(queries) if queries else None,
        "mechanism": sum(by_tap.values()) / len(by_tap) if by_tap else None,
        "chance": math.fsum(chance) / len(chance) if chance else None,
        "samples": len(queries),
        "taps": by_tap,
    }


def write_maps(folder: Path, network: DETR, preparation: Preparation, new: Sequence[str], split: BoxSplit) -> None:
    """Write maps.npz and maps.json: a few test pictures with the true and the found boxes, where the queries of the
    found ones look, and the maps of the mechanism. The pictures are the same in every arm of a study.
    """
    indices = _spread(len(split), SAMPLES)
    if not indices:
        return
    seen = [see(network, preparation, new, split.image(index)) for index in indices]
    arrays: dict[str, list[np.ndarray[Any, Any]]] = {"images": [], "truth": [], "prediction": [], "weights": []}
    taps = list(seen[0].spatial)
    arrays |= {f"spatial_{number}": [] for number in range(len(taps))}
    for index, sight in zip(indices, seen, strict=True):
        image, objects = split.image(index), split.objects(index)
        size = (image.shape[1], image.shape[2])
        fit, shown = Square(size), sight.found.above(SHOWN)
        arrays["images"].append(fit(image.permute(1, 2, 0).numpy(), Image.Resampling.BILINEAR, 0))
        true = _painted(objects.boxes_xyxy, objects.labels, size)
        found = _painted(sight.found.boxes_xyxy[shown], sight.found.labels[shown], size)
        arrays["truth"].append(fit(true, Image.Resampling.NEAREST, 0))
        arrays["prediction"].append(fit(found, Image.Resampling.NEAREST, 0))
        best = shown if len(shown) else sight.found.scores.argmax()[None]
        looks = on_picture(sight.queries[best].mean(dim=0), network.stride, preparation.size.of(*size), size)
        maps = [looks, *sight.spatial.values()]
        for key, heat in zip(("weights", *(f"spatial_{number}" for number in range(len(taps)))), maps, strict=True):
            arrays[key].append(fit(_enlarged(heat, size), Image.Resampling.BILINEAR, math.nan))
    entries = [
        {"tap": "prediction", "kind": "prediction", "key": "prediction"},
        {"tap": cross_attention(network), "kind": "weights", "key": "weights"},
        *({"tap": tap, "kind": "spatial", "key": f"spatial_{number}"} for number, tap in enumerate(taps)),
    ]
    samples = [
        {
            "index": index,
            "name": split.name(index),
            "label": _counted(split.objects(index), preparation),
            "prediction": _names(sight.found, preparation),
            "box_xyxy": None,
        }
        for index, sight in zip(indices, seen, strict=True)
    ]
    body = io.BytesIO()
    np.savez_compressed(body, **{name: np.stack(each) for name, each in arrays.items()})  # pyright: ignore[reportArgumentType]
    write_atomic(folder / "maps.npz", body.getvalue())
    classes = ["nothing", *preparation.classes]
    index = {"samples": samples, "classes": classes, "image_size": [SIDE, SIDE], "maps": entries}
    write_atomic(folder / "maps.json", json.dumps(index, indent=1) + "\n")


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers below `count`, evenly spread."""
    kept = min(count, most)
    return [number * count // kept for number in range(kept)]


def _peak_inside(heat: Tensor, boxes_xyxy: Tensor, scale: tuple[float, float]) -> bool:
    """Whether the middle of the highest cell of a map, which is so high and wide, lies in one of the boxes."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    y, x = (row + 0.5) * scale[0], (column + 0.5) * scale[1]
    left, top, right, bottom = boxes_xyxy.unbind(dim=1)
    return bool(((left <= x) & (x < right) & (top <= y) & (y < bottom)).any())


def _painted(boxes_xyxy: Tensor, labels: Tensor, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The class of each pixel, counted from 1, small boxes above large ones; 0 where there is no box."""
    painted = np.zeros(size, np.uint8)
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    for number in areas.argsort(descending=True).tolist():
        left, top, right, bottom = (max(0, round(edge)) for edge in boxes_xyxy[number].tolist())
        painted[top:bottom, left:right] = int(labels[number]) % 255 + 1
    return painted


def _enlarged(heat: Tensor, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    return nn.functional.interpolate(heat[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _counted(objects: Objects, preparation: Preparation) -> str:
    return _told([preparation.classes[label] for label in objects.labels[~objects.crowd].tolist()])


def _names(found: Found, preparation: Preparation) -> str:
    return _told([preparation.classes[label] for label in found.labels[found.above(SHOWN)].tolist()])


def _told(names: Sequence[str]) -> str:
    """Names in their order, with how often each is there."""
    counts = {name: names.count(name) for name in sorted(names)}
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items()) or "nothing"
