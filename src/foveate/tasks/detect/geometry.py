"""Boxes: their two ways of writing, and how far two of them overlap.

Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, https://arxiv.org/abs/1902.09630.
"""

import torch
from torch import Tensor

__all__ = ["cxcywh", "giou", "xyxy"]


def xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """From centre and size to corners: (..., 4) -> (..., 4)."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """From corners to centre and size: (..., 4) -> (..., 4)."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def giou(one_xyxy: Tensor, other_xyxy: Tensor) -> Tensor:
    """Intersection / union - (hull - union) / hull, from -1 to 1; without area there is no overlap, and no NaN.

    Shape:
        (..., 4), (..., 4) -> (...), whose axes broadcast: (box, 1, 4) and (other, 4) give every pair.
    """
    left, top, right, bottom = one_xyxy.unbind(-1)
    left2, top2, right2, bottom2 = other_xyxy.unbind(-1)
    width = (right.minimum(right2) - left.maximum(left2)).clamp(min=0)
    height = (bottom.minimum(bottom2) - top.maximum(top2)).clamp(min=0)
    intersection = width * height
    union = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - intersection
    hull = (right.maximum(right2) - left.minimum(left2)) * (bottom.maximum(bottom2) - top.minimum(top2))
    least = torch.finfo(union.dtype).eps ** 2  # of boxes of no area; nothing that can be seen is as small
    return intersection / union.clamp(min=least) - (hull - union) / hull.clamp(min=least)
