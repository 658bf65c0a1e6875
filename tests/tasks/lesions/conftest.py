"""Volumes of CT-like noise with bright balls, in the layout of the Decathlon, each in an orientation of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

SHAPE = (24, 20, 8)  # along right, anterior and superior
VOXEL = (1.0, 1.0, 2.0)
RADIUS = 4.5  # mm


def place(number: int) -> np.ndarray:
    """The middle of the ball of a volume, in voxels along right, anterior and superior."""
    return np.random.default_rng(number).uniform(0.3, 0.7, 3) * SHAPE


def truth_of(number: int) -> np.ndarray:
    """Where the ball is, along right, anterior and superior."""
    there = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    steps = (there - place(number)[:, None, None, None]) * np.array(VOXEL)[:, None, None, None]
    return (np.sqrt((steps**2).sum(axis=0)) < RADIUS).astype(np.uint8)


def oriented(array: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """An array along right, anterior and superior as a file may hold it, and the affine of that file."""
    affine = np.diag([*VOXEL, 1.0])
    affine[:3, 3] = 10 + number
    if number % 3 == 1:  # left, posterior, superior
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        flip[:2, 3] = SHAPE[0] - 1, SHAPE[1] - 1
        return np.ascontiguousarray(array[::-1, ::-1]), affine @ flip
    if number % 3 == 2:  # inferior, right, anterior
        order = np.zeros((4, 4))
        order[[0, 1, 2, 3], [1, 2, 0, 3]] = 1, 1, -1, 1
        order[2, 3] = SHAPE[2] - 1
        return np.ascontiguousarray(np.moveaxis(array, 2, 0)[::-1]), affine @ order
    return array, affine


def write_volume(folder: Path, number: int, name: str, *, empty: bool = False, slices: int | None = None) -> None:
    import nibabel

    truth = truth_of(number) * (not empty)
    image = np.random.default_rng(100 + number).normal(-50, 20, SHAPE) + 150 * truth
    kept = np.s_[:, :, : slices or SHAPE[2]]
    for where, array in (("imagesTr", image.astype(np.float32)[kept]), ("labelsTr", truth[kept])):
        (folder / where).mkdir(parents=True, exist_ok=True)
        held, affine = oriented(array, number) if slices is None else (array, np.diag([*VOXEL, 1.0]))
        nibabel.Nifti1Image(held, affine).to_filename(folder / where / f"{name}.nii.gz")


def write_lesions(folder: Path, count: int = 10, channels: tuple[str, ...] = ("CT",)) -> Path:
    names = [f"ball_{number:02}" for number in range(count)]
    for number, name in enumerate(names):
        write_volume(folder, number, name, empty=number == 2, slices=1 if number == 3 else None)
    about = {
        "name": "balls",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": {"0": "background", "1": "ball"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lesions(tmp_path_factory.mktemp("volumes") / "lesions")
