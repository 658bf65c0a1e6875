"""A COCO data set of coloured squares and discs on noise, in pictures of several shapes, and a run trained on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.run import train

SIZES = ((36, 52), (48, 40), (44, 44), (36, 60))  # (height, width)
CATEGORIES = [{"id": 11, "name": "disc", "supercategory": "shape"}, {"id": 3, "name": "square"}]  # with gaps, unsorted
COLOURS = {3: (230, 40, 40), 11: (40, 60, 230)}
COUNTS = {"train": 8, "val": 3, "test": 4}
OPTIONS = {"embed_dim": 16, "num_heads": 2, "hidden_channels": 24, "encoder_layers": 1, "decoder_layers": 2}
SETTINGS: dict[str, Any] = {
    "network": "detr_tiny",
    "network_options": OPTIONS,
    "width": 0.25,
    "batch_size": 2,
    "epochs": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
    "threads": 1,
    "short": 32,
    "validate_every": 1,
}


def polygon(category: int, left: int, top: int, side: int) -> list[float]:
    """The outline of a square, or of a disc."""
    if category == 3:
        return [left, top, left + side, top, left + side, top + side, left, top + side]
    turns = np.arange(24) * 2 * np.pi / 24
    radius = side / 2
    points = np.stack([left + radius + radius * np.cos(turns), top + radius + radius * np.sin(turns)], axis=1)
    return points.ravel().round(2).tolist()


def draw(path: Path, number: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    """A picture with one to three objects, each in its third; the last one of some is called a crowd. Its annotations,
    without ids.
    """
    height, width = size
    random = np.random.default_rng(number)
    image = random.integers(90, 130, (height, width, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width] + 0.5
    annotations: list[dict[str, Any]] = []
    for place in range(number % 3 + 1):
        category, side = int(random.choice([3, 11])), int(random.integers(9, 14))
        left = place * (width // 3) + int(random.integers(0, width // 3 - side + 1))
        top = int(random.integers(0, height - side + 1))
        across, down = abs(columns - left - side / 2), abs(rows - top - side / 2)
        inside = (np.maximum(across, down) if category == 3 else np.hypot(across, down)) < side / 2
        image[inside] = COLOURS[category]
        is_crowd = number % 7 == 2 and place == 2
        annotations.append(
            {
                "category_id": category,
                "bbox": [left, top, side, side],
                "area": int(inside.sum()),
                "iscrowd": int(is_crowd),
                "segmentation": crowd(inside) if is_crowd else [polygon(category, left, top, side)],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return annotations


def crowd(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths, which count column by column and begin with what is outside."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def write_shapes(folder: Path, counts: dict[str, int] = COUNTS, **changes: Any) -> Path:
    """A json file for each split in annotations/, and the pictures in folders named like the splits."""
    number = 0
    for split, count in counts.items():
        images, annotations = [], []
        for _ in range(count):
            size, name = SIZES[number % len(SIZES)], f"shapes {number:03}.png"
            images.append({"id": 1000 + 7 * number, "file_name": name, "height": size[0], "width": size[1]})
            for entry in draw(folder / split / name, number, size):
                annotations.append({"id": len(annotations) + 1, "image_id": images[-1]["id"], **entry})
            number += 1
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES} | changes
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def small(data: Path, **changes: Any) -> DetectConfig:
    """A run that takes a second."""
    return DetectConfig(**{"data": str(data), **SETTINGS, **changes})


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("scenes") / "data")


@pytest.fixture(scope="session")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run that finds boxes, with a mechanism built in."""
    folder = tmp_path_factory.mktemp("detect") / "run"
    train(small(scenes, mechanism="eca+spatial"), folder)
    return folder


@pytest.fixture(scope="session")
def masked(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run that finds boxes and masks."""
    folder = tmp_path_factory.mktemp("detect") / "masked"
    train(small(scenes, masks=True, epochs=1, network_options=OPTIONS | {"embed_dim": 64, "num_heads": 8}), folder)
    return folder
