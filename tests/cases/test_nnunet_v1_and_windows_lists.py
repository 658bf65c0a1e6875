"""dataset.json of nnU-Net v1, which lists c_0.nii.gz where c_0_0000.nii.gz stands, and lists with backslashes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.making import save_nifti

from foveate.data.nifti import read_nifti
from foveate.data.scans import read_case
from foveate.data.volumes import open_volumes
from foveate.errors import DataError


def dataset(folder: Path, suffixes: tuple[str, ...], slashes: str = "./{}/{}", **about) -> Path:
    listed = []
    for number in range(6):
        label = np.zeros((8, 8, 8), np.uint8)
        label[2:5, 2:5, 2:5] = 1
        for channel, suffix in enumerate(suffixes):
            save_nifti(folder / "imagesTr" / f"c_{number}{suffix}.nii.gz", label.astype(np.float32) + channel + number)
        save_nifti(folder / "labelsTr" / f"c_{number}.nii.gz", label)
        name = f"c_{number}.nii.gz"
        listed.append({"image": slashes.format("imagesTr", name), "label": slashes.format("labelsTr", name)})
    modality = {str(number): f"CT{number}" for number in range(len(suffixes))}
    said = {"modality": modality, "labels": {"0": "background", "1": "tumour"}, "training": listed, **about}
    (folder / "dataset.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("suffixes", [("_0000",), ("_0000", "_0001"), ("",)])
def test_the_channels_of_nnunet_v1_are_found_beside_the_listed_name(tmp_path: Path, suffixes):
    volumes = open_volumes(dataset(tmp_path, suffixes))
    assert volumes.names() == {"train": ["c_0", "c_1", "c_2", "c_3"], "val": ["c_4"], "test": ["c_5"]}
    volume = read_case(volumes.splits["train"][2], volumes)
    assert [float(channel.min()) for channel in volume.image] == [2.0 + channel for channel in range(len(suffixes))]
    assert volume.label is not None
    assert int(volume.label.sum()) == 27


def test_a_channel_of_nnunet_v1_that_is_missing_is_told(tmp_path: Path):
    volumes = open_volumes(dataset(tmp_path, ("_0000", "_0001", "_0002")))
    (tmp_path / "imagesTr" / "c_0_0001.nii.gz").unlink()
    volumes = open_volumes(tmp_path)
    with pytest.raises(DataError, match=r"c_0 must hold|c_0_0000\.nii\.gz must hold 3 channels"):
        read_case(volumes.splits["train"][0], volumes)


@pytest.mark.parametrize("slashes", [".\\{}\\{}", "{}\\{}", ".\\{}/{}"])
def test_lists_with_backslashes_are_read(tmp_path: Path, slashes):
    volumes = open_volumes(dataset(tmp_path, ("",), slashes))
    assert volumes.names()["train"] == ["c_0", "c_1", "c_2", "c_3"]
    assert read_case(volumes.splits["train"][0], volumes).label is not None


def test_nnunet_v1_with_backslashes_and_test_cases_is_read(tmp_path: Path):
    for number in (7, 8):
        save_nifti(tmp_path / "imagesTs" / f"c_{number}_0000.nii.gz", np.zeros((8, 8, 8), np.float32))
    listed = [f".\\imagesTs\\c_{number}.nii.gz" for number in (7, 8)]
    volumes = open_volumes(dataset(tmp_path, ("_0000",), ".\\{}\\{}", test=listed))
    assert [case.images[0].name for case in volumes.unused] == ["c_7_0000.nii.gz", "c_8_0000.nii.gz"]


@pytest.mark.parametrize("form", ["imagesTr\\c_{}.nii.gz", "imagesTr/c_{}.nii.gz", "c_{}_0000", "c_{}"])
def test_lists_of_splits_name_cases_in_any_of_these_ways(tmp_path: Path, form):
    names = [form.format(number) for number in range(6)]
    (tmp_path / "splits.json").write_text(json.dumps({"train": names[:4], "val": names[4:5], "test": names[5:]}))
    volumes = open_volumes(dataset(tmp_path / "data", ("_0000",)), split_file=tmp_path / "splits.json")
    assert volumes.names() == {"train": ["c_0", "c_1", "c_2", "c_3"], "val": ["c_4"], "test": ["c_5"]}


@pytest.mark.parametrize("shape", [(5, 7, 3, 1, 1), (5, 7, 3, 1, 2), (5, 7, 3, 2, 1), (5, 7, 1, 1, 2)])
def test_axes_of_length_1_after_the_third_are_dropped(tmp_path: Path, shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    read = read_nifti(save_nifti(tmp_path / "a.nii.gz", array)).array
    assert read.shape == (*shape[:3], *[size for size in shape[3:] if size > 1])
    assert np.array_equal(read.squeeze(), array.squeeze())


def test_five_axes_that_are_longer_are_refused(tmp_path: Path):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((5, 7, 3, 2, 2), np.float32))
    with pytest.raises(DataError, match=r"a\.nii\.gz must have three axes of space and at most one of channels; got"):
        read_nifti(path)


def test_python_runs_the_package():
    found = subprocess.run([sys.executable, "-m", "foveate", "--version"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
