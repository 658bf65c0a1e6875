"""The segments of a panoptic map in loops and with Pillow, step by step as the release of DETR makes them."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

LEAST_PIXELS = 4


def panoptic(
    logits: torch.Tensor,
    masks: torch.Tensor,
    is_stuff: list[bool],
    size: tuple[int, int],
    given: tuple[int, int],
    threshold: float,
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Of one picture.

    Args:
        logits: (query, class + 1), the last for no object.
        masks: Logits (query, height, width).
        is_stuff: Of each class.
        size: (height, width) of the picture.
        given: Of what the network got.
        threshold: The least probability of a query.

    Returns:
        Which of the segments each pixel has, (height, width), and the (class, area) of each segment.
    """
    kept, classes = [], []
    for query, row in enumerate(logits.softmax(dim=1)):
        best = int(row.argmax())
        if best != len(row) - 1 and row[best] > threshold:
            kept.append(F.interpolate(masks[None, None, query], given, mode="bilinear", align_corners=False)[0, 0])
            classes.append(best)
    joined: dict[int, list[int]] = {}
    for place, label in enumerate(classes):
        if is_stuff[label]:
            joined.setdefault(label, []).append(place)
    if not kept:
        return np.zeros(size, int), []
    drawn = draw(kept, size, joined)
    while True:
        areas = [int((drawn == place).sum()) for place in range(len(kept))]
        left = [place for place, area in enumerate(areas) if area > LEAST_PIXELS]
        if len(left) == len(kept):
            return drawn, list(zip(classes, areas, strict=True))
        kept, classes = [kept[place] for place in left], [classes[place] for place in left]
        if not kept:
            return np.zeros(size, int), []
        drawn = draw(kept, size, {})


def draw(masks: list[torch.Tensor], size: tuple[int, int], joined: dict[int, list[int]]) -> np.ndarray:
    """The highest mask of each pixel, those of a stuff joined, brought to a size by the nearest pixel."""
    height, width = masks[0].shape
    owner = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            values = [float(mask[row, column]) for mask in masks]
            best = values.index(max(values))
            for places in joined.values():
                if best in places:
                    best = places[0]
            owner[row, column] = best
    image = Image.fromarray(owner).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(image).astype(int)
