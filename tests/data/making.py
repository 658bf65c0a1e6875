"""Small NIfTI files, DICOM series and data sets for the tests of this room."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

# Slabs of 5 mm, tilted about two axes, counted from left to right and from the back to the front (LPS).
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = [[-0.7, 0.05, 0.4], [-0.08, -0.65, 1.1], [0.06, 0.2, 4.86]]
OBLIQUE[:3, 3] = [91.3, -127.7, 33.123]


def real_data(name: str) -> Path:
    """A folder of real data; skips the test where there is none."""
    folder = Path(os.environ.get("FOVEATE_DATA") or SHARED) / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; FOVEATE_DATA may name the folder that holds {name}")
    return folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)


def blob(*shape: int, classes: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None, **fields: Any) -> Path:
    """Write a file; fields of the header are set last, as they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).header
    for name, value in fields.items():
        header[name] = value
    nibabel.Nifti1Image(array, None, header).to_filename(path)
    return path


def save_picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def decathlon(root: Path, count: int = 3, shape: Sequence[int] = (5, 7, 3), **about: Any) -> Path:
    """A data set of two classes in the Decathlon's layout; `about` goes into its dataset.json."""
    cases = []
    for number in range(count):
        name = f"case_{number}.nii.gz"
        save_nifti(root / "imagesTr" / name, noise(*shape, seed=number), OBLIQUE)
        save_nifti(root / "labelsTr" / name, blob(*shape[:3], seed=number), OBLIQUE)
        cases.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    said = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "liver"}, "training": cases, **about}
    (root / "dataset.json").write_text(json.dumps(said))
    return root


def pairs(root: Path, count: int = 3, names: str = "{}.png", masks: str = "masks", top: int = 255) -> Path:
    """Grey pictures and their masks in two folders."""
    for number in range(count):
        save_picture(root / "images" / names.format(number), noise(5, 7, seed=number).astype(np.uint8))
        save_picture(root / masks / names.format(number), blob(5, 7, seed=number) * np.uint8(top))
    return root
