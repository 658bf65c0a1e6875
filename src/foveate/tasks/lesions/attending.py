"""What each found lesion drew on: the slices of its bag with their weights, and the places that were let through."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.escaping import TableWriter
from foveate.files import write_atomic
from foveate.networks import MaskRCNN, bag_slices
from foveate.tasks.detect.drawing import Panel
from foveate.tasks.lesions.looks import Sight, picture, see
from foveate.tasks.lesions.preparation import Ready
from foveate.tasks.lesions.tracing import Lesion

__all__ = ["COLUMNS", "Drawn", "drawn_on", "panels", "write_weights"]

COLUMNS = ("volume", "lesion", "class", "score", "slice", "level", "tap", "bag_slice", "away_mm", "weight")
PREFIX = "backbone.attention."


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a lesion drew on in the slice where it is surest.

    Args:
        lesion: The lesion.
        level: Of the pyramid, from which its box was read.
        bag: The slices of the bag, in its order.
        weights: By tap of the lesion's level: (bag).
        places: By tap of the lesion's level: (height, width) of the slice.
    """

    lesion: Lesion
    level: str
    bag: list[int]
    weights: dict[str, Tensor]
    places: dict[str, Tensor]


def drawn_on(network: MaskRCNN, new: Sequence[str], ready: Ready, lesion: Lesion) -> Drawn:
    """Look at a lesion's slice by its bag, and keep the maps of the level from which its box was read."""
    sight = see(network, new, ready, lesion.surest)
    level = level_of(network, sight, lesion.box_xyxy, ready.stack.slices.shape[1:])
    bag = bag_slices(lesion.surest, len(ready), network.bag, ready.bag_stride)
    if not network.include_target:
        del bag[network.bag // 2]
    own = f"{PREFIX}{network.backbone.attended.get(level, level)}."
    weights = {name: each for name, each in sight.weights().items() if name.startswith(own)}
    places = {name: each for name, each in sight.placed(ready.stack.slices.shape[1:]).items() if name.startswith(own)}
    return Drawn(lesion, level, bag, weights, places)


def level_of(network: MaskRCNN, sight: Sight, box_xyxy: Sequence[float], size: Sequence[int]) -> str:
    """The level of the pyramid from which a box in a slice of (height, width) is read."""
    scale = torch.tensor([sight.given[1] / size[1], sight.given[0] / size[0]] * 2)
    pool: Any = network.roi_heads.box_roi_pool
    return pool.featmap_names[int(pool.map_levels([torch.tensor([list(box_xyxy)]) * scale])[0])]


def panels(drawn: Drawn, ready: Ready) -> list[Panel]:
    """The slices of the bag with their weights, then the target with what was let through."""
    box = [drawn.lesion.box_xyxy]
    sheet = []
    for place, index in enumerate(drawn.bag):
        away = (index - drawn.lesion.surest) * ready.stack.spacing[0]
        told = ", ".join(f"{_short(tap)} {float(weights[place]):.2f}" for tap, weights in drawn.weights.items())
        sheet.append(Panel(f"slice {index} ({away:+.3g} mm)\n{told}".strip(), picture(ready, index), None, box))
    target = picture(ready, drawn.lesion.surest)
    sheet += [
        Panel(f"{_short(tap)}, {float(heat.min()):.2g} to {float(heat.max()):.2g}", target, heat, box)
        for tap, heat in drawn.places.items()
    ]
    return sheet


def _short(tap: str) -> str:
    return tap.rpartition(".")[2].replace("_", " ")


def write_weights(path: Path, seen: Sequence[tuple[str, Ready, Drawn]], classes: Sequence[str]) -> Path:
    """Write how each lesion of each volume weighs the slices of its bag."""
    text = io.StringIO()
    writer = TableWriter(text)
    writer.writerow(COLUMNS)
    for name, ready, drawn in seen:
        lesion = drawn.lesion
        first = [name, lesion.number, classes[lesion.label], f"{lesion.score:.6g}", lesion.surest, drawn.level]
        for tap, weights in drawn.weights.items():
            for index, weight in zip(drawn.bag, weights.tolist(), strict=True):
                away = (index - lesion.surest) * ready.stack.spacing[0]
                writer.writerow([*first, tap, index, f"{away:.6g}", f"{weight:.6g}"])
    write_atomic(path, text.getvalue())
    return path
