"""Folders named after splits in any words and capitals are splits, and folders of no classes are refused or told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cases.calling import foveate

from foveate.data import open_clips, open_pictures
from foveate.data.pictures import open_picture_split
from foveate.data.volumes import open_volumes
from foveate.errors import DataError

CLASSES = ("glioma", "notumor")


def write(folder: Path, count: int = 8) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        random = np.random.default_rng([index, len(str(folder))])
        Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{index}.png")


def tree(root: Path, *folders: str, count: int = 8) -> Path:
    for folder in folders:
        for name in CLASSES:
            write(root / folder / name, count)
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Testing"),
        ("Train", "Val", "Test"),
        ("TRAIN", "VALIDATION", "TEST"),
        ("training_set", "test_set"),
        ("train_images", "dev"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("chest/train", "chest/val", "chest/test"),
        ("archive/archive/train", "archive/archive/test"),
        ("train",),
    ],
)
def test_splits_are_read_from_folders_in_any_of_the_usual_words(tmp_path: Path, names: tuple[str, ...]):
    pictures = open_pictures(tree(tmp_path / "data", *names))
    assert pictures.classes == list(CLASSES)
    assert sum(map(len, pictures.splits.values())) == 16 * len(names)
    assert all(len(split) >= 2 for split in pictures.splits.values())
    test = pictures.splits["test"]
    named = {test.name(index).lower() for index in range(len(test))}
    if any("test" in name.lower() for name in names):
        assert all("test" in name for name in named)


def test_what_is_missing_is_taken_from_train_and_told(tmp_path: Path):
    pictures = open_pictures(tree(tmp_path, "Training", "Testing", count=20))
    assert {name: len(split) for name, split in pictures.splits.items()} == {"train": 32, "val": 8, "test": 40}
    assert pictures.rule.endswith("; val taken from train in the order of a hash of the names")
    pictures = open_pictures(tree(tmp_path / "other", "train", "valid", count=20))
    assert {name: len(split) for name, split in pictures.splits.items()} == {"train": 32, "val": 40, "test": 8}


def test_the_command_line_trains_on_them_and_says_what_was_read(tmp_path: Path):
    data = tree(tmp_path / "data", "Training", "Testing")
    status, _, err = foveate(
        *("train", "--data", data, "--network", "resnet_tiny", "--epochs", 1, "--out", tmp_path / "run")
    )
    assert status == 0
    assert f"read {data}: 14 train, 2 val, 16 test pictures of 2 classes" in err
    assert "train: glioma 7, notumor 7 pictures" in err


@pytest.mark.parametrize("names", [("fold_1", "fold_2"), ("Train A", "Unseen"), ("subset0", "subset1", "subset2")])
def test_classes_that_are_parts_of_a_data_set_are_refused(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(
        DataError, match=r"must hold classes, or folders that say train, val and test; got .*, which look"
    ):
        open_pictures(tree(tmp_path, *names))


def test_pictures_without_classes_in_the_folders_of_splits_are_refused(tmp_path: Path):
    for name in ("Training", "Testing"):
        write(tmp_path / name)
    with pytest.raises(
        DataError, match=r"Testing must hold a folder of pictures for each class; it holds pictures and"
    ):
        open_pictures(tmp_path)


@pytest.mark.parametrize("names", [("color", "grayscale", "segmented"), ("RGB", "Depth_Images")])
def test_looks_of_the_same_pictures_are_no_classes(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(
        DataError, match=r"which look like the same pictures several times, with the classes glioma, not"
    ):
        open_pictures(tree(tmp_path, *names))


def test_splits_below_classes_are_refused(tmp_path: Path):
    for name in CLASSES:
        for split in ("train", "test"):
            write(tmp_path / name / split)
    with pytest.raises(DataError, match=r"got glioma with test, train in it: put the folders of splits above those of"):
        open_pictures(tmp_path)


def test_junk_is_left_out_and_told(tmp_path: Path):
    tree(tmp_path, "train", "test", "__MACOSX/train")
    write(tmp_path / "extra")
    (tmp_path / "labels.csv").touch()
    pictures = open_pictures(tmp_path)
    assert pictures.classes == list(CLASSES)
    assert list(pictures.notes) == [
        f"{tmp_path / '__MACOSX'} is none of the data, left out",
        f"1 files beside the folders of {tmp_path} are left out, such as labels.csv",
        f"{tmp_path / 'extra'} is named after no split, left out",
    ]


def test_a_class_may_be_called_train(tmp_path: Path):
    for name in ("bus", "car", "train"):
        write(tmp_path / name)
    pictures = open_pictures(tmp_path)
    assert pictures.classes == ["bus", "car", "train"]
    assert list(pictures.notes) == ["'train' is read as a class, though it looks like a split"]
    for split in ("train", "test"):
        for name in ("bus", "train"):
            write(tmp_path / "below" / split / name)
    assert open_pictures(tmp_path / "below").classes == ["bus", "train"]


def test_a_split_beside_classes_is_doubt(tmp_path: Path):
    write(tree(tmp_path, "train") / "bus")
    with pytest.raises(DataError, match=r"got train, which holds folders as that of a split does, beside bus"):
        open_pictures(tmp_path)


def test_two_folders_of_one_split_are_doubt(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold one folder for val; got val and valid"):
        open_pictures(tree(tmp_path, "train", "val", "valid"))


def test_a_split_that_is_not_there_cannot_be_measured(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold a folder for val; it holds Training, Testing"):
        open_picture_split(tree(tmp_path, "Training", "Testing"), "val")


def test_clips_are_read_alike(tmp_path: Path):
    for split in ("Training", "Testing"):
        for name in ("left", "train"):
            for clip in range(3):
                write(tmp_path / split / name / f"clip{clip}", count=2)
    clips = open_clips(tmp_path)
    assert clips.classes == ["left", "train"]
    assert {name: len(split) for name, split in clips.splits.items()} == {"train": 4, "val": 2, "test": 6}


@pytest.mark.parametrize("names", [("Training", "Testing"), ("seg_train/seg_train", "seg_test/seg_test")])
def test_masks_are_read_alike(tmp_path: Path, names: tuple[str, ...]):
    for split in names:
        for kind in ("Images", "Masks"):
            write(tmp_path / split / kind, count=4)
        for path in (tmp_path / split / "Masks").iterdir():
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    volumes = open_volumes(tmp_path)
    assert {name: len(cases) for name, cases in volumes.splits.items()} == {"train": 3, "val": 1, "test": 4}
