import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.coco_files import HEIGHT, WIDTH, entry, save_coco
from tests.data.making import save_picture

from foveate.data.coco import CocoSplit, read_coco
from foveate.data.findings import Tally
from foveate.errors import DataError


@pytest.fixture
def read(tmp_path):
    """Write a file with these annotations, and read it."""

    def reading(annotations=None, count=1, masks=False, **changes):
        path = save_coco(tmp_path / "all.json", tmp_path, count, annotations, **changes)
        tally = Tally("train")
        return read_coco(path, [tmp_path], tally, masks=masks), [str(finding) for finding in tally.findings()]

    return reading


def test_a_picture_comes_with_its_objects_whatever_gaps_the_ids_have(read, tmp_path):
    boxes = [
        entry(0, [1, 2, 4, 3], 7, area=9.5),
        entry(0, [0, 0, 12, 8], 3, iscrowd=1),
        entry(1, [2.5, 1, 1, 1], 3),
    ]
    file, told = read(boxes, 3)
    assert told == []
    assert file.categories == {7: "fox", 3: "owl"}
    split = CocoSplit(file.scenes, [3, 7])
    objects = split.objects(0)
    assert objects.boxes_xyxy.tolist() == [[1, 2, 5, 5], [0, 0, 12, 8]]
    assert objects.labels.tolist() == [1, 0]
    assert objects.crowd.tolist() == [False, True]
    assert objects.areas.tolist() == [9.5, 96]
    assert split.objects(1).boxes_xyxy.tolist() == [[2.5, 1, 3.5, 2]]
    assert split.objects(2).boxes_xyxy.shape == (0, 4)
    assert (split.name(1), split.image_id(1), split.size(1)) == ("pic001.png", 1, (HEIGHT, WIDTH))
    assert split.masks(0) is None
    stored = np.asarray(Image.open(tmp_path / "pic001.png"))
    assert torch.equal(split.image(1), torch.from_numpy(stored.copy()).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([1, 2, 0, 3], "boxes without area, left out"),
        ([1, 2, 3, -1], "boxes without area, left out"),
        ([math.nan, 2, 3, 3], "boxes that are not four finite numbers, left out"),
        ([1, 2, math.inf, 3], "boxes that are not four finite numbers, left out"),
        ([1, 2, 3], "boxes that are not four finite numbers, left out"),
        (["one", 2, 3, 4], "boxes that are not four finite numbers, left out"),
        (None, "boxes that are not four finite numbers, left out"),
        ([12, 2, 3, 3], "boxes outside their picture, left out"),
        ([1, -4, 3, 4], "boxes outside their picture, left out"),
    ],
)
def test_a_box_that_cannot_be_used_is_left_out_and_counted(read, box, said):
    file, told = read([entry(0, box), entry(0, [1, 2, 4, 3]), entry(0, box)])
    assert len(file.scenes[0].boxes_xyxy) == 1
    (finding,) = told
    assert finding.startswith(f"train: 2 {said}; the first: annotation 7 of pic000.png: ")


def test_a_box_is_cut_at_the_edge_and_counted_if_more_than_a_pixel_is_lost(read):
    file, told = read([entry(0, [-3, -2, 6, 50]), entry(0, [8, 6, 4.9, 2.9])])
    assert file.scenes[0].boxes_xyxy == [(0, 0, 3, 8), (8, 6, 12, 8)]
    assert told == [
        "train: 1 boxes that reach out of their picture, cut at its edge; the first: annotation 7 of pic000.png: "
        "[-3, -2, 6, 50]"
    ]


def test_annotations_of_nothing_that_is_listed_are_counted(read):
    stray = [entry(9, [1, 2, 4, 3]), entry(0, [1, 2, 4, 3], 5), entry(0, [1, 2, 4, 3], None), {"image_id": [], "id": 1}]
    file, told = read(stray)
    assert file.scenes[0].boxes_xyxy == []
    assert told == [
        "train: 2 annotations of a picture that is not listed, left out; the first: annotation 907 in all.json",
        "train: 2 annotations of a category that is not listed, left out; the first: annotation 7 in all.json",
    ]


def test_pictures_that_cannot_be_used_are_left_out_with_their_objects(read, tmp_path):
    path = save_coco(tmp_path / "all.json", tmp_path, 4)
    (tmp_path / "pic001.png").unlink()
    (tmp_path / "pic002.png").write_bytes(b"nothing")
    save_picture(tmp_path / "pic003.png", np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    tally = Tally("val")
    file = read_coco(path, [tmp_path], tally)
    assert [scene.image_id for scene in file.scenes] == [0]
    missing, damaged, turned = map(str, tally.findings())
    assert missing == f"val: 1 pictures that are missing, left out; the first: {tmp_path / 'pic001.png'}"
    assert damaged.startswith(f"val: 1 pictures that cannot be read, left out; the first: {tmp_path / 'pic002.png'} is")
    assert turned == (
        "val: 1 pictures of another size than said (turned by EXIF, maybe), left out; the first: "
        f"{tmp_path / 'pic003.png'} is 12 high and 8 wide, where 8 and 12 were said"
    )


def test_a_size_that_is_not_said_is_the_pictures(read):
    file, _ = read(images=[{"id": "a", "file_name": "pic000.png", "width": None}], annotations=[])
    assert file.scenes[0].size == (HEIGHT, WIDTH)


def test_with_masks_objects_without_one_are_left_out(read):
    polygon = [[1, 1, 5, 1, 5, 5, 1, 5]]
    annotations = [
        entry(0, [1, 1, 4, 4], segmentation=polygon),
        entry(0, [1, 1, 4, 4]),
        entry(0, [1, 1, 4, 4], segmentation=[]),
    ]
    file, told = read(annotations, masks=True)
    assert told == ["train: 2 objects without a mask that can be used, left out; the first: annotation 7 of pic000.png"]
    masks = CocoSplit(file.scenes, [3, 7], with_masks=True).masks(0)
    assert masks is not None
    assert (masks.shape, masks.sum().item()) == ((1, HEIGHT, WIDTH), 16)
    assert read(annotations)[0].scenes[0].segmentations == [None, None, None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"annotations": None},
            "must hold lists of images, annotations and categories as COCO does; annotations is none",
        ),
        ({"images": [3]}, "must hold lists of .* images is none"),
        ({"categories": [{"name": "owl"}]}, r"must give each category a whole number as id; got {'name': 'owl'}"),
        ({"images": [{"id": 1}]}, r"must give each image an id and a file_name; got {'id': 1}"),
        (
            {"images": [{"id": 1, "file_name": "pic000.png"}, {"id": 1, "file_name": "pic000.png"}]},
            "must give each image an id of its own; 1 is there twice",
        ),
        (
            {"images": [{"id": 1, "file_name": "no.png"}]},
            r"none of the 1 pictures that .* is there, such as no.png, in /",
        ),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, changes, said):
    path = save_coco(tmp_path / "all.json", tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=said):
        read_coco(path, [tmp_path], Tally("train"))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "all.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"all\.json is damaged and cannot be read"):
        read_coco(path, [tmp_path], Tally("train"))
    path.write_text("[]")
    with pytest.raises(DataError, match="must hold lists of images"):
        read_coco(path, [tmp_path], Tally("train"))


def test_numbers_that_no_picture_has_are_no_boxes(read):
    boxes = [entry(0, [10**400, 1, 2, 3]), entry(0, [True, 1, 2, 3]), entry(0, [1, 1, 2, 3], area=10**400)]
    file, told = read(boxes)
    assert file.scenes[0].boxes_xyxy == [(1, 1, 3, 4)]
    assert file.scenes[0].areas == [6]
    assert told[0].startswith("train: 2 boxes that are not four finite numbers, left out")


def test_a_name_that_no_file_can_have_is_a_missing_picture(tmp_path):
    path = save_coco(tmp_path / "all.json", tmp_path, 1)
    content = json.loads(path.read_text())
    content["images"] += [{"id": 8, "file_name": "x" * 300 + ".png"}, {"id": 9, "file_name": "\0.png"}]
    path.write_text(json.dumps(content))
    tally = Tally("train")
    assert len(read_coco(path, [tmp_path], tally).scenes) == 1
    assert str(tally.findings()[0]).startswith("train: 2 pictures that are missing, left out")


def test_what_is_said_of_crowds_is_a_number(read):
    boxes = [entry(0, [1, 1, 2, 2], iscrowd=said) for said in ("no", 1, 0, None)]
    file, told = read(boxes)
    assert file.scenes[0].crowd == [False, True, False, False]
    assert told == [
        "train: 1 objects whose iscrowd is neither 0 nor 1, taken for single ones; the first: annotation 7 of "
        "pic000.png: no"
    ]


def test_pictures_are_in_the_folder_that_holds_most_of_them(tmp_path):
    path = save_coco(tmp_path / "all.json", tmp_path / "images", 3)
    save_picture(tmp_path / "pic001.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    tally = Tally("train")
    file = read_coco(path, [tmp_path, tmp_path / "images"], tally)
    assert {scene.file.parent for scene in file.scenes} == {tmp_path / "images"}
    assert tally.findings() == []


def test_an_id_of_two_categories_is_refused(read):
    twice = [{"id": 3, "name": "owl"}, {"id": 3, "name": "elk"}]
    with pytest.raises(DataError, match=r"must give each category an id of its own; 3 is there twice$"):
        read(categories=twice)


def test_the_name_of_a_category_is_one_line(read):
    assert read(categories=[{"id": 3, "name": " barn\nowl "}])[0].categories == {3: "barn owl"}


def test_what_cannot_be_counted_is_told_by_the_file(read):
    assert read(categories=[{"id": 3, "name": "sky", "isthing": 0}, {"id": 7, "name": "fox"}])[0].stuff == {3}
