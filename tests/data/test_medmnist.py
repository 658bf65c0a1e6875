import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.data import SPLITS, open_pictures
from foveate.data.pictures import open_picture_split
from foveate.errors import DataError


def write(path: Path, channels: int = 3, **changes: np.ndarray | None) -> Path:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray | None] = {}
    for name, count in zip(SPLITS, (7, 5, 3), strict=True):
        shape = (count, 11, 13, channels) if channels > 1 else (count, 11, 13)
        arrays[f"{name}_images"] = random.integers(0, 256, shape, np.uint8)
        arrays[f"{name}_labels"] = (np.arange(count) % 3)[:, None]
    kept = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(path / "set.npz", **kept)  # pyright: ignore[reportArgumentType]
    return path / "set.npz"


def test_colour_pictures_are_read(tmp_path: Path):
    path = write(tmp_path)
    pictures = open_pictures(path)
    assert (pictures.classes, pictures.channels, pictures.size) == (["0", "1", "2"], 3, (11, 13))
    assert [len(pictures.splits[name]) for name in SPLITS] == [7, 5, 3]
    val = pictures.splits["val"]
    assert torch.equal(val.image(4), torch.from_numpy(np.load(path)["val_images"][4]).permute(2, 0, 1))
    assert (val.label(4), val.name(4), val.boxes_xyxy(4), val.mask(4)) == (1, "4", None, None)


def test_grey_pictures_are_read(tmp_path: Path):
    pictures = open_pictures(write(tmp_path, channels=1))
    assert (pictures.channels, pictures.splits["train"].image(0).shape) == (1, (1, 11, 13))


def test_the_arrays_of_one_split_are_enough_to_measure_it(tmp_path: Path):
    path = write(tmp_path, train_images=None, train_labels=None, val_images=None, val_labels=None)
    found = open_picture_split(path, "test")
    assert (found.classes, len(found.split)) == (["0", "1", "2"], 3)
    with pytest.raises(DataError, match=r"must hold val_images, val_labels; val_images, val_labels missing"):
        open_picture_split(path, "val")


def test_flat_labels_are_read(tmp_path: Path):
    pictures = open_pictures(write(tmp_path, val_labels=np.array([2, 1, 0, 0, 1], np.uint8)))
    assert [pictures.splits["val"].label(index) for index in range(5)] == [2, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"val_images": None}, r"set\.npz must hold train_images, .*; val_images missing"),
        ({"train_images": np.zeros((7, 11, 13, 3), np.float32)}, r"train_images as uint8 .*; got float32 \(7, 11"),
        ({"train_images": np.zeros((7, 28, 28, 28), np.uint8)}, r"train_images as uint8 .*; got uint8 \(7, 28, 28, 28"),
        ({"test_images": np.zeros((3, 11, 12, 3), np.uint8)}, r"pictures of one shape in all splits; got \[\(11, 12"),
        ({"train_labels": np.zeros((7, 1))}, r"train_labels as whole numbers; got float64"),
        ({"train_labels": np.zeros((7, 14), int)}, r"has 14 labels a picture in train_labels; one class a picture"),
        ({"val_labels": np.zeros((4, 1), int)}, r"a label a picture; val has 5 and 4 labels"),
        ({"test_labels": np.array([0, 1, 3])}, r"label 3 in test_labels, out of range: the training labels end at 2"),
        ({"val_labels": np.array([0, 1, -1, 2, 2])}, r"label -1 in val_labels, out of range: labels count from 0"),
        ({"train_labels": np.array([0, 1, 3, 3, 3, 0, 0])}, r"label 3 in train_labels but no picture of class 2"),
        ({"test_labels": np.array([0, 1, 1])}, r"no picture of class '2' in its test split"),
        ({"train_labels": np.zeros(7, int), "val_labels": np.zeros(5, int), "test_labels": np.zeros(3, int)}, "two cl"),
        ({"train_labels": np.array([{}] * 7)}, r"cannot be read as an npz of plain arrays"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(tmp_path: Path, changes: dict[str, np.ndarray | None], sentence: str):
    path = write(tmp_path, **changes)
    with pytest.raises(DataError, match=sentence):
        open_pictures(path)


def test_a_truncated_file_is_named(tmp_path: Path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"set\.npz cannot be read as an npz of plain arrays"):
        open_pictures(path)
    path.write_text("not an npz")
    with pytest.raises(DataError, match=r"set\.npz cannot be read as an npz of plain arrays"):
        open_pictures(path)


def test_a_file_of_one_array_is_named(tmp_path: Path):
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"set\.npz cannot be read as an npz of plain arrays"):
        open_pictures(tmp_path / "set.npz")


def test_a_damaged_header_is_named(tmp_path: Path):
    path = write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part.replace(b"descr", b"'esc(") if "train_images" in name else part)
    with pytest.raises(DataError, match=r"set\.npz cannot be read as an npz of plain arrays"):
        open_pictures(path)


def test_an_empty_split_is_named(tmp_path: Path):
    path = write(tmp_path, val_labels=np.zeros((0, 1), np.uint8))
    with pytest.raises(DataError, match=r"must hold val_labels for at least one picture; got \(0, 1\)"):
        open_pictures(path)
