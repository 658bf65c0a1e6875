import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import SPLITS, open_pictures
from foveate.errors import DataError


def save(path: Path, value: int = 0, size: tuple[int, int] = (3, 5), colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3) if colour else size, value, np.uint8)).save(path)
    return path


def given_splits(root: Path) -> Path:
    for number, name in enumerate(SPLITS):
        for kind in ("cat", "dog"):
            for index in range(2):
                save(root / name / kind / f"{index}.png", 10 * number + index)
    return root


def test_given_splits_are_kept(tmp_path: Path):
    pictures = open_pictures(given_splits(tmp_path))
    assert pictures.classes == ["cat", "dog"]
    assert (pictures.channels, pictures.size) == (1, (3, 5))
    val = pictures.splits["val"]
    assert [val.name(index) for index in range(len(val))] == [
        f"val/{kind}/{index}.png" for kind in ("cat", "dog") for index in range(2)
    ]
    assert [val.label(index) for index in range(4)] == [0, 0, 1, 1]
    assert torch.equal(val.image(3), torch.full((1, 3, 5), 11, dtype=torch.uint8))
    assert val.boxes_xyxy(0) is None
    assert val.mask(0) is None


def test_validation_may_be_called_valid(tmp_path: Path):
    (given_splits(tmp_path) / "val").rename(tmp_path / "valid")
    assert len(open_pictures(tmp_path).splits["val"]) == 4


def test_classes_without_splits_are_split_by_name(tmp_path: Path):
    for kind, count in (("cat", 20), ("dog", 7)):
        for index in range(count):
            save(tmp_path / kind / f"{index}.png")
    pictures = open_pictures(tmp_path)
    names = {name: [split.name(index) for index in range(len(split))] for name, split in pictures.splits.items()}
    assert {name: len(names[name]) for name in SPLITS} == {"train": 14 + 5, "val": 3 + 1, "test": 3 + 1}
    assert len({name for part in names.values() for name in part}) == 27
    # The names alone decide: these are the same on every machine and in every year.
    assert names["test"] == ["cat/3.png", "cat/4.png", "cat/6.png", "dog/0.png"]


def test_one_colour_picture_makes_all_colour_and_two_sizes_make_none(tmp_path: Path):
    given_splits(tmp_path)
    save(tmp_path / "test" / "dog" / "2.png", 9, size=(4, 5), colour=True)
    pictures = open_pictures(tmp_path)
    assert (pictures.channels, pictures.size) == (3, None)
    assert pictures.splits["train"].image(0).shape == (3, 3, 5)


def test_files_of_the_desktop_are_passed_over(tmp_path: Path):
    given_splits(tmp_path)
    (tmp_path / "train" / "cat" / ".DS_Store").touch()
    (tmp_path / "train" / "cat" / "Thumbs.db").touch()
    assert len(open_pictures(tmp_path).splits["train"]) == 4


def test_an_empty_class_folder_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "val" / "cow").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*val/cow is empty"):
        open_pictures(tmp_path)


def test_a_file_of_another_kind_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "train" / "cat" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"cat/notes\.txt is not a picture \(\.png, .*class folders hold pictures only"):
        open_pictures(tmp_path)


def test_a_file_that_only_looks_like_a_picture_is_named(tmp_path: Path):
    (given_splits(tmp_path) / "test" / "dog" / "9.png").write_text("no")
    with pytest.raises(DataError, match=r"dog/9\.png is not a picture that can be read"):
        open_pictures(tmp_path)


def test_a_missing_split_is_taken_from_train(tmp_path: Path):
    shutil.rmtree(given_splits(tmp_path) / "val")
    pictures = open_pictures(tmp_path)
    assert {name: len(split) for name, split in pictures.splits.items()} == {"train": 2, "val": 2, "test": 4}
    assert pictures.rule.endswith("val taken from train in the order of a hash of the names")


def test_a_class_that_misses_in_a_split_is_named(tmp_path: Path):
    save(given_splits(tmp_path) / "train" / "cow" / "0.png")
    with pytest.raises(DataError, match=r"has no picture of class 'cow' in its val split"):
        open_pictures(tmp_path)


def test_a_class_that_is_not_trained_is_named(tmp_path: Path):
    save(given_splits(tmp_path) / "test" / "cow" / "0.png")
    with pytest.raises(DataError, match=r"test holds class 'cow', which .*train does not"):
        open_pictures(tmp_path)


def test_one_class_cannot_be_told_apart(tmp_path: Path):
    for index in range(5):
        save(tmp_path / "cat" / f"{index}.png")
    with pytest.raises(DataError, match=r"must hold two classes or more to tell apart; got only 'cat'"):
        open_pictures(tmp_path)


def test_two_pictures_cannot_be_split_in_three(tmp_path: Path):
    for kind, count in (("cat", 5), ("dog", 2)):
        for index in range(count):
            save(tmp_path / kind / f"{index}.png")
    with pytest.raises(DataError, match=r"dog needs three pictures or more to be split in three; got 2"):
        open_pictures(tmp_path)


def test_a_folder_without_classes_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold a folder of pictures for each class; it holds no folder"):
        open_pictures(tmp_path)


def test_what_is_no_data_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r'or "demo"; got .*nowhere: there is no such file'):
        open_pictures(tmp_path / "nowhere")
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"got .*a\.csv: that is no folder and no \.npz file"):
        open_pictures(tmp_path / "a.csv")
