"""What a trained detector attends to in slices: how it weighs those of a bag, and which places it lets through."""

import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foveate.capture import capture, health, pointing_hits
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import StackSplit
from foveate.files import write_atomic
from foveate.networks import MaskRCNN, bag_slices
from foveate.tasks.attention import HEALTH_VALUES, own_taps
from foveate.tasks.lesions.found import Found, found_in
from foveate.tasks.lesions.preparation import Preparation, Ready
from foveate.tasks.square import SIDE, Square

__all__ = ["Looked", "Sight", "covered", "look", "picture", "see", "shown", "write_maps"]

SAMPLES = 8  # slices whose maps are kept
LOOKED_AT = 64  # slices over which the rest is measured
SLICES, PLACES = "batch slice", "*space"  # axes of maps, whole and at their end
GREYS = 255


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen in one slice.

    Args:
        found: Boxes and masks.
        maps: Of each tap of the mechanism the map of this slice.
        axes: Of each tap.
        given: (height, width) of what the network got, without padding.
        padded: The same with padding.
    """

    found: Found
    maps: dict[str, Tensor]
    axes: dict[str, str]
    given: tuple[int, int]
    padded: tuple[int, int]

    def weights(self) -> dict[str, Tensor]:
        """Of each tap that weighs the slices of the bag: (bag)."""
        return {name: self.maps[name][0].float() for name, axes in self.axes.items() if axes == SLICES}

    def placed(self, size: Sequence[int]) -> dict[str, Tensor]:
        """Of each tap with places its map over a slice of (height, width), averaged over channels."""
        return {
            name: self.on_slice(self.maps[name][0].float(), size)
            for name, axes in self.axes.items()
            if axes.endswith(PLACES)
        }

    def on_slice(self, heat: Tensor, size: Sequence[int]) -> Tensor:
        """A map (*channel, rows, columns) of what the network got, over a slice of (height, width)."""
        flat = heat.reshape(1, -1, *heat.shape[-2:]).mean(dim=1, keepdim=True)
        whole = F.interpolate(flat, self.padded, mode="bilinear", align_corners=False)[
            ..., : self.given[0], : self.given[1]
        ]
        return F.interpolate(whole, tuple(size), mode="bilinear", align_corners=False)[0, 0]


def shown(axes: str) -> bool:
    """Whether a map with these axes can be drawn: over the slices of a bag, or over places."""
    return axes == SLICES or axes.endswith(PLACES)


def see(network: MaskRCNN, new: Sequence[str], ready: Ready, index: int) -> Sight:
    """Detect in a slice by its bag, and keep the mechanism's maps; by a network in evaluation mode."""
    axes, device = own_taps(network, new), next(network.parameters()).device
    image = ready.bag(index, network.bag).to(device)
    watched = capture(network, only=list(axes)) if axes else nullcontext({})
    with torch.no_grad(), watched as maps:
        (answer,) = network([image])
    resized = network.transform.resize(ready[index].to(device), None)[0]
    given, step = (resized.shape[-2], resized.shape[-1]), network.transform.size_divisible
    padded = (math.ceil(given[0] / step) * step, math.ceil(given[1] / step) * step)
    return Sight(found_in(answer), {name: maps[name].cpu() for name in axes}, axes, given, padded)


def pick_slices(facts: Sequence[StackFacts], most: int) -> list[tuple[int, int]]:
    """At most so many (volume, slice) with a lesion, evenly spread over a split, the same for every network."""
    places = [(number, at) for number, held in enumerate(facts) for at in held.with_lesion]
    kept = min(len(places), most)
    return [places[(2 * number + 1) * len(places) // (2 * kept)] for number in range(kept)]


@dataclass(frozen=True, eq=False)
class Looked:
    """What was measured over some slices with a lesion.

    Args:
        health: Of each tap of the mechanism; see foveate.capture.health.
        pointing: How often the highest value of a map lies in a lesion, and how often by chance.
        neighbours: The share of weight that slices of the bag have which are not the target, averaged over slices and
            taps; None where no slices are weighed.
    """

    health: dict[str, dict[str, Any]]
    pointing: dict[str, Any]
    neighbours: float | None


def look(
    network: MaskRCNN,
    new: Sequence[str],
    preparation: Preparation,
    split: StackSplit,
    facts: Sequence[StackFacts],
) -> Looked:
    """Look at slices of a split, and sum up."""
    kept: dict[str, list[Tensor]] = {}
    hits: dict[str, list[bool]] = {}
    chance: list[float] = []
    away: list[float] = []
    axes: dict[str, str] = {}
    for ready, places in _by_volume(preparation, split, pick_slices(facts, LOOKED_AT)):
        for index in places:
            sight = see(network, new, ready, index)
            axes = sight.axes
            for name, values in sight.maps.items():
                held = kept.setdefault(name, [])
                if len(held) < max(2, HEALTH_VALUES // values.numel()) and all(values.shape == x.shape for x in held):
                    held.append(values.float())
            true = covered(ready, index)
            chance.append(true.float().mean().item())
            for name, heat in sight.placed(true.shape).items():
                hits.setdefault(name, []).append(bool(pointing_hits(heat[None], true[None])))
            if network.include_target:
                away += [_away(weights, index, ready, network) for weights in sight.weights().values()]
    taps = {name: sum(each) / len(each) for name, each in hits.items()}
    return Looked(
        {name: dict(health(torch.cat(held), axes[name])) for name, held in kept.items() if len(held) > 1},
        {
            "network": None,
            "mechanism": sum(taps.values()) / len(taps) if taps else None,
            "chance": sum(chance) / len(chance) if chance else None,
            "samples": len(chance),
            "taps": taps,
        },
        sum(away) / len(away) if away else None,
    )


def _away(weights: Tensor, index: int, ready: Ready, network: MaskRCNN) -> float:
    """The weight of the pictures of a bag that show another slice than the target, which stands again beyond an end."""
    bag = bag_slices(index, len(ready), network.bag, ready.bag_stride)
    return sum(weight for other, weight in zip(bag, weights.tolist(), strict=True) if other != index)


def covered(ready: Ready, index: int) -> Tensor:
    """Where in a slice lesions are, by their masks or else their boxes, bool (height, width)."""
    objects, masks = ready.stack.objects(index)
    if masks is not None:
        return masks.any(dim=0)
    where = torch.zeros(ready.stack.slices.shape[1:], dtype=torch.bool)
    for left, top, right, bottom in objects.boxes_xyxy.tolist():
        where[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return where


def _by_volume(
    preparation: Preparation, split: StackSplit, places: Sequence[tuple[int, int]]
) -> Iterator[tuple[Ready, list[int]]]:
    """Each volume made ready once, with the slices that are asked for."""
    for number, group in groupby(places, key=lambda place: place[0]):
        yield preparation.prepare(split.stack(number)), [index for _, index in group]


def write_maps(
    folder: Path,
    network: MaskRCNN,
    new: Sequence[str],
    preparation: Preparation,
    split: StackSplit,
    facts: Sequence[StackFacts],
    score: float,
) -> None:
    """Write maps.npz and maps.json: a few test slices with the true and the found lesions, the mechanism's maps over
    them, and how it weighs the slices of their bags. The slices are the same in every arm of a study.
    """
    arrays: dict[str, list[np.ndarray[Any, Any]]] = {}
    samples: list[dict[str, Any]] = []
    axes: dict[str, str] = {}
    for ready, places in _by_volume(preparation, split, pick_slices(facts, SAMPLES)):
        for index in places:
            sight = see(network, new, ready, index)
            axes = sight.axes
            for key, drawn in _drawn(sight, ready, index, score).items():
                arrays.setdefault(key, []).append(drawn)
            samples.append(
                {
                    "index": index,
                    "name": f"{ready.stack.name}, slice {index}",
                    "label": _told(ready.stack.objects(index)[0].labels, preparation),
                    "prediction": _told(sight.found.above(score).labels, preparation),
                    "box_xyxy": None,
                }
            )
    if not samples:
        return
    entries = [{"tap": "prediction", "kind": "prediction", "key": "prediction"}]
    kinds = {name: "slices" if names == SLICES else "spatial" for name, names in axes.items()}
    entries += [
        {"tap": name, "kind": kinds[name], "key": name} for name in reversed(axes) if name in arrays
    ]  # the finest level last, which is seen first
    body = io.BytesIO()
    np.savez_compressed(body, **{name: np.stack(each) for name, each in arrays.items()})  # pyright: ignore[reportArgumentType]
    write_atomic(folder / "maps.npz", body.getvalue())
    classes = ["nothing", *preparation.classes]
    told = {"samples": samples, "classes": classes, "image_size": [SIDE, SIDE], "maps": entries}
    write_atomic(folder / "maps.json", json.dumps(told, indent=1) + "\n")


def _drawn(sight: Sight, ready: Ready, index: int, score: float) -> dict[str, np.ndarray[Any, Any]]:
    """What is kept of a slice, by its key."""
    grey = picture(ready, index)
    size = (grey.shape[1], grey.shape[2])
    fit = Square(size)
    objects, masks = ready.stack.objects(index)
    found = sight.found.above(score)
    arrays = {
        "images": fit(grey.permute(1, 2, 0).numpy(), Image.Resampling.BILINEAR, 0),
        "truth": fit(painted(objects.boxes_xyxy, objects.labels, masks, size), Image.Resampling.NEAREST, 0),
        "prediction": fit(painted(found.boxes_xyxy, found.labels, found.masks, size), Image.Resampling.NEAREST, 0),
    }
    arrays |= {
        name: fit(heat.numpy(), Image.Resampling.BILINEAR, math.nan) for name, heat in sight.placed(size).items()
    }
    return arrays | {name: weights.numpy() for name, weights in sight.weights().items()}


def picture(ready: Ready, index: int) -> Tensor:
    """A slice as a grey picture, uint8 (3, height, width)."""
    return (ready.stack.slices[index] * GREYS).round().to(torch.uint8).expand(3, -1, -1)


def painted(boxes_xyxy: Tensor, labels: Tensor, masks: Tensor | None, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The class of each pixel, counted from 1; by masks, or else by boxes; the first ones above the others."""
    where = np.zeros(size, np.uint8)
    for number in reversed(range(len(labels))):
        if masks is not None:
            where[masks[number].numpy()] = int(labels[number]) % 255 + 1
        else:
            left, top, right, bottom = (max(0, round(edge)) for edge in boxes_xyxy[number].tolist())
            where[top:bottom, left:right] = int(labels[number]) % 255 + 1
    return where


def _told(labels: Tensor, preparation: Preparation) -> str:
    """Names of classes with how often each is there."""
    names = [preparation.classes[label] for label in labels.tolist()]
    counts = {name: names.count(name) for name in sorted(names)}
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items()) or "nothing"
