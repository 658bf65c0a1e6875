"""What a trained network attends to: gate health, pointing accuracy, and maps."""

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.capture import capture, health, pointing_hits, taps
from foveate.data import ClipSplit, Split
from foveate.tasks import film
from foveate.tasks.answers import logits_of
from foveate.tasks.clips import sample_set
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
]

SAMPLES = 16  # pictures whose maps are kept
LOOKED_AT = 512  # pictures over which health and pointing are measured
HEALTH_PICTURES, HEALTH_VALUES = 64, 4_000_000  # kept whole for gate health, at most
BATCH, CLIP_BATCH = 32, 8
CLIPS_LOOKED_AT = 128
ROWS_AXES = "batch *query *key"
KEPT = ("profiles", "spatial", "rows", "values", "between")


@dataclasses.dataclass
class Look:
    """What was seen of some pictures.

    Args:
        indices: The pictures' numbers in their split.
        images: uint8 (picture, channel, height, width), as the network saw them; clips have time before height.
        labels: (picture,)
        places: bool (picture, *space), the true places; None where they are not known.
        boxes: The first true box of each picture in its pixels, or None; of a clip, that in its middle frame.
        logits: (picture, class)
        network: Grad-CAM (picture, *grid) for the label; None for a network without places.
        axes: The axes of each tap.
        profiles: (picture, channel) of each tap that has channels: the gate, averaged over space.
        spatial: (picture, *grid) of each tap that has places: the gate averaged over channels, or how much attention
            each place is given by all.
        rows: (picture, *grid) of each tap with queries and keys: where the reference point looks.
        values: Whole maps of the first pictures.
        between: (picture, query frame, key frame) of each tap that links frames: the weight that one gives to another.
        points: (picture, 2), the reference point as (y, x) in 0..1: the middle of the true box, else of the picture; of
            clips (picture, 3), as (time, y, x), in the middle frame.
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
    between: dict[str, Tensor]
    points: Tensor

    @property
    def frames(self) -> int:
        """How many a clip has; 0 for pictures."""
        return self.images.shape[2] if self.images.ndim == 5 else 0


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


def spread_out(count: int, samples: Sequence[int], most: int = LOOKED_AT) -> list[int]:
    """The numbers of the pictures to look at, of `count`: the samples first, then others evenly spread; `most`."""
    spread = set(range(0, count, -(-count // most))) - set(samples)
    # Shuffled, for pictures often lie class by class, and some measures take the first few.
    return [*samples, *random.Random(0).sample(sorted(spread), len(spread))]


def look(
    network: nn.Module,
    new: Sequence[str],
    preprocess: Preprocess,
    split: Split | ClipSplit,
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
    stage = last_stage(network, preprocess.shape, features)
    samples = sample_set(split, preprocess)
    images, labels = samples.__getitems__(indices)
    places, boxes = true_places(samples, indices)
    points = torch.tensor([_middle(box, preprocess.size) for box in boxes])
    if preprocess.frames:
        middle = (preprocess.frames // 2 + 0.5) / preprocess.frames
        points = F.pad(points, (1, 0), value=middle)
    parts: list[dict[str, Any]] = []
    batch = CLIP_BATCH if preprocess.frames else BATCH
    for start in range(0, len(indices), batch):
        part = slice(start, start + batch)
        asked = labels[part].to(device) if labelled else None
        seen = _see(network, watched, stage, preprocess.normalise(images[part].to(device)), asked)
        parts.append(_digest(seen, watched, points[part], keep=start < HEALTH_PICTURES))
    joined = {name: _join([part[name] for part in parts]) for name in KEPT}
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
    parts |= {name: {} for name in KEPT}
    for name, values in maps.items():
        names = axes[name].split()
        if names[1:2] == ["channel"]:
            parts["profiles"][name] = values.flatten(2).mean(2).cpu() if values.ndim > 2 else values.cpu()
        if axes[name] == "batch *space" or axes[name] == "batch channel *space":
            flat = as_grid(values if names[1] == "*space" else values.mean(dim=1))
            if flat is not None:
                parts["spatial"][name] = flat.cpu()
        if axes[name] == ROWS_AXES and values.ndim == 5 and points.shape[1] == 2:
            parts["rows"][name] = _rows(values, points.to(values.device)).cpu()
            parts["spatial"][name] = values.mean(dim=(1, 2)).cpu()
        if points.shape[1] == 3 and values.ndim == film.AXES.get(axes[name]):
            parts["rows"][name] = film.row_at(values, axes[name], points.to(values.device)).cpu()
            parts["spatial"][name] = film.received(values, axes[name]).cpu()
            between = film.between_frames(values, axes[name])
            if between is not None:
                parts["between"][name] = between.cpu()
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


def true_places(samples: PictureSet, indices: Sequence[int]) -> tuple[Tensor | None, list[list[float] | None]]:
    """The true places of samples as the network sees them: masks (sample, *space) of their boxes, and for each sample
    its first box in pixels, of a clip that in the middle frame; None where none is known.
    """
    masks = torch.zeros(len(indices), *samples.preprocess.shape[1:], dtype=torch.bool)
    boxes: list[list[float] | None] = []
    for place, index in enumerate(indices):
        found = samples.boxes(index)
        boxes.append(None if found is None else found[len(found) // 2 if masks.ndim == 4 else 0].tolist())
        for frame, box in enumerate([] if found is None else found.tolist()):
            x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
            (masks[place, frame] if masks.ndim == 4 else masks[place])[y0:y1, x0:x1] = True
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
