"""What a trained network attends to: gate health, pointing accuracy, and the maps of a few pictures."""

import dataclasses
import io
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveate.capture import capture, channel_profile, health, pointing_hits, taps
from foveate.data import Split
from foveate.files import write_atomic
from foveate.tasks.answers import logits_of
from foveate.tasks.preprocess import Preprocess
from foveate.tasks.samples import PictureSet
from foveate.tasks.stage import Stage, as_grid, grad_cam, last_stage

__all__ = [
    "Look",
    "gate_health",
    "look",
    "own_taps",
    "pick_samples",
    "pointing",
    "spread_out",
    "true_places",
    "write_maps",
]

SAMPLES = 16  # pictures whose maps are kept
LOOKED_AT = 512  # pictures over which health and pointing are measured
HEALTH_PICTURES, HEALTH_VALUES = 64, 4_000_000  # kept whole for gate health, at most
BATCH = 32
ROWS_AXES = "batch *query *key"


@dataclasses.dataclass
class Look:
    """What was seen of some pictures.

    Args:
        indices: The pictures' numbers in their split.
        images: uint8 (picture, channel, height, width), as the network saw them.
        labels: (picture,)
        places: bool (picture, height, width), the true places; None where they are not known.
        boxes: The first true box of each picture in its pixels, or None.
        logits: (picture, class)
        network: Grad-CAM (picture, *grid) for the label; None for a network without places.
        axes: The axes of each tap.
        profiles: (picture, channel) of each tap that has channels: the gate, averaged over space.
        spatial: (picture, *grid) of each tap that has places: the gate averaged over channels, or how much attention
            each place is given by all.
        rows: (picture, *grid) of each tap with queries and keys: where the reference point looks.
        values: Whole maps of the first pictures.
        points: (picture, 2), the reference point as (y, x) in 0..1: the middle of the true box, else of the picture.
    """

    indices: list[int]
    images: Tensor
    labels: Tensor
    places: Tensor | None
    boxes: list[list[float] | None]
    logits: Tensor
    network: Tensor | None
    axes: dict[str, str]
    profiles: dict[str, Tensor]
    spatial: dict[str, Tensor]
    rows: dict[str, Tensor]
    values: dict[str, Tensor]
    points: Tensor


def own_taps(network: nn.Module, new: Sequence[str]) -> dict[str, str]:
    """The taps of the mechanism, with their axes; not those that the host has of its own."""
    prefixes = tuple(f"{name}." for name in new)
    return {name: axes for name, axes in taps(network).items() if name.startswith(prefixes)} if prefixes else {}


def pick_samples(labels: Sequence[int], num_classes: int) -> list[int]:
    """The first few of each class, the same for every network: the pictures whose maps are kept."""
    each = math.ceil(SAMPLES / num_classes)
    seen = [0] * num_classes
    chosen = []
    for index, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= each:
            chosen.append(index)
    return chosen[:SAMPLES]


def spread_out(count: int, samples: Sequence[int]) -> list[int]:
    """The numbers of the pictures to look at, of `count`: the samples first, then others evenly spread."""
    spread = set(range(0, count, -(-count // LOOKED_AT))) - set(samples)
    # Shuffled, for pictures often lie class by class, and some measures take the first few.
    return [*samples, *random.Random(0).sample(sorted(spread), len(spread))]


def look(
    network: nn.Module,
    new: Sequence[str],
    preprocess: Preprocess,
    split: Split,
    indices: list[int],
    features: int,
    device: torch.device,
    *,
    labelled: bool = True,
) -> Look:
    """Run a network over some pictures and collect what it attends to.

    Args:
        network: On `device`.
        new: Names of the modules that are the mechanism.
        preprocess: Of the network.
        split: The pictures.
        indices: Which of them.
        features: Channels that the classifier takes.
        device: Where to compute.
        labelled: Whether the evidence for the label is asked for, or for what is predicted.
    """
    network.eval()
    watched = own_taps(network, new)
    stage = last_stage(network, (preprocess.channels, *preprocess.size), features)
    pictures = PictureSet(split, preprocess)
    images, labels = pictures.__getitems__(indices)
    places, boxes = true_places(split, preprocess, indices)
    points = torch.tensor([_middle(box, preprocess.size) for box in boxes])
    parts: list[dict[str, Any]] = []
    for start in range(0, len(indices), BATCH):
        part = slice(start, start + BATCH)
        asked = labels[part].to(device) if labelled else None
        seen = _see(network, watched, stage, preprocess.normalise(images[part].to(device)), asked)
        parts.append(_digest(seen, watched, points[part], keep=start < HEALTH_PICTURES))
    joined = {name: _join([part[name] for part in parts]) for name in ("profiles", "spatial", "rows", "values")}
    heats = [part["heat"] for part in parts]
    return Look(
        indices=indices,
        images=images,
        labels=labels,
        places=places,
        boxes=boxes,
        logits=torch.cat([part["logits"] for part in parts]),
        network=torch.cat(heats) if stage is not None and None not in heats else None,
        axes=watched,
        points=points,
        **joined,
    )


def _see(
    network: nn.Module, watched: dict[str, str], stage: Stage | None, images: Tensor, labels: Tensor | None
) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """Logits, Grad-CAM and the maps of one batch, from one forward pass."""

    def run() -> tuple[Tensor, Tensor | None]:
        if stage is not None:
            logits, heat = grad_cam(network, stage, images, labels)
            return logits, as_grid(heat)
        with torch.no_grad():
            return logits_of(network, network(images)), None

    if not watched:
        return *run(), {}
    with capture(network, only=list(watched)) as maps:
        logits, heat = run()
    return logits, heat, {name: maps[name].float() for name in watched if name in maps}


def _digest(
    seen: tuple[Tensor, Tensor | None, dict[str, Tensor]], axes: dict[str, str], points: Tensor, *, keep: bool
) -> dict[str, Any]:
    """What is kept of a batch: of each map its means, and of the first pictures the whole."""
    logits, heat, maps = seen
    parts: dict[str, Any] = {"logits": logits.cpu(), "heat": None if heat is None else heat.cpu()}
    parts |= {name: {} for name in ("profiles", "spatial", "rows", "values")}
    for name, values in maps.items():
        names = axes[name].split()
        if names[1:2] == ["channel"]:
            parts["profiles"][name] = values.flatten(2).mean(2).cpu() if values.ndim > 2 else values.cpu()
        if axes[name] == "batch *space" or axes[name] == "batch channel *space":
            flat = as_grid(values if names[1] == "*space" else values.mean(dim=1))
            if flat is not None:
                parts["spatial"][name] = flat.cpu()
        if axes[name] == ROWS_AXES and values.ndim == 5:
            parts["rows"][name] = _rows(values, points.to(values.device)).cpu()
            parts["spatial"][name] = values.mean(dim=(1, 2)).cpu()
        if keep:
            most = max(2, min(HEALTH_PICTURES, HEALTH_VALUES // max(1, values[0].numel())))
            parts["values"][name] = values[:most].cpu()
    return parts


def _rows(weights: Tensor, points: Tensor) -> Tensor:
    """Where the query at each picture's point looks: (batch, H, W, h, w) -> (batch, h, w)."""
    height, width = weights.shape[1:3]
    y = (points[:, 0] * height).long().clamp(0, height - 1)
    x = (points[:, 1] * width).long().clamp(0, width - 1)
    return weights[torch.arange(len(weights), device=weights.device), y, x]


def _join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    names = parts[0]
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def true_places(
    split: Split, preprocess: Preprocess, indices: Sequence[int]
) -> tuple[Tensor | None, list[list[float] | None]]:
    """The true places of pictures as the network sees them: masks (picture, height, width) of their boxes, and for each
    picture its first box in pixels; None where none is known.
    """
    height, width = preprocess.size
    masks = torch.zeros(len(indices), height, width, dtype=torch.bool)
    boxes: list[list[float] | None] = []
    for place, index in enumerate(indices):
        found = split.boxes_xyxy(index)
        if found is None or not len(found):
            boxes.append(None)
            continue
        scale, top, left = preprocess.where_from(*split.image(index).shape[1:])
        moved = found * scale - torch.tensor([left, top, left, top])
        moved = moved.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        boxes.append(moved[0].tolist())
        for x0, y0, x1, y1 in moved.tolist():
            masks[place, math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = True
    return (None if all(box is None for box in boxes) else masks), boxes


def _middle(box: list[float] | None, size: tuple[int, int]) -> tuple[float, float]:
    if box is None:
        return 0.5, 0.5
    return (box[1] + box[3]) / 2 / size[0], (box[0] + box[2]) / 2 / size[1]


def gate_health(seen: Look) -> dict[str, dict[str, Any]]:
    """Health of each tap of the mechanism; see foveate.capture.health."""
    return {name: dict(health(values, seen.axes[name])) for name, values in seen.values.items() if len(values) > 1}


def pointing(seen: Look) -> dict[str, Any]:
    """How often the maximum of a map lies in the true place: of Grad-CAM, of the mechanism's maps, and by chance.

    For the mechanism it is the mean over its taps that have places; each of them is under "taps".
    """
    known = [place for place, box in enumerate(seen.boxes) if box is not None]
    if seen.places is None or not known:
        return {"network": None, "mechanism": None, "chance": None, "samples": 0, "taps": {}}
    places = seen.places[known]

    def hits(heat: Tensor) -> float:
        return pointing_hits(heat[known], places).float().mean().item()

    by_tap = {name: hits(heat) for name, heat in seen.spatial.items()}
    return {
        "network": None if seen.network is None else hits(seen.network),
        "mechanism": sum(by_tap.values()) / len(by_tap) if by_tap else None,
        "chance": places.float().mean().item(),
        "samples": len(known),
        "taps": by_tap,
    }


def write_maps(folder: Path, seen: Look, split: Split, classes: Sequence[str], count: int) -> None:
    """Write maps.npz and maps.json: the first `count` pictures of a look with their maps, and the profiles of all."""
    arrays: dict[str, np.ndarray] = {"images": _as_rgb(seen.images[:count])}
    entries: list[dict[str, Any]] = []

    def add(tap: str, kind: str, values: Tensor, **more: Any) -> None:
        key = f"{kind}_{len(entries)}"
        arrays[key] = values.float().numpy()
        entries.append({"tap": tap, "kind": kind, "key": key, **more})

    for tap, values in seen.profiles.items():
        add(tap, "channel_profile", channel_profile(values, seen.labels, len(classes)))
    for tap, values in seen.spatial.items():
        if tap not in seen.rows:
            add(tap, "spatial", values[:count])
    for tap, values in seen.rows.items():
        add(
            tap,
            "rows",
            values[:count],
            point=[[round(part, 4) for part in pair] for pair in seen.points[:count].tolist()],
        )
    if seen.network is not None:
        add("network", "network", seen.network[:count])
    predictions = seen.logits.argmax(dim=1).tolist()
    samples = [
        {
            "index": seen.indices[place],
            "name": split.name(seen.indices[place]),
            "label": classes[int(seen.labels[place])],
            "prediction": classes[predictions[place]],
            "box_xyxy": seen.boxes[place],
        }
        for place in range(count)
    ]
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomic(folder / "maps.npz", body.getvalue())
    size = list(seen.images.shape[2:])
    index = {"samples": samples, "classes": list(classes), "image_size": size, "maps": entries}
    write_atomic(folder / "maps.json", json.dumps(index, indent=1) + "\n")


def _as_rgb(images: Tensor) -> np.ndarray:
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
