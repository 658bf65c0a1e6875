import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, RLELossless
from tests.data.series import COLUMNS, ROWS, SLICES, save_series, save_slice, stored

from foveate.data.dicom import read_series
from foveate.data.writing import write_labels
from foveate.errors import DataError, MissingExtra


def test_slices_are_sorted_by_place_and_rescaled_to_hu(tmp_path: Path):
    volume = read_series(save_series(tmp_path / "scan"))
    assert volume.name == "scan"
    assert volume.image.dtype == torch.float32
    assert volume.image.is_contiguous()
    assert np.array_equal(volume.image[0], stored().transpose(2, 1, 0).astype(np.float32) - 1024)
    # LPS (-11, 13, 17) is RAS (11, -13, 17); columns are 0.9 mm apart, rows 0.7 mm.
    wanted = [[-0.9, 0, 0, 11], [0, -0.7, 0, -13], [0, 0, 5, 17], [0, 0, 0, 1]]
    assert np.allclose(volume.affine, wanted, atol=1e-6)
    assert volume.spacing == pytest.approx((0.9, 0.7, 5))
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")


def test_slices_stored_from_head_to_foot_give_the_same_volume(tmp_path: Path):
    for number in range(SLICES):
        save_slice(tmp_path / f"{SLICES - number}.dcm", stored()[number], (-11, 13, 17 + 5 * number))
    assert torch.equal(read_series(tmp_path).image, read_series(save_series(tmp_path / "other")).image)


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [
        ([1, 0, 0, 0, 0, -1], ("L", "I", "P")),  # coronal: the normal points to the back
        ([0, 1, 0, 0, 0, -1], ("P", "I", "R")),  # sagittal, and the normal to the right
        ([-1, 0, 0, 0, -1, 0], ("R", "A", "S")),  # axial, prone
        ([1, 0, 0, 0, -1, 0], ("L", "A", "I")),  # axial, seen from above
    ],
)
def test_every_orientation_is_told_apart(tmp_path: Path, orientation, axes):
    normal = np.cross(orientation[:3], orientation[3:])
    assert nibabel.aff2axcodes(read_series(save_series(tmp_path, orientation, 5 * normal, "10")).affine) == axes


def test_an_oblique_series_lies_where_its_headers_say(tmp_path: Path):
    across = np.array([0.96, 0.12, -0.2530])
    across /= np.linalg.norm(across)
    down = np.cross([0.1, 0.3, 0.9], across)
    down /= np.linalg.norm(down)
    normal = np.cross(across, down)
    volume = read_series(save_series(tmp_path, [*across, *down], 4.5 * normal, "120"))
    for column, row, slice_ in ((0, 0, 0), (6, 0, 0), (0, 4, 0), (3, 2, 2)):
        lps = np.array([-11, 13, 17]) + column * 0.9 * across + row * 0.7 * down + slice_ * 4.5 * normal
        assert (volume.affine @ [column, row, slice_, 1])[:3] == pytest.approx(lps * [-1, -1, 1], abs=1e-4)
    assert volume.spacing == pytest.approx((0.9, 0.7, 4.5), abs=1e-5)
    assert np.array_equal(volume.image[0], stored().transpose(2, 1, 0).astype(np.float32) - 1024)


def test_a_tilted_gantry_shears_the_affine(tmp_path: Path):
    volume = read_series(save_series(tmp_path, step=(0, 1.5, 5)))
    assert np.allclose(volume.affine[:3, 2], [0, -1.5, 5], atol=1e-6)


def test_results_for_a_series_are_written_in_its_space(tmp_path: Path):
    turned = [0.8, 0.6, 0, 0, 0, -1]
    volume = read_series(save_series(tmp_path / "scan", turned, 5 * np.cross(turned[:3], turned[3:])))
    write_labels(tmp_path / "labels.nii.gz", (volume.image[0] > 0).long(), volume)
    image = nibabel.load(tmp_path / "labels.nii.gz")
    assert type(image) is nibabel.Nifti1Image
    assert np.array_equal(image.affine, volume.affine)
    assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)


def test_each_slice_has_its_own_slope(tmp_path: Path):
    for number in range(SLICES):
        save_slice(tmp_path / f"{number}.dcm", stored()[number], (0, 0, number), RescaleSlope=number + 1)
    image = read_series(tmp_path).image[0]
    for number in range(SLICES):
        assert np.array_equal(image[..., number], stored()[number].T.astype(np.float32) * (number + 1) - 1024)


@pytest.mark.parametrize(("signed", "top"), [(0, 4095), (1, -1)])
def test_what_is_white_for_low_values_is_turned_over(tmp_path: Path, signed: int, top: int):
    fields = {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1"}
    fields |= {"PixelRepresentation": signed, "RescaleIntercept": 0}
    read = read_series(save_series(tmp_path, **fields)).image[0].numpy()
    values = stored().astype(np.int64)
    values = np.where(values > 2047, values - 4096, values) if signed else values
    assert np.array_equal(read, (top - values).transpose(2, 1, 0).astype(np.float32))


def test_packed_slices_are_unpacked_and_what_cannot_be_is_named(tmp_path: Path):
    flat = np.full((ROWS, COLUMNS), 3, np.uint16)
    # Two segments of a run each: the high bytes, 0, and the low bytes, 3.
    runs = bytes([257 - flat.size, 0]), bytes([257 - flat.size, 3])
    content = np.array([2, 64, 66, *[0] * 13], "<u4").tobytes() + runs[0] + runs[1]
    path = save_slice(tmp_path / "a" / "0.dcm", flat, (0, 0, 0))
    _compress(path, content, RLELossless)
    assert (read_series(tmp_path / "a").image == 3 - 1024).all()
    path = save_slice(tmp_path / "b" / "0.dcm", flat, (0, 0, 0))
    _compress(path, b"\xff\xd8\xff\xf7", JPEGLSLossless)
    told = r"0\.dcm is compressed \(JPEG-LS Lossless Image Compression\), which no decoder installed here reads; pip"
    with pytest.raises(DataError, match=told):
        read_series(tmp_path / "b")


def _compress(path: Path, content: bytes, syntax: str) -> None:
    import pydicom

    slice_ = pydicom.dcmread(path)
    slice_.file_meta.TransferSyntaxUID = syntax
    slice_.PixelData = encapsulate([content])
    slice_["PixelData"].VR = "OB"
    slice_.save_as(path, enforce_file_format=True)


def test_names_without_endings_and_companions_are_no_hindrance(tmp_path: Path):
    save_series(tmp_path / "a" / "deep")
    for number, path in enumerate(sorted((tmp_path / "a" / "deep").iterdir())):
        path.rename(path.with_name(["IM0001", "1.2.840.7", "c.IMA"][number]))
    for name in ("DICOMDIR", "VERSION", "notes.txt", "._IM0001", "preview.jpg"):
        (tmp_path / "a" / name).write_text("no image")
    save_slice(tmp_path / "a" / "plan.dcm", stored()[0], (0, 0, 0), "9", Modality="RTSTRUCT", Rows=None, Columns=None)
    assert read_series(tmp_path / "a").image.shape == (1, COLUMNS, ROWS, SLICES)


def test_a_file_without_preamble_is_read(tmp_path: Path):
    for path in save_series(tmp_path).iterdir():
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\x00\x16\x00") :])
    assert np.array_equal(read_series(tmp_path).image[0], stored().transpose(2, 1, 0).astype(np.float32) - 1024)


def test_one_slice_takes_its_thickness_and_needs_no_series(tmp_path: Path):
    save_slice(tmp_path / "0.dcm", stored()[0], (0, 0, 0), SliceThickness=2.5, SeriesInstanceUID=None)
    assert read_series(tmp_path).spacing == pytest.approx((0.9, 0.7, 2.5))


def test_two_series_are_told_and_one_can_be_chosen(tmp_path: Path):
    save_series(tmp_path, SeriesDescription="thorax")
    save_slice(tmp_path / "9.dcm", stored()[0] * 0, (0, 0, 0), "1.2.4", SeriesDescription="scout")
    told = r"must hold one series; .*; it holds 1\.2\.3 \(CT, thorax, 3 images\); 1\.2\.4 \(CT, scout, 1 image\)"
    with pytest.raises(DataError, match=told):
        read_series(tmp_path)
    assert read_series(tmp_path, "1.2.4").image.shape == (1, COLUMNS, ROWS, 1)
    with pytest.raises(DataError, match=r"has no series 5; it holds 1\.2\.3 \(CT, thorax"):
        read_series(tmp_path, "5")


def test_a_missing_slice_and_unequal_steps_are_told(tmp_path: Path):
    for number, place in enumerate((0, 5, 15, 20)):
        save_slice(tmp_path / "gap" / f"{number}.dcm", stored()[0], (0, 0, place))
    told = r"equal steps, with none missing; 10 mm lie between 1\.dcm and 2\.dcm, and mostly 5 mm; the least is 5 mm"
    with pytest.raises(DataError, match=told):
        read_series(tmp_path / "gap")
    for number, place in enumerate((0, 3, 6, 11, 16)):
        save_slice(tmp_path / "two" / f"{number}.dcm", stored()[0], (0, 0, place))
    with pytest.raises(DataError, match=r"equal steps.* 5 mm lie between 2\.dcm and 3\.dcm, and mostly 4 mm; .* 3 mm"):
        read_series(tmp_path / "two")


def test_places_that_are_rounded_are_equal_steps(tmp_path: Path):
    for number in range(8):
        save_slice(tmp_path / f"{number}.dcm", stored()[0], (0, 0, round(0.625 * number, 1)))
    assert read_series(tmp_path).spacing[2] == pytest.approx(0.625, abs=0.01)


def test_several_images_at_one_place_are_told(tmp_path: Path):
    save_series(tmp_path)
    save_slice(tmp_path / "echo.dcm", stored()[0], (-11, 13, 22))
    with pytest.raises(DataError, match=r"must hold one image of each slice; .*\.dcm and .*\.dcm lie at one place"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"PixelSpacing": [0.7, 0.8]},
            r"must have one PixelSpacing; it is \[0\.7, 0\.8\] in .*9\.dcm and \[0\.7, 0\.9\]",
        ),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, r"must have one ImageOrientationPatient"),
        ({"ImagePositionPatient": None}, r"9\.dcm has no ImagePositionPatient, so that its place is not known"),
        ({"PixelSpacing": None}, r"9\.dcm has no PixelSpacing"),
        ({"NumberOfFrames": 20}, r"9\.dcm holds 20 frames; a file a slice is read, so convert it to NIfTI"),
        ({"PhotometricInterpretation": "RGB"}, r"9\.dcm is in colour \(RGB\); grey slices are read"),
        ({"Rows": None}, r"9\.dcm has no Rows; it is no image, or its header ends early"),
    ],
)
def test_a_slice_that_does_not_fit_is_told(tmp_path: Path, fields: dict, told: str):
    save_slice(tmp_path / "0.dcm", stored()[0], (0, 0, 0))
    save_slice(tmp_path / "9.dcm", stored()[0], (0, 0, 5), **fields)
    with pytest.raises(DataError, match=told):
        read_series(tmp_path)


def test_slices_of_different_size_are_told(tmp_path: Path):
    save_slice(tmp_path / "0.dcm", stored()[0], (0, 0, 0))
    save_slice(tmp_path / "9.dcm", stored()[0, :3], (0, 0, 5))
    with pytest.raises(DataError, match=r"must have one Rows; it is \[3\.0\] in .*9\.dcm and \[5\.0\] in .*0\.dcm"):
        read_series(tmp_path)


def test_directions_that_are_no_plane_are_told(tmp_path: Path):
    with pytest.raises(DataError, match=r"0\.dcm has an ImageOrientationPatient of no two right-angled directions"):
        read_series(save_series(tmp_path, [1, 0, 0, 1, 0, 0]))


def test_a_truncated_slice_is_named(tmp_path: Path):
    path = save_slice(tmp_path / "0.dcm", stored()[0], (0, 0, 0))
    whole = path.read_bytes()
    for kept in (0, 100, 300, 650, -20):
        path.write_bytes(whole[:kept])
        with pytest.raises(
            DataError, match=r"0\.dcm (is damaged and cannot be read|is no DICOM file|has no |must hold )"
        ):
            read_series(tmp_path)


def test_what_is_no_dicom_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no DICOM image"):
        read_series(tmp_path)
    with pytest.raises(DataError, match=r"nowhere cannot be listed: No such file or directory"):
        read_series(tmp_path / "nowhere")
    (tmp_path / "a.dcm").write_text("no image at all")
    with pytest.raises(DataError, match=r"a\.dcm (is no DICOM file|is damaged and cannot be read)"):
        read_series(tmp_path)


def test_without_pydicom_the_extra_is_named(monkeypatch, tmp_path: Path):
    save_series(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"this needs pydicom, .* pip install 'foveate\[medical\]'"):
        read_series(tmp_path)
