"""Limits are held against what a header says, or while a file is unpacked, before its content takes memory."""

import gzip
import io
import json
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tests.data.making import noise, save_nifti
from tests.data.series import save_slice

from foveate.data import open_pictures
from foveate.data.coco import read_coco
from foveate.data.dicom import read_series
from foveate.data.findings import Tally
from foveate.data.nifti import read_nifti
from foveate.data.reading import read_picture
from foveate.data.text import read_lines
from foveate.errors import DataError
from foveate.rules import ReadRules, reading, rules

MIB = 2**20


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No test here takes 16 MiB, whatever a file says."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


def zeros_in_gzip(mib: int, head: bytes = b"") -> bytes:
    """A gzip file of a header and zeros, made without holding them."""
    packing, parts = zlib.compressobj(9, zlib.DEFLATED, 31), []
    parts.append(packing.compress(head))
    parts += [packing.compress(bytes(MIB)) for _ in range(mib)]
    return b"".join(parts) + packing.flush()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_picture_of_81_million_pixels_is_refused_by_its_header(tmp_path: Path, mode):
    path = tmp_path / f"a.{'gif' if mode == 'P' else 'png'}"
    Image.new(mode, (90, 90)).save(path)
    content = bytearray(path.read_bytes())
    if mode == "P":
        content[6:10] = (9000).to_bytes(2, "little") * 2
    else:
        content[16:24] = (9000).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    told = (
        rf"a\.\w+ would unpack to 9000 x 9000 pixels; the limit is {2**26} pixels, which the setting max_pixels changes"
    )
    with pytest.raises(DataError, match=told):
        read_picture(path, 3)


def test_the_limit_of_pixels_is_a_setting(tmp_path: Path):
    Image.new("L", (90, 90)).save(tmp_path / "a.png")
    with (
        reading(ReadRules(max_pixels=8099)),
        pytest.raises(DataError, match=r"a\.png would unpack to 90 x 90 pixels; the limit is 8099 pixels"),
    ):
        read_picture(tmp_path / "a.png", 1)
    assert read_picture(tmp_path / "a.png", 1).shape == (1, 90, 90)
    assert rules() == ReadRules()


def test_a_nifti_bomb_is_refused_by_its_header_or_while_it_is_unpacked(tmp_path: Path):
    path = save_nifti(tmp_path / "a.nii", noise(5, 7, 3))
    head = bytearray(path.read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(zeros_in_gzip(0, bytes(head)) + gzip.compress(b"\1") + zeros_in_gzip(20))
    with pytest.raises(DataError, match=r"b\.nii\.gz goes on after the 772 bytes that its header says"):
        read_nifti(tmp_path / "b.nii.gz")
    head[42:48] = (2000).to_bytes(2, "little") * 3
    (tmp_path / "c.nii.gz").write_bytes(zeros_in_gzip(20, bytes(head)))
    told = r"c\.nii\.gz unpacks to 30518 MiB; the limit is 2048 MiB, which the setting max_file_mib changes"
    with pytest.raises(DataError, match=told):
        read_nifti(tmp_path / "c.nii.gz")


def test_text_in_gzip_is_refused_while_it_is_unpacked(tmp_path: Path):
    (tmp_path / "train.en.gz").write_bytes(zeros_in_gzip(20))
    told = r"train\.en\.gz unpacks to 5 MiB; the limit is 4 MiB, which the setting max_file_mib changes"
    with reading(ReadRules(max_file_mib=4)), pytest.raises(DataError, match=told):
        read_lines(tmp_path / "train.en.gz")


def test_text_and_json_that_are_too_large_are_refused_unread(tmp_path: Path):
    for name in ("train.en", "all.json"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(3 * 2**30)  # sparse
    told = r"takes 3072 MiB; the limit is 2048 MiB, which the setting max_file_mib changes"
    with pytest.raises(DataError, match=rf"train\.en {told}"):
        read_lines(tmp_path / "train.en")
    with pytest.raises(DataError, match=rf"all\.json {told}"):
        read_coco(tmp_path / "all.json", [tmp_path], Tally("train"))


def test_a_deflated_slice_is_refused_while_it_is_unpacked(tmp_path: Path):
    path = save_slice(tmp_path / "0.dcm", np.zeros((4, 4), np.uint16), (0, 0, 0), syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    assert read_series(tmp_path).image.shape == (1, 4, 4, 1)
    start = 144 + int.from_bytes(whole[140:144], "little")
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packing.compress(bytes(MIB)) for _ in range(20)) + packing.flush()
    path.write_bytes(whole[:start] + bomb)
    told = r"0\.dcm unpacks to 5 MiB; the limit is 4 MiB, which the setting max_file_mib changes"
    with reading(ReadRules(max_file_mib=4)), pytest.raises(DataError, match=told):
        read_series(tmp_path)


def test_a_slice_of_900_million_pixels_and_a_series_of_too_many_are_refused_by_their_headers(tmp_path: Path):
    flat = np.zeros((4, 4), np.uint16)
    save_slice(tmp_path / "a" / "0.dcm", flat, (0, 0, 0), Rows=30000, Columns=30000)
    with pytest.raises(DataError, match=r"0\.dcm would unpack to 30000 x 30000 pixels; the limit is \d+ pixels"):
        read_series(tmp_path / "a")
    for number in range(9):
        save_slice(tmp_path / "b" / f"{number}.dcm", flat, (0, 0, number), Rows=8192, Columns=8192)
    with pytest.raises(DataError, match=r"b unpacks to 2304 MiB; the limit is 2048 MiB"):
        read_series(tmp_path / "b")


@pytest.mark.parametrize("length", [24, 28, 90])
def test_pixels_of_another_length_than_the_header_says_are_refused(tmp_path: Path, length):
    fields = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 5, "Columns": 5}
    save_slice(tmp_path / "0.dcm", np.zeros((1, length), np.uint8), (0, 0, 0), **fields)
    told = rf"0\.dcm must hold 25 bytes of pixels, as its header says; it holds {length}"
    with pytest.raises(DataError, match=told):
        read_series(tmp_path)
    save_slice(tmp_path / "0.dcm", np.zeros((1, 26), np.uint8), (0, 0, 0), **fields)  # an even length, as DICOM wants
    assert read_series(tmp_path).image.shape == (1, 5, 5, 1)


def test_an_array_of_npz_is_refused_by_its_header(tmp_path: Path):
    small = {f"{name}_labels": np.arange(2) for name in ("train", "val", "test")}
    small |= {f"{name}_images": np.zeros((2, 8, 8), np.uint8) for name in ("val", "test")}
    np.savez(tmp_path / "a.npz", **small)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        header = io.BytesIO()
        said = {"descr": "|u1", "fortran_order": False, "shape": (10**5, 200, 200)}
        np.lib.format.write_array_header_1_0(header, said)
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(
        DataError, match=r"a\.npz unpacks to 3815 MiB; the limit is 2048 MiB, which the setting max_file"
    ):
        open_pictures(tmp_path / "a.npz")


def test_json_that_is_nested_without_end_or_has_long_numbers_ends_in_a_sentence(tmp_path: Path):
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DataError, match=r"deep\.json is nested too deep to be read"):
        read_coco(tmp_path / "deep.json", [tmp_path], Tally("train"))
    content = {"images": [{"id": 10**400, "file_name": "a.png"}], "annotations": [], "categories": []}
    (tmp_path / "long.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"long\.json must give each image an id and a file_name"):
        read_coco(tmp_path / "long.json", [tmp_path], Tally("train"))
