from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.making import OBLIQUE, blob, noise, save_nifti, save_picture
from torch import Tensor

from foveate.data.scans import read_image
from foveate.data.volumes import Volume
from foveate.data.writing import write_labels, write_map

VALUES = {0: 0, 11: 1, 255: 2}


def scan(tmp_path: Path, *shape: int, **fields: int) -> Volume:
    path = save_nifti(tmp_path / "scan.nii.gz", noise(*shape), OBLIQUE, **fields)
    return read_image([path], ["CT"], len(shape), "scan")


def picture(tmp_path: Path) -> Volume:
    return read_image([save_picture(tmp_path / "a.png", noise(5, 7).astype(np.uint8))], ["grey"], 2, "a")


def classes(*shape: int) -> Tensor:
    return torch.from_numpy(blob(*shape, classes=3))


@pytest.mark.parametrize(
    ("flips", "ending"),
    [((1, 1, 1), ".nii"), ((-1, -1, 1), ".nii.gz"), ((-1, 1, -1), ".nii.gz"), ((1, -1, -1), ".nii")],
)
def test_labels_lie_exactly_in_the_space_of_the_scan(tmp_path: Path, flips, ending):
    affine = OBLIQUE @ np.diag([*flips, 1])
    path = save_nifti(tmp_path / "scan.nii.gz", noise(5, 7, 3), affine, qform_code=1, sform_code=0)
    volume = read_image([path], ["CT"], 3, "scan")
    out = tmp_path / "new" / f"labels{ending}"
    write_labels(out, classes(5, 7, 3), volume)
    old, new = nibabel.load(path), nibabel.load(out)
    assert np.array_equal(new.affine, old.affine)
    assert np.array_equal(new.affine, volume.affine)
    assert nibabel.aff2axcodes(new.affine) == nibabel.aff2axcodes(old.affine)
    assert (new.header["qform_code"], new.header["sform_code"]) == (1, 0)
    assert new.get_data_dtype() == np.uint8
    assert new.header.get_intent()[0] == "label"
    assert np.array_equal(np.asarray(new.dataobj), blob(5, 7, 3, classes=3))


def test_the_values_of_the_data_can_be_written_for_the_classes(tmp_path: Path):
    volume = scan(tmp_path, 5, 7, 3)
    write_labels(tmp_path / "a.nii", classes(5, 7, 3).long(), volume, VALUES)
    wanted = np.array([0, 11, 255])[blob(5, 7, 3, classes=3)]
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj), wanted)


def test_numbers_above_255_take_sixteen_bits(tmp_path: Path):
    write_labels(tmp_path / "a.nii", classes(5, 7, 3).int() * 1000, scan(tmp_path, 5, 7, 3))
    image = nibabel.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.int16
    assert np.asarray(image.dataobj).max() == 2000
    with pytest.raises(ValueError, match=r"labels must be from 0 to 32767 to be written; got 0 to 40000"):
        write_labels(tmp_path / "a.nii", classes(5, 7, 3).int() * 20000, scan(tmp_path, 5, 7, 3))


def test_a_map_keeps_its_numbers_and_channels_come_last(tmp_path: Path):
    volume = scan(tmp_path, 5, 7, 3)
    values = torch.randn(2, 5, 7, 3)
    write_map(tmp_path / "one.nii.gz", values[0], volume)
    write_map(tmp_path / "two.nii.gz", values.double().requires_grad_(), volume)
    one, two = nibabel.load(tmp_path / "one.nii.gz"), nibabel.load(tmp_path / "two.nii.gz")
    assert one.get_data_dtype() == two.get_data_dtype() == np.float32
    assert np.array_equal(one.get_fdata(dtype=np.float32), values[0])
    assert np.array_equal(two.get_fdata(dtype=np.float32), values.permute(1, 2, 3, 0))
    assert np.array_equal(two.affine, volume.affine)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_a_flat_scan_gets_its_own_axes_back(tmp_path: Path, shape):
    volume = read_image([save_nifti(tmp_path / "scan.nii", noise(*shape), OBLIQUE)], ["CT"], 2, "scan")
    write_labels(tmp_path / "labels.nii", classes(5, 7), volume)
    write_map(tmp_path / "map.nii", torch.rand(2, 5, 7), volume)
    image = nibabel.load(tmp_path / "labels.nii")
    assert image.shape == shape
    assert np.array_equal(np.asarray(image.dataobj).reshape(5, 7), blob(5, 7, classes=3))
    assert np.array_equal(image.affine, volume.affine)
    assert nibabel.load(tmp_path / "map.nii").shape == (5, 7, 1, 2)


def test_results_for_a_picture_are_pictures(tmp_path: Path):
    volume = picture(tmp_path)
    write_labels(tmp_path / "labels.png", classes(5, 7), volume, VALUES)
    written = np.asarray(Image.open(tmp_path / "labels.png"))
    assert written.dtype == np.uint8
    assert np.array_equal(written, np.array([0, 11, 255])[blob(5, 7, classes=3)])
    write_labels(tmp_path / "deep.png", classes(5, 7).int() * 1000, volume)
    assert np.asarray(Image.open(tmp_path / "deep.png")).max() == 2000
    write_map(tmp_path / "map.png", torch.tensor([0, 0.5, 1]).repeat(12)[:35].reshape(5, 7), volume)
    assert np.asarray(Image.open(tmp_path / "map.png"))[0, :3].tolist() == [0, 32768, 65535]


def test_what_does_not_fit_is_refused_and_nothing_written(tmp_path: Path):
    flat, deep = picture(tmp_path), scan(tmp_path, 5, 7, 3)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"scan is a scan, whose results end in \.nii\.gz or \.nii; got .*a\.png"):
        write_labels(out / "a.png", classes(5, 7, 3), deep)
    with pytest.raises(ValueError, match=r"a is a picture, whose results end in \.png; got .*a\.nii"):
        write_labels(out / "a.nii", classes(5, 7), flat)
    with pytest.raises(ValueError, match=r"scan has a voxel for each of \(5, 7, 3\); got \(7, 5, 3\)"):
        write_labels(out / "a.nii", classes(7, 5, 3), deep)
    with pytest.raises(ValueError, match=r"each of \(5, 7, 3\) or \(channel, 5, 7, 3\); got \(5, 7\)"):
        write_map(out / "a.nii", torch.rand(5, 7), deep)
    with pytest.raises(ValueError, match=r"labels must be whole numbers; got float32"):
        write_labels(out / "a.nii", torch.rand(5, 7, 3), deep)
    with pytest.raises(ValueError, match=r"a map must be from 0 to 1 to be a picture; got -1 to "):
        write_map(out / "a.png", -classes(5, 7).clamp(max=1).float(), flat)
    assert not out.exists()


def test_the_same_labels_make_the_same_bytes(tmp_path: Path):
    volume = scan(tmp_path, 5, 7, 3)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, classes(5, 7, 3), volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert not list(tmp_path.glob("*.tmp"))
