from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MedMNIST file of three easy classes: a bright bar lying, a bright bar standing, and a square; grey, 16x16."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 57), ("val", 18), ("test", 18)):
        images = random.integers(0, 60, (count, 16, 16), np.uint8)
        labels = np.arange(count) % 3
        for image, label in zip(images, labels, strict=True):
            top, left = random.integers(0, 8, 2)
            height, width = [(3, 8), (8, 3), (5, 5)][label]
            image[top : top + height, left : left + width] += 180
        arrays |= {f"{name}_images": images, f"{name}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("data") / "shapes.npz"
    np.savez(path, **arrays)
    return path
