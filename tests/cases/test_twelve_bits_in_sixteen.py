"""Grey images of 16 bits that use 10, 12 or 14: the training images say how many, or a setting does."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from tests.cases.calling import foveate

from foveate.data import open_pictures
from foveate.data.depth import set_bits, settle_depth
from foveate.data.reading import read_picture
from foveate.errors import DataError


def save(path: Path, bits: int, step: int) -> Path:
    """A picture of a little less than half of the range, with a brighter square."""
    pixels = np.full((32, 32), 2 ** (bits - 1), np.uint16)
    pixels[8:16, 8:16] += step
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def shadows(folder: Path, bits: int, count: int = 12) -> Path:
    """Two classes that differ by 3 % of a detector's range."""
    for kind, step in (("clear", 0), ("shadow", 2**bits * 3 // 100)):
        for number in range(count):
            save(folder / kind / f"{number:02}.png", bits, step)
    return folder


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_training_images_say_how_many_bits_are_used(tmp_path: Path, bits):
    pictures = open_pictures(shadows(tmp_path, bits))
    depth = settle_depth(pictures.splits, None)
    assert (depth.bits, depth.largest) == (bits, 2 ** (bits - 1) + 2**bits * 3 // 100)
    shadow = pictures.splits["train"].image(len(pictures.splits["train"]) - 1)
    assert int(shadow.max()) - int(shadow.min()) in (7, 8)  # 3 % of 255
    assert int(shadow.min()) in (127, 128)


def test_train_tells_the_bits_and_predict_reads_by_them(tmp_path: Path):
    data, out = shadows(tmp_path / "data", 12), tmp_path / "run"
    options = ["--network", "resnet_tiny", "--epochs", 1, "--set", "batch_size=4", "--out", out]
    done = foveate("train", "classify", "--data", data, *options)
    assert done.status == 0
    assert "16 training pictures have 16 bits and values up to 2170: 0 to 4095 (12 bits) becomes 0 to 255" in done.told
    with safe_open(out / "model.safetensors", "pt") as held:
        assert json.loads(held.metadata()["foveate"])["bits"] == 12
    save(tmp_path / "deep.png", 16, 0)
    done = foveate("predict", out, tmp_path / "deep.png", "--out", tmp_path / "found")
    assert done.status == 2
    assert "deep.png holds values up to 32768; 12 bits are read, 0 to 4095" in done.told


def test_a_setting_chooses_the_bits(tmp_path: Path):
    data, out = shadows(tmp_path / "data", 10), tmp_path / "run"
    options = ["--network", "resnet_tiny", "--epochs", 1, "--set", "batch_size=4", "--out", out]
    done = foveate("train", "classify", "--data", data, *options, "--set", "bits=14")
    assert done.status == 0
    assert "0 to 16383 (14 bits) becomes 0 to 255, as the setting bits says" in done.told
    done = foveate("train", "--data", data, "--set", "bits=20")
    assert done.status == 2
    assert "bits must be from 8 to 16; got 20" in done.told


def test_boxes_are_found_in_images_of_twelve_bits_too(tmp_path: Path):
    images, annotations = [], []
    for number in range(8):
        save(tmp_path / "data" / f"{number}.png", 12, 1000)
        images.append({"id": number, "file_name": f"{number}.png", "height": 32, "width": 32})
        box = {"id": number, "image_id": number, "category_id": 1, "bbox": [8, 8, 8, 8], "area": 64, "iscrowd": 0}
        annotations.append(box)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (tmp_path / "data" / "all.json").write_text(json.dumps(content))
    options = ["--network", "detr_tiny", "--epochs", 1, "--set", "batch_size=2", "--out", tmp_path / "run"]
    done = foveate("train", "detect", "--data", tmp_path / "data", *options)
    assert done.status == 0
    assert "values up to 3048: 0 to 4095 (12 bits) becomes 0 to 255" in done.told
    assert json.loads((tmp_path / "run" / "preparation.json").read_text())["bits"] == 12


def test_values_beyond_the_bits_are_refused_and_data_in_memory_stay(tmp_path: Path):
    path = save(tmp_path / "a.png", 12, 10)
    with pytest.raises(DataError, match=r"a\.png holds values up to 2058; 10 bits are read, 0 to 1023, as the setting"):
        read_picture(path, 1, bits=10)
    shadows(tmp_path / "data", 12)
    told = r"holds values up to 2170; the setting bits=10 reads 0 to 1023"
    with pytest.raises(DataError, match=told):
        settle_depth(open_pictures(tmp_path / "data").splits, 10)
    demo = open_pictures("demo")
    assert settle_depth(demo.splits, None).notes() == ()
    set_bits(demo.splits, 12)


@pytest.mark.parametrize(("bits", "fits"), [(12, False), (14, False), (16, True)])
def test_colour_images_of_which_too_little_can_be_read_are_refused(tmp_path: Path, bits, fits):
    for kind in ("clear", "shadow"):
        for number in range(4):
            pixels = np.full((8, 8, 3), 2**bits - 1, ">u2")
            path = tmp_path / kind / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(colour_png(pixels))
    pictures = open_pictures(tmp_path)
    if fits:
        assert settle_depth(pictures.splits, None).notes() == ()
        return
    told = r"\d\.png and \d+ other colour pictures have 16 bits and use at most 14 of them"
    with pytest.raises(DataError, match=told):
        settle_depth(pictures.splits, None)


def colour_png(pixels: np.ndarray) -> bytes:
    """A PNG of three channels of 16 bits, which Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
