from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.making import blob, save_picture

from foveate.data.planes import read_mask, read_plane
from foveate.errors import DataError

GREY = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7


def test_a_picture_keeps_its_values(tmp_path: Path):
    plane = read_plane(save_picture(tmp_path / "a.png", GREY), 1)
    assert plane.dtype == np.float32
    assert np.array_equal(plane, GREY[None])
    assert np.array_equal(read_plane(tmp_path / "a.png", 3), np.stack([GREY] * 3))


@pytest.mark.parametrize(("name", "kind"), [("a.png", np.uint16), ("a.tif", np.uint16), ("b.tif", np.float32)])
def test_more_than_eight_bits_are_kept(tmp_path: Path, name: str, kind: type):
    deep = GREY.astype(kind) * 171
    assert np.array_equal(read_plane(save_picture(tmp_path / name, deep), 1), deep[None])


def test_colour_is_three_channels_and_grey_saved_as_colour_may_be_one(tmp_path: Path):
    colours = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
    save_picture(tmp_path / "a.png", colours)
    assert np.array_equal(read_plane(tmp_path / "a.png", 3), colours.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"a\.png is in colour; the data has one channel"):
        read_plane(tmp_path / "a.png", 1)
    save_picture(tmp_path / "b.png", np.stack([GREY] * 3, axis=2))
    assert np.array_equal(read_plane(tmp_path / "b.png", 1), GREY[None])


def test_pages_are_not_dropped(tmp_path: Path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    for read in (lambda path: read_plane(path, 1), read_mask):
        with pytest.raises(DataError, match=r"a\.tif holds 2 pages; save each as a file, or the stack as NIfTI"):
            read(tmp_path / "a.tif")


def test_a_mask_is_the_place_in_the_palette_or_the_grey_value(tmp_path: Path):
    classes = blob(5, 7, classes=3)
    indexed = Image.fromarray(classes, "P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(tmp_path / "palette.png")
    save_picture(tmp_path / "grey.png", classes)
    save_picture(tmp_path / "deep.png", classes.astype(np.uint16) * 300)
    save_picture(tmp_path / "colour.png", np.stack([classes] * 3, axis=2))
    save_picture(tmp_path / "alpha.png", np.stack([classes] * 3 + [np.full_like(classes, 255)], axis=2))
    Image.fromarray(classes > 0).save(tmp_path / "bits.png")
    for name, wanted in (
        ("palette", classes),
        ("grey", classes),
        ("deep", classes.astype(int) * 300),
        ("colour", classes),
        ("alpha", classes),
        ("bits", classes > 0),
    ):
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), wanted), name


def test_a_mask_in_colour_is_refused(tmp_path: Path):
    save_picture(tmp_path / "a.png", np.stack([GREY, GREY, 255 - GREY], axis=2))
    with pytest.raises(DataError, match=r"a\.png is in colour; a mask holds one number a pixel"):
        read_mask(tmp_path / "a.png")
    save_picture(tmp_path / "b.png", np.stack([GREY, GREY, GREY, GREY], axis=2))
    with pytest.raises(DataError, match=r"b\.png is in colour"):
        read_mask(tmp_path / "b.png")


def test_a_jpeg_mask_is_black_and_white_or_refused(tmp_path: Path):
    inside = np.zeros((64, 64), np.uint8)
    inside[16:48, 8:50] = 255
    assert len(np.unique(np.asarray(Image.open(save_picture(tmp_path / "a.jpg", inside // 255 * 250))))) > 2
    assert np.array_equal(read_mask(tmp_path / "a.jpg"), inside)
    assert not read_mask(save_picture(tmp_path / "b.jpg", inside * 0)).any()
    for name, wrong in (("c.jpg", inside // 255 * 2), ("d.jpg", inside // 255 * 128)):
        with pytest.raises(DataError, match=rf"{name[0]}\.jpg is a JPEG, which does not keep the numbers of a mask"):
            read_mask(save_picture(tmp_path / name, wrong))


def test_a_mask_is_turned_as_its_picture_is(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_mask(tmp_path / "a.png"), read_plane(tmp_path / "a.png", 1)[0])
    assert read_mask(tmp_path / "a.png").shape == (7, 5)


def test_a_damaged_mask_is_named(tmp_path: Path):
    path = save_picture(tmp_path / "a.png", blob(61, 67, classes=200))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"a\.png is damaged and cannot be read"):
        read_mask(path)
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read_mask(tmp_path / "none.png")
