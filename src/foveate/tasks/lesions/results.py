"""What was found in a volume as JSON: the boxes of each slice, and the lesions that they make up."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from foveate.data.stacks import Stack
from foveate.tasks.detect.results import run_lengths
from foveate.tasks.lesions.found import Found
from foveate.tasks.lesions.preparation import Preparation, Ready, resized
from foveate.tasks.lesions.tracing import Lesion

__all__ = ["results_of"]


def results_of(
    name: str,
    stack: Stack,
    ready: Ready,
    found: Mapping[int, Found],
    lesions: Sequence[Lesion],
    preparation: Preparation,
) -> dict[str, Any]:
    """Annotations in COCO's layout, an image for each slice with a box, each box with the number of its lesion.

    Boxes are x, y, width, height in pixels of the file's own slices, cut and shown as `plane` says; slices are counted
    from 0 in the network's spacing, which "slice_mm" is.
    """
    _, height, width = ready.grid
    seen_height, seen_width = ready.stack.slices.shape[1:]
    scale = torch.tensor([width / seen_width, height / seen_height] * 2)
    number_of = {(index, box): lesion.number for lesion in lesions for index, box in lesion.boxes.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, here in found.items():
        if len(here):
            told = {"id": index, "file_name": name, "volume": name, "slice": index}
            images.append(told | {"height": height, "width": width})
        for box, edges in enumerate((here.boxes_xyxy * scale).tolist()):
            label = int(here.labels[box])
            sides = edges[2] - edges[0], edges[3] - edges[1]
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": index,
                "category_id": preparation.values[label],
                "bbox": [round(number, 2) for number in (*edges[:2], *sides)],
                "area": round(sides[0] * sides[1], 2),
                "iscrowd": 0,
                "score": round(float(here.scores[box]), 6),
                "lesion": number_of[index, box],
            }
            if here.masks is not None:
                mask = resized(here.masks[box][None].to(torch.uint8), (1, height, width), labels=True)
                entry["segmentation"] = run_lengths(mask[0])
            annotations.append(entry)
    named = zip(preparation.values, preparation.classes, strict=True)
    return {
        "plane": preparation.plane,
        "slices": len(ready),
        "slice_mm": ready.stack.spacing[0],
        "pixel_mm": list(stack.spacing[1:]),
        "lesions": [_lesion(lesion, preparation) for lesion in lesions],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": value, "name": kind} for value, kind in named],
    }


def _lesion(lesion: Lesion, preparation: Preparation) -> dict[str, Any]:
    return {
        "lesion": lesion.number,
        "category_id": preparation.values[lesion.label],
        "score": round(lesion.score, 6),
        "slices": list(lesion.slices),
        "surest_slice": lesion.surest,
    }
