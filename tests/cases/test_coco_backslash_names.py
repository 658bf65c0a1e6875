"""COCO json that programs wrote on Windows: backslashes in file_name."""

import pytest
from tests.cases.calling import foveate
from tests.cases.coco_sets import write_coco

from foveate.data.boxes import open_boxes


def renamed(change):
    def spoil(content):
        for entry in content["images"]:
            entry["file_name"] = change(entry["file_name"])

    return spoil


NAMES = {
    "of label studio": (lambda name: name.replace("/", "\\"), "images"),
    "with a dot before": (lambda name: ".\\" + name.replace("/", "\\"), "images"),
    "two folders deep": (lambda name: name.replace("/", "\\"), "data/images"),
    "with both": (lambda name: name.replace("/", "\\", 1), "data/images"),
    "beginning with a drive": (lambda name: "C:\\Users\\a\\" + name.replace("/", "\\"), "images"),
    "of a share": (lambda name: "\\\\server\\share\\" + name.replace("/", "\\"), "images"),
}


@pytest.mark.parametrize(("change", "folder"), NAMES.values(), ids=NAMES)
def test_the_pictures_are_found(change, folder, tmp_path):
    boxes = open_boxes(write_coco(tmp_path, renamed(change), folder))
    assert boxes.findings == []
    names = {split.name(index) for split in boxes.splits.values() for index in range(len(split))}
    assert len(names) == 8
    assert not any("\\" in name for name in names)


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path):
    write_coco(tmp_path, renamed(lambda name: f"a\\{name}"))
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / f"a\\{path.name}")
    split = open_boxes(tmp_path).splits["train"]
    assert split.name(0).startswith("a\\")


def test_pictures_that_are_not_there_are_told(tmp_path):
    data = write_coco(tmp_path / "data", renamed(lambda name: f"gone\\{name}"))
    done = foveate("train", "detect", "--data", data, "--out", tmp_path / "run")
    assert done.status == 2
    assert "none of the 8 pictures that" in done.errors
    assert "such as gone\\0.png" in done.errors


@pytest.mark.slow
def test_a_run_trains_on_them(tmp_path):
    data = write_coco(tmp_path / "data", renamed(NAMES["of label studio"][0]), "images")
    arguments = ("--network", "detr_tiny", "--epochs", "1", "--out", tmp_path / "run")
    done = foveate("train", "detect", "--data", data, *arguments)
    assert done.status == 0, done.errors
