import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data.reading import read_header, read_picture
from foveate.errors import DataError

PATTERN = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7) * 7


def test_a_grey_picture_keeps_its_values(tmp_path: Path):
    Image.fromarray(PATTERN).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", 1)
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(PATTERN)[None])
    assert torch.equal(read_picture(tmp_path / "a.png", 3), torch.from_numpy(PATTERN).expand(3, 5, 7))
    assert read_header(tmp_path / "a.png") == (True, (5, 7))


def test_a_colour_picture_keeps_its_values(tmp_path: Path):
    colours = np.stack([PATTERN, 255 - PATTERN, PATTERN // 2], axis=2)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png", 3), torch.from_numpy(colours).permute(2, 0, 1))
    assert read_header(tmp_path / "a.png") == (False, (5, 7))


def test_sixteen_bits_keep_their_range(tmp_path: Path):
    values = np.array([[0, 257, 4095], [32768, 65278, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_picture(tmp_path / name, 1).tolist() == [[[0, 1, 16], [128, 254, 255]]]
        assert read_picture(tmp_path / name, 3)[2].tolist() == [[0, 1, 16], [128, 254, 255]]


def test_a_picture_is_read_upright_as_its_exif_says(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright is a quarter turn clockwise
    Image.fromarray(PATTERN).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(PATTERN, -1).copy()
    assert torch.equal(read_picture(tmp_path / "a.png", 1)[0], torch.from_numpy(upright))
    assert read_header(tmp_path / "a.png") == (True, (7, 5))


def test_what_is_transparent_becomes_white(tmp_path: Path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 3).permute(1, 2, 0).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LA", "RGBA", "YCbCr"])
def test_every_mode_is_read(tmp_path: Path, mode: str):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(PATTERN).convert("RGB").convert(mode).save(path)
    assert read_picture(path, 1).shape == (1, 5, 7)
    assert read_picture(path, 3).shape == (3, 5, 7)


def test_a_truncated_picture_is_named(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (31, 37, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"{name} is damaged and cannot be decoded: "):
            read_picture(path, 3)


def test_what_is_not_a_picture_is_named(tmp_path: Path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"a\.png is not a picture that can be read \(\.png, "):
        read_picture(tmp_path / "a.png", 1)
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png is not a picture"):
        read_picture(tmp_path / "empty.png", 1)
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read_picture(tmp_path / "none.png", 1)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png must be a file; it is a folder"):
        read_picture(tmp_path / "folder.png", 1)


def test_floating_point_has_no_known_range(tmp_path: Path):
    Image.fromarray(PATTERN.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif holds floating-point values, whose range is unknown"):
        read_picture(tmp_path / "a.tif", 1)


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path):
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif holds values from 0 to 70000; 8 and 16 bits"):
        read_picture(tmp_path / "a.tif", 1)


def test_a_decompression_bomb_is_refused_unopened(tmp_path: Path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(
        DataError,
        match=r"bomb\.png would unpack to more than the limit of 67108864 pixels, which the setting max_pixels",
    ):
        read_picture(tmp_path / "bomb.png", 1)
