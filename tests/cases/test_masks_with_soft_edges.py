"""Masks whose edges are grey are not dozens of classes: they are refused with the way out, or read by a threshold."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cases.calling import foveate

from foveate.data.mask_values import MaskRule, classes_seen
from foveate.data.scans import read_case
from foveate.data.volumes import Case, open_volumes
from foveate.errors import DataError


def disc(index: int, side: int = 96, inner: int = 255) -> Image.Image:
    y, x = np.ogrid[:side, :side]
    far = np.hypot(y - side * 0.42 - index, x - side * 0.52)
    return Image.fromarray(np.where(far < side / 8, inner, np.where(far < side / 4, 255, 0)).astype(np.uint8))


def resized(index: int) -> Image.Image:
    return disc(index).resize((64, 64), Image.Resampling.BILINEAR)


def again_from_jpeg(index: int) -> Image.Image:
    body = io.BytesIO()
    disc(index, 64).save(body, "JPEG", quality=90)
    return Image.open(body)


def enlarged(index: int) -> Image.Image:
    return disc(index, 24).resize((96, 96), Image.Resampling.BICUBIC)


def two_structures(index: int) -> Image.Image:
    return disc(index, inner=128).resize((64, 64), Image.Resampling.LANCZOS)


def halved(index: int) -> Image.Image:
    return disc(index).resize((48, 48), Image.Resampling.BOX)  # whose edges have three values alone


def write(root: Path, make) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(8):
        mask = make(index)
        mask.save(root / "masks" / f"{index}.png")
        mask.save(root / "images" / f"{index}.png")
    return root


@pytest.mark.parametrize("make", [resized, again_from_jpeg, enlarged, halved, two_structures])
def test_masks_that_were_smoothed_are_refused_with_the_way_out(tmp_path: Path, make):
    said = r"masks/0\.png are smoothed: they hold \d+ values .* on edges alone; give threshold=128 .*dataset\.json"
    with pytest.raises(DataError, match=said):
        open_volumes(write(tmp_path, make))


@pytest.mark.parametrize("make", [resized, again_from_jpeg, enlarged])
def test_a_threshold_makes_them_two_classes(tmp_path: Path, make):
    volumes = open_volumes(write(tmp_path, make), threshold=128)
    assert volumes.classes == ["background", "foreground"]
    label = read_case(volumes.splits["train"][0], volumes).label
    assert label is not None
    grey = np.asarray(Image.open(tmp_path / "masks" / "0.png"))
    assert np.array_equal(label.numpy(), (grey >= 128).astype(np.uint8))


def test_a_threshold_that_parts_nothing_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"threshold must part the values of the masks, which are 0 to 255; got 256"):
        open_volumes(write(tmp_path, resized), threshold=256)


def test_the_command_line_says_it_and_takes_the_setting(tmp_path: Path):
    command = ("train", "segment", "--data", write(tmp_path / "data", resized), "--network", "unet", "--max-time", "1s")
    status, _, err = foveate(*command, "--out", tmp_path / "run")
    assert (status, "give threshold=128" in err) == (2, True)
    status, _, err = foveate(*command, "--set", "threshold=128", "--out", tmp_path / "run")
    assert status == 0
    assert "train: background 80." in err
    assert (tmp_path / "run" / "cases.csv").read_text().count("foreground") == 1


def test_many_classes_with_areas_are_classes(tmp_path: Path):
    mask = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((5, 5), np.uint8))
    mask[0, 0], mask[3, 7] = 9, 4  # stray pixels make no class soft
    Image.fromarray(mask).save(tmp_path / "mask.png")
    seen = classes_seen([Case("a", (), tmp_path / "mask.png")], MaskRule())
    assert len(seen.names) == 16
    assert seen.notes == []


def test_one_thin_class_is_a_class_and_is_told(tmp_path: Path):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 128
    mask[21:39, 21:39] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    seen = classes_seen([Case("a", (), tmp_path / "mask.png")], MaskRule())
    assert seen.names == ["background", "128", "255"]
    assert ".png hold 1 value, 128, in 1.86% of all voxels, with no area, on edges alone, as masks" in seen.notes[0]


def test_thin_classes_without_a_gap_are_classes(tmp_path: Path):
    mask = np.zeros((64, 64), np.uint8)
    for number in (1, 2, 3, 4):
        mask[10 * number] = number  # lines alone have no area
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert len(classes_seen([Case("a", (), tmp_path / "mask.png")], MaskRule()).names) == 5
