"""Numbers in headers that are no numbers: one sentence with file and field, in every command that reads scans."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cases.calling import foveate
from tests.data.making import noise, save_nifti, save_picture
from tests.data.series import save_slice

from foveate.data.dicom import read_series
from foveate.data.nifti import read_nifti
from foveate.data.planes import read_plane
from foveate.errors import DataError


def series(folder: Path, **odd) -> Path:
    """Slices that are not named in their order, of which the fourth has some other fields."""
    for number in range(6):
        stored = np.full((16, 16), 10 * number, np.uint16)
        place = odd.get("place", (0, 0, number)) if number == 3 else (0, 0, number)
        fields = {"Modality": "MR", "RescaleIntercept": 0}
        fields |= {name: value for name, value in odd.items() if name != "place" and number == 3}
        save_slice(folder / f"{number * 5 % 6}.dcm", stored, place, **fields)
    return folder


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"place": ["nan"] * 3}, r"3\.dcm must have a finite ImagePositionPatient.*it is \[nan, nan, nan\]"),
        ({"place": [0, 0, "inf"]}, r"3\.dcm must have a finite ImagePositionPatient.*it is \[0\.0, 0\.0, inf\]"),
        ({"place": [0, 0, "1e30"]}, r"3\.dcm must have an ImagePositionPatient of at most 1e\+06 mm"),
        ({"RescaleSlope": "nan"}, r"3\.dcm must have a finite RescaleSlope.*it is nan"),
        ({"RescaleSlope": "1e300"}, r"3\.dcm must have a finite RescaleSlope.*it is 1e\+300"),
        ({"RescaleSlope": "1e38"}, r"3\.dcm must hold finite values; of its 256 voxels it has 256 that are infinite"),
        ({"RescaleSlope": 0}, r"3\.dcm must have a RescaleSlope other than 0"),
        ({"RescaleIntercept": "-inf"}, r"3\.dcm must have a finite RescaleIntercept.*it is -inf"),
        ({"PixelSpacing": [0, 0]}, r"3\.dcm must have a positive PixelSpacing; it is \[0\.0, 0\.0\]"),
        ({"PixelSpacing": ["nan", 1]}, r"3\.dcm must have a finite PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, "nan", 0]}, r"3\.dcm must have a finite ImageOrientationPatient"),
        ({"SliceThickness": "nan"}, r"3\.dcm must have a finite SliceThickness"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_slice_is_named_with_its_tag(tmp_path: Path, odd, told):
    with pytest.raises(DataError, match=told):
        read_series(series(tmp_path, **odd))


@pytest.mark.parametrize("spacing", [1e-30, 1e30])
def test_a_pixel_of_a_size_that_there_is_not_is_refused(tmp_path: Path, spacing):
    save_slice(tmp_path / "0.dcm", np.zeros((4, 4), np.uint16), (0, 0, 0), PixelSpacing=[spacing, spacing])
    with pytest.raises(DataError, match=r"must have voxels with sides from 1e-06 to 10000 mm; got"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"srow_x": [np.nan, 0, 0, 0], "sform_code": 1}, r"a\.nii must have finite numbers in its header; srow_x is"),
        ({"srow_z": [0, 0, 1, np.inf], "sform_code": 1}, r"a\.nii must have finite numbers in its header; srow_z is"),
        ({"quatern_b": np.nan, "qform_code": 1}, r"a\.nii must have finite numbers in its header; quatern_b is nan"),
        ({"qoffset_x": np.inf, "qform_code": 1}, r"a\.nii must have finite numbers in its header; qoffset_x is inf"),
        ({"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, r"a\.nii must have finite numbers in its header; pixdim is \[nan"),
        ({"srow_x": [1e20, 0, 0, 0], "sform_code": 1}, r"a\.nii (must have voxels with sides|contradicts itself)"),
        ({"srow_x": [1, 0, 0, 1e9], "sform_code": 1}, r"a\.nii must lie within 1e\+06 mm of the origin"),
    ],
)
def test_a_nifti_file_is_named_with_its_field(tmp_path: Path, fields, told):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3), **fields)
    with pytest.raises(DataError, match=told):
        read_nifti(path)


@pytest.mark.parametrize(("at", "value"), [(112, np.nan), (112, np.inf), (116, np.nan)])
def test_a_nifti_slope_that_is_no_number_is_told(tmp_path: Path, at, value):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3))
    content = bytearray(path.read_bytes())
    content[at : at + 4] = np.float32(value).tobytes()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii must have finite numbers in its header; scl_(slope|inter) is"):
        read_nifti(path)


def test_a_picture_of_fractions_that_are_no_numbers_is_told(tmp_path: Path):
    pixels = noise(5, 7)
    pixels[2, 3] = np.nan
    with pytest.raises(DataError, match=r"a\.tif must hold finite values; of its 35 voxels it has 1 that are not a nu"):
        read_plane(save_picture(tmp_path / "a.tif", pixels), 1)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_every_command_tells_the_same_sentence(tmp_path: Path):
    data, out = tmp_path / "data", tmp_path / "run"
    for number in range(6):
        label = np.zeros((16, 16, 6), np.uint8)
        label[4:9, 4:9, 2:4] = 1
        image = noise(16, 16, 6, seed=number) + 100 * label
        save_nifti(data / "imagesTr" / f"c_{number}.nii.gz", image)
        save_nifti(data / "labelsTr" / f"c_{number}.nii.gz", label)
    names = [f"c_{number}.nii.gz" for number in range(6)]
    listed = [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    about = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "ball"}, "training": listed}
    (data / "dataset.json").write_text(json.dumps(about))
    options = ["--network", "attention-unet", "--epochs", 1, "--set", "patch_size=[16,16,16]"]
    options += ["--set", "patches_per_epoch=2", "--out"]
    done = foveate("train", "segment", "--data", data, *options, out)
    assert done.status == 0, done.told
    broken = series(tmp_path / "slices", RescaleSlope="nan")
    for command in ("predict", "attend"):
        done = foveate(command, out, broken, "--out", tmp_path / command)
        assert (done.status, "3.dcm must have a finite RescaleSlope" in done.told) == (2, True)
        assert not list((tmp_path / command).glob("*"))
    save_nifti(data / "imagesTr" / names[5], noise(16, 16, 6, seed=5), srow_x=[np.nan, 0, 0, 0], sform_code=1)
    done = foveate("evaluate", out)
    assert (done.status, "with another size, such as c_5" in done.told) == (2, True)
    done = foveate("evaluate", out, "--accept-changed-data")
    assert (done.status, "c_5.nii.gz must have finite numbers in its header" in done.told) == (2, True)
    done = foveate("train", "segment", "--data", data, *options, tmp_path / "other")
    assert (done.status, "c_5.nii.gz must have finite numbers in its header" in done.told) == (2, True)
