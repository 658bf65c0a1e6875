"""Panoptic segmentation: every pixel of a picture belongs to one segment at most, a thing by itself or all of a stuff.

Kirillov et al., "Panoptic Segmentation", CVPR 2019, https://arxiv.org/abs/1801.00868; the queries' masks become
segments as in the release of Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020,
https://arxiv.org/abs/2005.12872: confident queries compete for each pixel, segments of a stuff are joined, and those of
which next to nothing is left are taken out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foveate.tasks.detect.preparation import Preparation

__all__ = ["CONFIDENT", "Segment", "as_png", "panoptic"]

CONFIDENT = 0.85
LEAST_PIXELS = 4  # and no more are too few


@dataclass(frozen=True)
class Segment:
    """One segment.

    Args:
        id: Its number in the map.
        label: Its class.
        score: Of its query, the first one where several are joined.
        area: In pixels.
        box: Left, top, width and height.
    """

    id: int
    label: int
    score: float
    area: int
    box: tuple[int, int, int, int]


def panoptic(
    answer: Mapping[str, Tensor],
    preparation: Preparation,
    size: tuple[int, int],
    given: tuple[int, int],
    threshold: float = CONFIDENT,
) -> tuple[Tensor, list[Segment]]:
    """The segments of a single picture.

    Args:
        answer: pred_logits (1, query, class + 1) and pred_masks (1, query, height, width).
        preparation: Says which classes are stuff.
        size: (height, width) of the picture.
        given: Of what the network got.
        threshold: The least score of a query.

    Returns:
        int64 (height, width), 0 where there is no segment, and the segments that it holds.
    """
    probabilities = answer["pred_logits"][0].float().softmax(dim=-1)
    scores, labels = probabilities.max(dim=-1)
    kept = ((labels != probabilities.shape[-1] - 1) & (scores > threshold)).nonzero()[:, 0]
    logits = F.interpolate(answer["pred_masks"].float(), given, mode="bilinear", align_corners=False)[0]
    owner = _owners(logits[kept], size, labels[kept], preparation)
    while len(kept):
        small = torch.bincount(owner.flatten(), minlength=len(kept)) <= LEAST_PIXELS
        if not small.any():
            return _numbered(owner, labels[kept].tolist(), scores[kept].tolist())
        kept = kept[~small]
        owner = _owners(logits[kept], size)  # not joined again: one query of each stuff is left
    return torch.zeros(size, dtype=torch.long), []


def _owners(
    logits: Tensor, size: tuple[int, int], labels: Tensor | None = None, preparation: Preparation | None = None
) -> Tensor:
    """Which query has each pixel of the picture: the one of the highest logit, or the first one of its stuff."""
    if not len(logits):
        return torch.zeros(size, dtype=torch.long)
    owner = logits.argmax(dim=0)
    if labels is not None and preparation is not None:
        owner = _join(owner, labels, preparation)
    # By Pillow, as in the release: who is nearest at a tie is a matter of rounding, and so another one elsewhere.
    drawn = Image.fromarray(owner.cpu().numpy().astype(np.int32))
    return torch.from_numpy(np.array(drawn.resize((size[1], size[0]), Image.Resampling.NEAREST))).long()


def _join(owner: Tensor, labels: Tensor, preparation: Preparation) -> Tensor:
    """Give the pixels of all queries of a stuff to the first of them."""
    stuff = [preparation.category_ids.index(number) for number in preparation.stuff]
    for label in stuff:
        of_it = (labels == label).nonzero()[:, 0]
        if len(of_it) > 1:
            owner = torch.where(torch.isin(owner, of_it), of_it[0], owner)
    return owner


def _numbered(owner: Tensor, labels: list[int], scores: list[float]) -> tuple[Tensor, list[Segment]]:
    numbers = torch.zeros_like(owner)
    segments = []
    for query in owner.unique().tolist():
        mask = owner == query
        rows, columns = mask.nonzero().unbind(dim=1)
        left, top = int(columns.min()), int(rows.min())
        box = (left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)
        numbers[mask] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, labels[query], scores[query], int(mask.sum()), box))
    return numbers, segments


def as_png(numbers: Tensor) -> np.ndarray:
    """A map as COCO keeps it, uint8 (height, width, 3): red + 256 green + 65536 blue is the number of a segment."""
    return torch.stack([numbers // 256**power % 256 for power in range(3)], dim=-1).to(torch.uint8).numpy()
