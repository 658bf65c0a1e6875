"""Images that EXIF turns: the size in a header is that of the image as read, in every format and version of Pillow."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from tests.cases.calling import Done, foveate

from foveate.data.boxes import open_boxes
from foveate.data.reading import read_header, read_picture
from foveate.errors import DataError

RAW = np.zeros((40, 60, 3), np.uint8)
RAW[5:15, 10:30] = [255, 0, 0]
BOXES = {"raw": [10, 5, 20, 10], "upright": [25, 10, 10, 20]}  # of the image as stored, and turned by orientation 6


def save(path: Path, orientation: int, pixels: np.ndarray = RAW) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def boxes(folder: Path, kind: str, ending: str = "tif", orientation: int = 6, side: int | None = None) -> Path:
    pixels = RAW if side is None else RAW[:side, :side]
    sizes = pixels.shape[:2] if kind == "raw" else pixels.shape[1::-1]
    images, annotations = [], []
    for number in range(8):
        save(folder / f"{number}.{ending}", orientation, np.roll(pixels, 0 if number == 0 else 1, axis=2))
        images.append({"id": number, "file_name": f"{number}.{ending}", "height": sizes[0], "width": sizes[1]})
        box = {"id": number, "image_id": number, "category_id": 1, "bbox": BOXES[kind], "area": 200, "iscrowd": 0}
        annotations.append(box)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "red"}]}
    (folder / "all.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("ending", ["tif", "jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_says_the_size_that_is_read(tmp_path: Path, ending, orientation):
    path = save(tmp_path / f"a.{ending}", orientation)
    _, size = read_header(path)
    assert tuple(read_picture(path, 3).shape[1:]) == size == ((60, 40) if orientation >= 5 else (40, 60))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_it_does_in_versions_of_pillow_whose_size_is_that_of_the_file(tmp_path: Path, monkeypatch, orientation):
    setup = TiffImagePlugin.TiffImageFile._setup

    def older(self):
        setup(self)
        self._size = int(self.tag_v2[256]), int(self.tag_v2[257])

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_setup", older)
    path = save(tmp_path / "a.tif", orientation)
    assert read_header(path)[1] == ((60, 40) if orientation == 6 else (40, 60))


@pytest.mark.parametrize("ending", ["tif", "jpg", "png"])
def test_boxes_in_the_upright_image_are_used(tmp_path: Path, ending):
    split = open_boxes(boxes(tmp_path, "upright", ending)).splits["train"]
    left, top, right, bottom = map(int, split.objects(0).boxes_xyxy[0])
    held = {split.name(index): split.image(index) for index in range(len(split))}
    first = next(iter(held.values()))
    assert first.shape[1:] == (60, 40)
    inside = first[:, top + 2 : bottom - 2, left + 2 : right - 2].float().amax(dim=0)
    assert inside.min() > 100


def test_boxes_in_the_image_as_stored_are_left_out_and_told(tmp_path: Path):
    out = ["--network", "detr_tiny", "--max-time", "1s", "--out", tmp_path / "run"]
    done = foveate("train", "detect", "--data", boxes(tmp_path / "data", "raw"), *out)
    assert done.status == 2
    assert "pictures of another size than said (turned by EXIF, maybe), left out" in done.told
    assert "0.tif is 60 high and 40 wide, where 40 and 60 were said" in done.told


@pytest.mark.parametrize(("orientation", "side"), [(3, None), (6, 32)])
def test_a_turn_that_no_size_shows_is_told(tmp_path: Path, orientation, side):
    found = open_boxes(boxes(tmp_path, "raw", orientation=orientation, side=side)).findings
    what = "pictures that EXIF turns or mirrors, whose boxes are taken as of the upright picture"
    assert any(finding.what == what for finding in found)


@pytest.mark.parametrize("ending", ["tif", "jpg", "png"])
def test_an_orientation_that_there_is_not_is_refused(tmp_path: Path, ending):
    path = save(tmp_path / f"a.{ending}", 9)
    for read in (read_header, lambda path: read_picture(path, 3)):
        with pytest.raises(DataError, match=rf"a\.{ending} must have an EXIF orientation from 1 to 8; it says 9"):
            read(path)


def test_an_orientation_of_0_is_none(tmp_path: Path):
    path = save(tmp_path / "a.jpg", 0)
    assert read_header(path)[1] == tuple(read_picture(path, 3).shape[1:]) == (40, 60)


def masks(folder: Path, orientation: int, mask: np.ndarray, tag: int | None = None) -> Path:
    noise = np.random.default_rng(0)
    for number in range(6):
        pixels = noise.integers(0, 255, (*RAW.shape[:2], 3)).astype(np.uint8)
        save(folder / "images" / f"{number}.png", orientation, pixels)
        if tag is None:
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        else:
            save(folder / "masks" / f"{number}.png", tag, mask)
    return folder


OBJECT = (RAW[..., 0] > 0).astype(np.uint8) * 255


def segment(data: Path) -> Done:
    options = ["--network", "unet", "--epochs", 1, "--set", "patch_size=[16,16]", "--set", "patches_per_epoch=2"]
    return foveate("train", "segment", "--data", data, *options, "--out", data / ".." / "run")


def test_a_mask_with_its_own_tag_is_turned_with_its_image(tmp_path: Path):
    done = segment(masks(tmp_path / "data", 6, OBJECT, tag=6))
    assert done.status == 0
    assert "turned by EXIF" not in done.told


def test_a_mask_without_a_tag_of_the_upright_size_is_used_and_told(tmp_path: Path):
    done = segment(masks(tmp_path / "data", 6, np.rot90(OBJECT, -1).copy()))
    assert done.status == 0
    assert "6 pictures are turned by EXIF and their masks have no such tag; the masks are taken as upright" in done.told


def test_a_mask_without_a_tag_of_the_stored_size_is_refused_with_the_reason(tmp_path: Path):
    done = segment(masks(tmp_path / "data", 6, OBJECT))
    assert done.status == 2
    assert "they must have one shape, and EXIF turns images/0.png (orientation 6) but not masks/0.png" in done.told
