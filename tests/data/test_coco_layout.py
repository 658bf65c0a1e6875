import shutil

import pytest
from tests.data.coco_files import save_coco
from tests.data.making import real_data

from foveate.data.boxes import open_box_split, open_boxes
from foveate.errors import DataError


def names(boxes):
    return {split: [held.name(index) for index in range(len(held))] for split, held in boxes.splits.items()}


def test_each_split_has_a_file_in_annotations(tmp_path):
    for first, split in enumerate(("train", "val", "test")):
        save_coco(tmp_path / "annotations" / f"instances_{split}2017.json", tmp_path / f"{split}2017", first=first)
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    boxes = open_boxes(tmp_path)
    assert names(boxes) == {"train": ["pic000.png"], "val": ["pic001.png"], "test": ["pic002.png"]}
    assert (boxes.classes, boxes.category_ids, boxes.rule) == (["owl", "fox"], [3, 7], "as the files say")


def test_each_split_has_a_folder_with_its_file(tmp_path):
    for first, split in enumerate(("train", "valid")):
        save_coco(tmp_path / split / "_annotations.coco.json", tmp_path / split, first=first)
    assert names(open_boxes(tmp_path)) == {"train": ["pic000.png"], "val": ["pic001.png"], "test": []}


@pytest.mark.parametrize("folder", ["", "images", "train", "images/train"])
def test_pictures_are_found_around_the_file(tmp_path, folder):
    save_coco(tmp_path / "train.json", tmp_path / folder)
    save_coco(tmp_path / "val.json", tmp_path / "images" / "val", first=1)
    assert names(open_boxes(tmp_path))["train"] == ["pic000.png"]


def test_one_file_is_divided_by_picture_the_same_way_everywhere(tmp_path):
    save_coco(tmp_path / "one" / "labels.json", tmp_path / "one" / "images", 20)
    save_coco(tmp_path / "other" / "annotations" / "labels.json", tmp_path / "other" / "images", 20)
    boxes = open_boxes(tmp_path / "one")
    assert [len(split) for split in boxes.splits.values()] == [14, 3, 3]
    assert names(boxes)["train"] == sorted(names(boxes)["train"])
    every = sorted(name for split in names(boxes).values() for name in split)
    assert len(set(every)) == 20
    assert names(boxes)["train"] != every[:14]  # neighbours may be alike
    assert names(open_boxes(tmp_path / "other" / "annotations" / "labels.json")) == names(boxes)
    assert boxes.rule == "val and test taken from the file of train in the order of a hash of the pictures' names"


def test_where_only_val_has_no_file_it_is_taken_from_train(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path, 17)
    save_coco(tmp_path / "test.json", tmp_path, 3, first=17)
    boxes = open_boxes(tmp_path)
    assert [len(boxes.splits[split]) for split in ("train", "val", "test")] == [14, 3, 3]
    assert boxes.rule.startswith("val taken from the file of train")


def test_the_folder_of_the_pictures_can_be_named(tmp_path):
    path = save_coco(tmp_path / "labels.json", tmp_path / "far" / "away", 3)
    with pytest.raises(DataError, match="none of the 3 pictures"):
        open_boxes(path)
    assert len(open_boxes(path, images=tmp_path / "far" / "away").splits["train"]) == 1


def test_findings_say_the_split(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path)
    save_coco(tmp_path / "val.json", tmp_path, first=1, count=2)
    (tmp_path / "pic002.png").unlink()
    assert [finding.split for finding in open_boxes(tmp_path).findings] == ["val"]


def test_a_split_without_pictures_is_refused_and_says_what_was_left_out(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path)
    save_coco(tmp_path / "val.json", tmp_path, count=0)
    with pytest.raises(DataError, match=r"has no picture in its val split$"):
        open_boxes(tmp_path)
    save_coco(tmp_path / "val.json", tmp_path, first=1)
    (tmp_path / "pic001.png").write_bytes(b"")
    with pytest.raises(DataError, match="no picture in its val split; val: 1 pictures that cannot be read, left out"):
        open_boxes(tmp_path)


def test_nothing_to_learn_from_is_refused(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path, annotations=[])
    save_coco(tmp_path / "val.json", tmp_path, first=1)
    with pytest.raises(DataError, match="has no object to learn from in its train split"):
        open_boxes(tmp_path)
    save_coco(tmp_path / "train.json", tmp_path, categories=[], annotations=[])
    save_coco(tmp_path / "val.json", tmp_path, first=1, categories=[], annotations=[])
    with pytest.raises(DataError, match="must name a category or more; it names none"):
        open_boxes(tmp_path)


def test_a_picture_in_two_splits_is_refused(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path, 2)
    save_coco(tmp_path / "val.json", tmp_path, first=1)
    with pytest.raises(DataError, match=r"pic001\.png is listed twice, in train and in val"):
        open_boxes(tmp_path)


def test_splits_must_agree_on_the_names_of_categories(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path)
    save_coco(tmp_path / "val.json", tmp_path, first=1, categories=[{"id": 3, "name": "elk"}])
    with pytest.raises(DataError, match=r"val\.json calls category 3 'elk'; another split calls it 'owl'"):
        open_boxes(tmp_path)


def test_folders_that_say_too_little_or_too_much_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"boxes are read from a folder or a COCO json file; .*nowhere does not exist"):
        open_boxes(tmp_path / "nowhere")
    with pytest.raises(DataError, match="or one with train in its name; got no json file"):
        open_boxes(tmp_path)
    for name in ("a", "b"):
        save_coco(tmp_path / f"{name}.json", tmp_path)
    with pytest.raises(DataError, match=r"with train in its name; got a\.json, b\.json"):
        open_boxes(tmp_path)
    for name in ("train_a", "train_b"):
        shutil.copy(tmp_path / "a.json", tmp_path / f"{name}.json")
    with pytest.raises(DataError, match=r"one json file for train; got .*train_a\.json and .*train_b\.json"):
        open_boxes(tmp_path)


def test_raccoons_are_read():
    boxes = open_boxes(real_data("raccoon"))
    assert (boxes.classes, boxes.category_ids, boxes.findings) == (["raccoon"], [1], [])
    assert {split: len(held) for split, held in boxes.splits.items()} == {"train": 132, "val": 28, "test": 40}
    split = boxes.splits["test"]
    assert split.image(0).shape[1:] == split.size(0)


def test_categories_of_one_name_are_told_apart(tmp_path):
    named = [{"id": 9, "name": "owl"}, {"id": 3, "name": "owl"}, {"id": 7, "name": "fox"}]
    save_coco(tmp_path / "all.json", tmp_path, 9, categories=named)
    assert open_boxes(tmp_path).classes == ["owl (3)", "fox", "owl (9)"]


def test_a_split_alone_is_a_file_as_a_whole_or_the_file_of_its_name(tmp_path):
    save_coco(tmp_path / "test.json", tmp_path / "images", 4)
    for given in (tmp_path, tmp_path / "test.json"):
        boxes = open_box_split(given, "test")
        assert len(boxes.splits["test"]) == 4
        assert boxes.rule == "all of test.json"
    save_coco(tmp_path / "train.json", tmp_path / "images", 9, first=10)
    boxes = open_box_split(tmp_path, "val")  # of which there is no file: taken from train
    assert (len(boxes.splits["val"]), len(boxes.splits["test"])) == (2, 4)
    assert open_box_split("demo", "val").source == "demo"
