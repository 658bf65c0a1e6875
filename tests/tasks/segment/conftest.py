"""A data set of bright balls in noise, in the layout of the Decathlon: oblique, with voxels of 1 x 1 x 2 mm."""

import json
from pathlib import Path

import numpy as np
import pytest

SHAPE = (20, 18, 10)


def affine(turn: float = 0.3) -> np.ndarray:
    """From voxels that run left, posterior and superior (LPS), turned about the last axis, to RAS millimetres."""
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    found = np.eye(4)
    found[:3, :3] = rotation @ np.diag([-1.0, -1.0, 2.0])
    found[:3, 3] = [17.25, -33.5, 8.125]
    return found


def write_case(folder: Path, number: int, label: bool = True) -> None:
    import nibabel

    random = np.random.default_rng(number)
    centre = random.uniform(0.35, 0.65, 3) * SHAPE
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    # A ball in millimetres.
    distance = np.sqrt(
        (((places - centre[:, None, None, None]) * np.array([1, 1, 2])[:, None, None, None]) ** 2).sum(0)
    )
    truth = (distance < 4).astype(np.uint8)
    image = random.normal(100, 10, SHAPE) + 100 * truth
    for name, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", truth)):
        if name == "labelsTr" and not label:
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(array, affine()).to_filename(folder / name / f"ball_{number:02}.nii.gz")


def write_balls(folder: Path, count: int) -> Path:
    for number in range(count):
        write_case(folder, number)
    files = [f"ball_{number:02}.nii.gz" for number in range(count)]
    about = {
        "name": "balls",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "ball"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in files],
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("volumes") / "balls", 10)
