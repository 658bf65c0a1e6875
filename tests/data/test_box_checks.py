import shutil

import pytest
from tests.data.coco_files import entry, save_coco

from foveate.data.box_checks import BoxFacts, check_boxes
from foveate.data.boxes import open_boxes
from foveate.errors import DataError


def test_what_each_split_holds_is_told(tmp_path):
    train = [
        entry(0, [1, 2, 4, 3]),
        entry(0, [0, 0, 3, 3]),
        entry(0, [1, 1, 2, 2], 7),
        entry(0, [0, 0, 9, 8], iscrowd=1),
        entry(1, [0, 0, 9, 8], iscrowd=1),
    ]
    save_coco(tmp_path / "train.json", tmp_path, 3, train)
    save_coco(tmp_path / "val.json", tmp_path, first=3)
    told = []
    facts, findings = check_boxes(open_boxes(tmp_path), lambda *progress: told.append(progress))
    assert facts == [
        BoxFacts("train", 3, 1, (2, 1), 2, 3),
        BoxFacts("val", 1, 0, (1, 0), 0, 1),
        BoxFacts("test", 0, 0, (0, 0), 0, 0),
    ]
    assert findings == []
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_copies_in_another_split_and_classes_that_are_not_shown_are_found(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path, 2)
    save_coco(tmp_path / "val.json", tmp_path, 2, first=2)
    shutil.copy(tmp_path / "pic000.png", tmp_path / "pic001.png")  # twice in train, which is no harm
    shutil.copy(tmp_path / "pic001.png", tmp_path / "pic003.png")
    _, findings = check_boxes(open_boxes(tmp_path))
    assert [str(finding) for finding in findings] == [
        "val: 1 pictures that another split has too, kept; the first: pic003.png is pic000.png of train",
        "train: 1 classes without an object, which cannot be learned; the first: fox",
    ]


def test_every_picture_that_cannot_be_decoded_is_named(tmp_path):
    save_coco(tmp_path / "train.json", tmp_path, 2)
    save_coco(tmp_path / "val.json", tmp_path, first=2)
    boxes = open_boxes(tmp_path)
    for name in ("pic001.png", "pic002.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
    with pytest.raises(DataError, match=r"(?s)pic001\.png is damaged .*\n.*pic002\.png is damaged"):
        check_boxes(boxes)
