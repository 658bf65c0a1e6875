"""A NIfTI whose sform is of 1 mm and whose pixdim and qform say 1.3158 x 1.3158 x 10 mm, as in the cardiac set ACDC."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tests.cases.calling import foveate

from foveate.data.nifti import read_nifti
from foveate.errors import DataError
from foveate.rules import ReadRules, reading

SPACING = (1.31579, 1.31579, 10.0)
SHAPE = (12, 10, 6)


def save(path: Path, sform, pixdim, qform: bool = True, array: np.ndarray | None = None) -> Path:
    """Write a file whose sform has some sizes and whose pixdim (and qform) has others."""
    array = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32) if array is None else array
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    if qform:
        header.set_qform(np.diag([-pixdim[0], -pixdim[1], pixdim[2], 1]), code=1)
    header["pixdim"][1:4] = pixdim
    header.set_xyzt_units("mm")
    if sform is not None:
        for axis, name in enumerate(("srow_x", "srow_y", "srow_z")):
            row = np.zeros(4)
            row[axis] = (-1, -1, 1)[axis] * sform[axis]
            header[name] = row
        header["sform_code"] = 2
    header["magic"], header["vox_offset"] = b"n+1\0", 352
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.binaryblock + bytes(4) + array.tobytes(order="F"))
    return path


@pytest.mark.parametrize("qform", [True, False])
def test_a_bare_sform_gives_way_to_pixdim_and_is_told(tmp_path: Path, qform):
    read = read_nifti(save(tmp_path / "a.nii", (1, 1, 1), SPACING, qform))
    assert read.spacing == pytest.approx(SPACING, rel=1e-5)
    assert np.allclose(read.affine[:3, :3], np.diag([-SPACING[0], -SPACING[1], SPACING[2]]))
    wanted = "its sform says voxels of 1 x 1 x 1 mm and its pixdim 1.31579 x 1.31579 x 10 mm; pixdim is taken"
    assert (read.remark or "").startswith(wanted)


def test_a_bare_pixdim_gives_way_to_the_sform_and_is_told(tmp_path: Path):
    read = read_nifti(save(tmp_path / "a.nii", (0.8, 0.8, 3), (1, 1, 1)))
    assert read.spacing == pytest.approx((0.8, 0.8, 3), rel=1e-5)
    assert "0.8 x 0.8 x 3 mm and its pixdim 1 x 1 x 1 mm; sform is taken" in (read.remark or "")


def test_two_sizes_of_which_either_may_be_right_are_refused_unless_a_setting_decides(tmp_path: Path):
    path = save(tmp_path / "a.nii", (0.8, 0.8, 1), (0.8, 0.8, 10))
    told = (
        r"a\.nii contradicts itself: its sform says voxels of 0\.8 x 0\.8 x 1 mm and its pixdim 0\.8 x 0\.8 x 10 mm; "
    )
    with pytest.raises(DataError, match=told + "the setting scale=sform or scale=pixdim decides"):
        read_nifti(path)
    for scale, depth in (("sform", 1), ("pixdim", 10)):
        with reading(ReadRules(scale=scale)):
            assert read_nifti(path).spacing == pytest.approx((0.8, 0.8, depth), rel=1e-5)


@pytest.mark.parametrize(("sform", "pixdim"), [(SPACING, SPACING), (None, SPACING), (SPACING, (1.3158, 1.3158, 10.0))])
def test_sizes_that_agree_or_stand_alone_are_not_told(tmp_path: Path, sform, pixdim):
    read = read_nifti(save(tmp_path / "a.nii", sform, pixdim))
    assert read.remark is None
    assert read.spacing == pytest.approx(SPACING, rel=1e-4)


def dataset(folder: Path, sform) -> Path:
    for number in range(6):
        label = np.zeros(SHAPE, np.uint8)
        label[3:8, 3:8, 1:4] = 1
        image = np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32) + 100 * label
        save(folder / "imagesTr" / f"p{number}_0000.nii", sform, SPACING, array=image)
        save(folder / "labelsTr" / f"p{number}.nii", sform, SPACING, array=label)
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "heart": 1}, "file_ending": ".nii"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_train_and_predict_tell_both_sizes_and_keep_the_choice(tmp_path: Path):
    data, out = dataset(tmp_path / "data", (1, 1, 1)), tmp_path / "run"
    options = ["--network", "unet", "--epochs", 1, "--set", "patch_size=[16,16,16]", "--set", "patches_per_epoch=2"]
    done = foveate("train", "segment", "--data", data, *options, "--out", out)
    assert done.status == 0
    assert "voxels of 1.31579 x 1.31579 x 10 mm" in done.told
    assert "6 scans contradict themselves; the first, p0: its sform says voxels of 1 x 1 x 1 mm" in done.told
    with pytest.warns(UserWarning, match=r"p0_0000: its sform says .*; pixdim is taken, which the setting scale"):
        done = foveate("predict", out, data / "imagesTr/p0_0000.nii", "--out", tmp_path / "found")
    assert done.status == 0
    kept = nibabel.load(tmp_path / "found" / "p0_0000.nii.gz").header
    assert kept["sform_code"] == 2
    assert kept["pixdim"][3] == 10
