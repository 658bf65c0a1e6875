import gzip
import logging
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tests.data.making import OBLIQUE, noise, save_nifti

from foveate.data.nifti import nifti_bytes, read_nifti, read_nifti_shape
from foveate.errors import DataError, MissingExtra


def test_voxels_stay_in_the_order_of_the_file_however_it_lies(tmp_path: Path):
    array = noise(5, 7, 3)
    read = read_nifti(save_nifti(tmp_path / "a.nii.gz", array, OBLIQUE))
    assert np.array_equal(read.array, array)
    assert read.affine.dtype == np.float64
    assert np.array_equal(read.affine, OBLIQUE.astype(np.float32))
    assert read.spacing == pytest.approx(np.sqrt((OBLIQUE[:3, :3] ** 2).sum(axis=0)), rel=1e-6)


def test_values_are_scaled_as_the_header_says(tmp_path: Path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    image.to_filename(tmp_path / "a.nii")
    scaled = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    assert np.array_equal(read_nifti(tmp_path / "a.nii", np.float32).array, scaled)
    assert scaled[0, 0, 1] != 1


def test_without_sform_the_qform_places_the_voxels(tmp_path: Path):
    image = nibabel.Nifti1Image(noise(5, 7, 3), None)
    turned = np.array([[0, -2, 0, 11], [3, 0, 0, 13], [0, 0, 5, 17], [0, 0, 0, 1]], float)
    image.set_qform(turned, code=1)
    image.set_sform(None, code=0)
    image.to_filename(tmp_path / "a.nii")
    read = read_nifti(tmp_path / "a.nii")
    assert np.allclose(read.affine, turned, atol=1e-6)
    assert read.spacing == pytest.approx((3, 2, 5))


def test_spacing_is_in_millimetres_whatever_the_unit(tmp_path: Path):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3), np.diag([11, 13, 17, 1]), xyzt_units=3)
    assert read_nifti(path).spacing == pytest.approx((0.011, 0.013, 0.017))


@pytest.mark.parametrize(
    ("shape", "seen"), [((5, 7), (5, 7, 1)), ((5, 7, 3, 1, 1), (5, 7, 3)), ((5, 7, 3, 2), (5, 7, 3, 2))]
)
def test_there_are_three_axes_of_space_and_perhaps_channels(tmp_path: Path, shape, seen):
    path = save_nifti(tmp_path / "a.nii.gz", noise(*shape))
    assert read_nifti(path).array.shape == read_nifti_shape(path) == seen


def test_five_axes_are_refused(tmp_path: Path):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3, 2, 2))
    with pytest.raises(DataError, match=r"a\.nii must have three axes .* got \(5, 7, 3, 2, 2\)"):
        read_nifti(path)


def test_a_name_may_be_wrong_about_packing(tmp_path: Path):
    array = noise(5, 7, 3)
    packed = save_nifti(tmp_path / "a.nii.gz", array)
    (tmp_path / "b.nii").write_bytes(packed.read_bytes())
    (tmp_path / "c.nii.gz").write_bytes(gzip.decompress(packed.read_bytes()))
    for name in ("b.nii", "c.nii.gz"):
        assert np.array_equal(read_nifti(tmp_path / name).array, array)


def test_nifti_2_and_either_byte_order_are_read(tmp_path: Path):
    array = noise(5, 7, 3)
    nibabel.Nifti2Image(array, OBLIQUE).to_filename(tmp_path / "two.nii")
    header = nibabel.Nifti1Header(endianness=">" if sys.byteorder == "little" else "<")
    header.set_data_dtype(np.float32)
    nibabel.Nifti1Image(array, OBLIQUE, header).to_filename(tmp_path / "other.nii")
    assert np.array_equal(read_nifti(tmp_path / "two.nii").affine, OBLIQUE)
    for name in ("two.nii", "other.nii"):
        assert np.array_equal(read_nifti(tmp_path / name).array, array)
        assert read_nifti_shape(tmp_path / name) == (5, 7, 3)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str):
    path = save_nifti(tmp_path / f"cut{ending}", noise(11, 13, 17))
    whole = path.read_bytes()
    for kept in (0, 0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(DataError, match=r"cut\.nii.* is damaged and cannot be read: "):
            read_nifti(path)


def test_a_header_that_asks_for_more_than_there_is_is_named(tmp_path: Path):
    path = save_nifti(tmp_path / "huge.nii", noise(5, 7, 3))
    content = bytearray(path.read_bytes())
    content[42:48] = b"\xff\x7f" * 3  # 32767 voxels along each axis
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"huge\.nii unpacks to 134205441 MiB; the limit is 2048 MiB, which the setting max_file_mib"
    ):
        read_nifti(path)


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path):
    path = tmp_path / "flipped.nii.gz"
    content = bytearray(gzip.compress(save_nifti(tmp_path / "a.nii", noise(11, 13, 17)).read_bytes(), compresslevel=0))
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"flipped\.nii\.gz is damaged and cannot be read: CRC check failed"):
        read_nifti(path)


def test_what_is_not_there_or_no_nifti_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.nii does not exist"):
        read_nifti(tmp_path / "none.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(DataError, match=r"folder\.nii must be a file; it is a folder"):
        read_nifti(tmp_path / "folder.nii")
    (tmp_path / "text.nii").write_text("no scan " * 100)
    with pytest.raises(DataError, match=r"text\.nii is damaged and cannot be read: "):
        read_nifti(tmp_path / "text.nii")


def test_nibabel_says_nothing_beside_our_sentence(tmp_path: Path, monkeypatch):
    heard: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = heard.append
    monkeypatch.setattr(nibabel.imageglobals.logger, "handlers", [listener])
    (tmp_path / "text.nii").write_text("no scan " * 100)
    for read in (read_nifti, read_nifti_shape):
        with pytest.raises(DataError):
            read(tmp_path / "text.nii")
    assert heard == []


def test_colour_and_complex_numbers_are_no_numbers(tmp_path: Path):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3).astype(np.complex64))
    with pytest.raises(DataError, match=r"a\.nii must hold a number a voxel; it holds complex64"):
        read_nifti(path)


@pytest.mark.parametrize("row", [[0, 0, 0, 1], [1, 0, 0, 0]])
def test_an_affine_without_inverse_is_refused(tmp_path: Path, row):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3), srow_y=row, sform_code=1)
    with pytest.raises(DataError, match=r"a\.nii has an affine without inverse"):
        read_nifti(path)


def test_small_voxels_are_no_plane(tmp_path: Path):
    affine = np.diag([1e-5, 1e-5, 1e-5, 1])
    assert np.allclose(read_nifti(save_nifti(tmp_path / "a.nii", noise(5, 7, 3), affine)).affine, affine)


@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (1, 0), (0, 2), (3, 4)])
def test_what_is_written_lies_exactly_where_the_header_says(tmp_path: Path, qform, sform):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3), OBLIQUE, qform_code=qform, sform_code=sform, xyzt_units=10)
    old = nibabel.load(path)
    read = read_nifti(path)
    shape = (5, 7, 3, 2) if qform else (5, 7, 3)
    (tmp_path / "b.nii.gz").write_bytes(nifti_bytes(noise(*shape), read.affine, read.header, packed=True))
    new = nibabel.load(tmp_path / "b.nii.gz")
    assert np.array_equal(new.affine, old.affine)
    assert np.array_equal(new.get_qform(), old.get_qform())
    assert (new.header["qform_code"], new.header["sform_code"]) == (qform, sform)
    assert new.header.get_zooms()[:3] == old.header.get_zooms()
    assert new.header.get_xyzt_units()[0] == "mm"
    assert new.shape == shape
    assert np.array_equal(new.get_fdata(dtype=np.float32), noise(*shape))


def test_an_affine_that_float32_cannot_hold_makes_a_nifti_2(tmp_path: Path):
    for affine, wanted in (
        (OBLIQUE.astype(np.float32).astype(float), nibabel.Nifti1Image),
        (OBLIQUE, nibabel.Nifti2Image),
    ):
        (tmp_path / "a.nii").write_bytes(nifti_bytes(noise(5, 7, 3), affine, None, packed=False))
        image = nibabel.load(tmp_path / "a.nii")
        assert type(image) is wanted
        assert np.array_equal(image.affine, affine)
        assert image.header["qform_code"] == 0  # it is sheared, which a qform cannot say


def test_a_rigid_affine_is_told_both_ways(tmp_path: Path):
    affine = np.array([[0, -2, 0, 11], [3, 0, 0, 13], [0, 0, 5, 17], [0, 0, 0, 1]], float)
    (tmp_path / "a.nii").write_bytes(nifti_bytes(noise(5, 7, 3), affine, None, packed=False))
    image = nibabel.load(tmp_path / "a.nii")
    assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)
    assert np.allclose(image.get_qform(), affine, atol=1e-5)


def test_without_nibabel_the_extra_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtra, match=r"this needs nibabel, .* pip install 'foveate\[medical\]'"):
        read_nifti(tmp_path / "a.nii")
