"""Small stacks made by hand."""

import torch

from foveate.data.intensity import Intensity
from foveate.data.stacks import Stack
from foveate.tasks.lesions.preparation import Preparation


def stack(depth: int = 6, size: tuple[int, int] = (12, 10), spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)):
    """A stack whose slices hold their own number, with a lesion of 3 x 4 pixels in slices 2 and 3."""
    slices = torch.arange(depth, dtype=torch.float32)[:, None, None].expand(depth, *size).clone()
    instances = torch.zeros(depth, *size, dtype=torch.int32)
    instances[2:4, 5:8, 1:5] = 1
    known = torch.ones(depth, dtype=torch.bool)
    return Stack("s", slices, spacing, instances, torch.tensor([0]), {}, known)


def preparation(**changes) -> Preparation:
    usual = {
        "classes": ["lesion"],
        "values": [1],
        "modality": "CT",
        "modalities": ["CT"],
        "plane": "axial",
        "intensity": Intensity("window", 0.0, 10.0),
        "slice_mm": None,
        "pixel_mm": None,
        "bag_stride": 1,
        "bag_mm": None,
        "masks": True,
        "norm": "batch",
        "norm_eps": 1e-5,
    }
    return Preparation(**usual | changes)
