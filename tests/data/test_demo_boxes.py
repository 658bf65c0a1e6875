import copy
import pickle

import torch

from foveate.data.boxes import open_boxes
from foveate.data.demo import open_demo
from foveate.data.demo_boxes import SIDE, open_demo_boxes


def test_a_box_is_tight_around_its_mask_and_no_two_overlap():
    split = open_boxes("demo").splits["train"]
    for index in range(12):
        objects, masks = split.objects(index), split.masks(index)
        assert 1 <= len(objects) <= 4
        assert masks.sum(dim=0).max() == 1
        for (left, top, right, bottom), mask, area in zip(objects.boxes_xyxy.int(), masks, objects.areas, strict=True):
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() == area
            assert inside.any(dim=0)[[0, -1]].all()
            assert inside.any(dim=1)[[0, -1]].all()
            assert split.image(index)[:, mask].min() >= 64
    assert len({len(split.objects(index)) for index in range(12)}) == 4


def test_a_picture_is_decided_by_its_number_whatever_was_asked_before():
    one, other = open_demo_boxes.__wrapped__(), open_demo_boxes.__wrapped__()
    for index in (17, 3, 5):
        one.splits["val"].image(index)
    assert torch.equal(one.splits["val"].image(5), other.splits["val"].image(5))
    assert not torch.equal(one.splits["val"].image(5), one.splits["val"].image(6))
    counts = {split: [len(one.splits[split].objects(index)) for index in range(12)] for split in ("val", "test")}
    assert counts["val"] != counts["test"]
    assert not torch.equal(open_demo_boxes.__wrapped__(seed=1).splits["val"].image(5), other.splits["val"].image(5))
    assert torch.equal(pickle.loads(pickle.dumps(one.splits["val"])).image(5), copy.copy(other.splits["val"]).image(5))


def test_the_digits_are_those_of_the_same_split_of_the_plain_demo():
    boxes, plain = open_demo_boxes(), open_demo()
    for name, split in boxes.splits.items():
        assert (split.digits[16] == plain.splits[name].digits).all()
        assert (split.labels == plain.splits[name].labels).all()


def test_the_set_has_ten_classes_and_says_what_it_is():
    boxes = open_boxes("demo", masks=True)
    assert boxes is open_demo_boxes()
    assert boxes.classes == [str(kind) for kind in range(10)]
    assert [len(split) for split in boxes.splits.values()] == [800, 200, 200]
    split = boxes.splits["test"]
    assert (split.image(0).shape, split.size(0)) == ((3, SIDE, SIDE), (SIDE, SIDE))
    assert (split.name(4), split.image_id(4)) == ("digits 4", 4)
    assert split.objects(0).labels.dtype == torch.int64
