from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.making import OBLIQUE, blob, decathlon, noise, pairs, save_nifti, save_picture

from foveate.data.scans import read_case, read_image
from foveate.data.volumes import Case, open_volumes
from foveate.errors import DataError


def first(root: Path):
    volumes = open_volumes(root)
    return volumes.splits["train"][0], volumes


def test_a_scan_and_its_labels_are_read(tmp_path: Path):
    case, volumes = first(decathlon(tmp_path))
    volume = read_case(case, volumes)
    assert volume.name == "case_0"
    assert volume.image.dtype == torch.float32
    assert volume.image.is_contiguous()
    assert np.array_equal(volume.image, noise(5, 7, 3)[None])
    assert volume.label is not None
    assert volume.label.dtype == torch.uint8
    assert np.array_equal(volume.label, blob(5, 7, 3))
    assert np.array_equal(volume.affine, OBLIQUE.astype(np.float32))
    assert volume.spacing == pytest.approx(np.linalg.norm(OBLIQUE[:3, :3], axis=0), rel=1e-6)


def test_channels_come_from_the_fourth_axis_or_from_files(tmp_path: Path):
    channels = noise(5, 7, 3, 2)
    together = save_nifti(tmp_path / "both.nii", channels, OBLIQUE)
    apart = [save_nifti(tmp_path / f"{number}.nii", channels[..., number], OBLIQUE) for number in range(2)]
    for files in ([together], apart):
        assert np.array_equal(read_image(files, ["T1", "T2"], 3, "a").image, np.moveaxis(channels, 3, 0))


def test_a_picture_and_its_mask_are_read(tmp_path: Path):
    case, volumes = first(pairs(tmp_path))
    volume = read_case(case, volumes)
    assert np.array_equal(volume.image, noise(5, 7).astype(np.uint8)[None])
    assert np.array_equal(volume.label, blob(5, 7))
    assert np.array_equal(volume.affine, np.eye(4))
    assert volume.spacing == (1, 1)


def test_a_case_without_a_label_has_none(tmp_path: Path):
    case, volumes = first(decathlon(tmp_path))
    assert read_case(Case("new", case.images), volumes).label is None


def test_channels_that_are_not_expected_are_named(tmp_path: Path):
    four = save_nifti(tmp_path / "four.nii", noise(5, 7, 3, 2))
    one = save_nifti(tmp_path / "one.nii", noise(5, 7, 3))
    with pytest.raises(DataError, match=r"four\.nii must hold 1 channel: MRI; it is \(5, 7, 3, 2\), which is 2"):
        read_image([four], ["MRI"], 3, "a")
    with pytest.raises(DataError, match=r"one\.nii must hold 2 channels: T1, T2; it is \(5, 7, 3\), which is 1"):
        read_image([one], ["T1", "T2"], 3, "a")
    with pytest.raises(DataError, match=r"four\.nii must hold 1 channel: T2; .* which is 2"):
        read_image([one, four], ["T1", "T2"], 3, "a")
    with pytest.raises(DataError, match=r"a has 2 images; the data has 3 channels: T1, T2, ADC"):
        read_image([one, one], ["T1", "T2", "ADC"], 3, "a")


def test_axes_that_are_not_expected_are_named(tmp_path: Path):
    deep = save_nifti(tmp_path / "deep.nii", noise(5, 7, 3))
    with pytest.raises(DataError, match=r"deep\.nii has three axes of space, \(5, 7, 3\); the data has two"):
        read_image([deep], ["CT"], 2, "a")
    flat = save_picture(tmp_path / "flat.png", blob(5, 7))
    with pytest.raises(DataError, match=r"flat\.png is no NIfTI file; the data has three axes of space"):
        read_image([flat], ["CT"], 3, "a")


def test_values_that_are_not_finite_are_counted(tmp_path: Path):
    array = noise(5, 7, 3)
    array[0, 0], array[1, 1, 1] = np.nan, -np.inf
    path = save_nifti(tmp_path / "a.nii", array)
    told = r"a\.nii must hold finite values; of its 105 voxels it has 3 that are not a number and 1 that are infinite"
    with pytest.raises(DataError, match=told):
        read_image([path], ["CT"], 3, "a")


def test_an_image_and_a_label_of_different_shape_are_named(tmp_path: Path):
    case, volumes = first(decathlon(tmp_path))
    save_nifti(tmp_path / "labelsTr" / "case_0.nii.gz", blob(5, 7, 2), OBLIQUE)
    told = (
        r"labelsTr/case_0\.nii\.gz is \(5, 7, 2\) and .*imagesTr/case_0\.nii\.gz \(5, 7, 3\); they must have one shape"
    )
    with pytest.raises(DataError, match=told):
        read_case(case, volumes)


def test_labels_of_several_channels_are_refused(tmp_path: Path):
    case, volumes = first(decathlon(tmp_path))
    save_nifti(tmp_path / "labelsTr" / "case_0.nii.gz", blob(5, 7, 3, 2), OBLIQUE)
    with pytest.raises(
        DataError, match=r"case_0\.nii\.gz is \(5, 7, 3, 2\); a file of labels holds one number a voxel"
    ):
        read_case(case, volumes)


@pytest.mark.parametrize(("moved", "taken"), [(0.06, True), (0.08, False)])
def test_an_affine_may_differ_by_a_tenth_of_a_voxel(tmp_path: Path, moved: float, taken: bool):
    case, volumes = first(decathlon(tmp_path))
    affine = OBLIQUE.copy()
    affine[1, 3] += moved  # the shortest side of a voxel is 0.68 mm
    save_nifti(tmp_path / "labelsTr" / "case_0.nii.gz", blob(5, 7, 3), affine)
    if taken:
        read_case(case, volumes)
        return
    with pytest.raises(
        DataError, match=r"case_0\.nii\.gz and .* must lie in one place; .* a corner is 0\.08 off, .* 0\.068"
    ):
        read_case(case, volumes)


def test_a_turned_affine_is_seen_at_the_far_corner(tmp_path: Path):
    case, volumes = first(decathlon(tmp_path))
    affine = OBLIQUE @ np.diag([1, 1, 1.02, 1])
    save_nifti(tmp_path / "labelsTr" / "case_0.nii.gz", blob(5, 7, 3), affine)
    with pytest.raises(DataError, match=r"a corner is 0\.2 off, where 0\.068"):
        read_case(case, volumes)


def test_channels_must_lie_in_one_place(tmp_path: Path):
    files = [save_nifti(tmp_path / "0.nii", noise(5, 7, 3)), save_nifti(tmp_path / "1.nii", noise(5, 7, 3), OBLIQUE)]
    with pytest.raises(DataError, match=r"1\.nii and .*0\.nii must lie in one place"):
        read_image(files, ["T1", "T2"], 3, "a")
