"""Answers of a detector and what they should have been, at random."""

import torch
from torch import Tensor

from foveate.tasks.detect.targets import Target


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    """cx, cy, w, h of boxes within the picture."""
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high = corners.amin(dim=-2), corners.amax(dim=-2)
    return torch.cat(((low + high) / 2, high - low + 1e-3), dim=-1)


def random_targets(*counts: int, classes: int = 5) -> list[Target]:
    labels = [torch.arange(count) * 7 % classes for count in counts]
    return [Target(label, random_boxes(len(label), seed=100 + seed)) for seed, label in enumerate(labels)]


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
