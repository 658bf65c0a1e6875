"""COCO json whose ids, sizes and boxes are written as floats or as texts, and whose outlines are bad in part."""

import pytest
from tests.cases.calling import foveate
from tests.cases.coco_sets import HEIGHT, WIDTH, write_coco

from foveate.data.boxes import open_boxes
from foveate.errors import DataError


def in_all(kind, key, write):
    """A function that writes a value of all entries, or of every second one, in another way."""

    def spoil(content):
        for number, entry in enumerate(content[kind]):
            entry[key] = write(number, entry[key])

    return spoil


def both(*spoilers):
    return lambda content: [spoil(content) for spoil in spoilers]


READ = {
    "category": in_all("annotations", "category_id", lambda number, value: float(value)),
    "image": in_all("annotations", "image_id", lambda number, value: float(value)),
    "both": both(
        in_all("images", "id", lambda number, value: float(value)),
        in_all("annotations", "image_id", lambda number, value: float(value)),
    ),
    "half": in_all("annotations", "category_id", lambda number, value: float(value) if number % 2 else value),
    "categories": in_all("categories", "id", lambda number, value: "1"),
    "texts": in_all("annotations", "category_id", lambda number, value: "1.0"),
    "ids of pictures as texts": in_all("images", "id", lambda number, value: str(value)),
    "references as texts": in_all("annotations", "image_id", lambda number, value: str(value)),
    "sizes as texts": both(
        in_all("images", "width", lambda number, value: str(value)),
        in_all("images", "height", lambda number, value: f"{value}.0"),
    ),
    "boxes as texts": in_all("annotations", "bbox", lambda number, value: list(map(str, value))),
}


@pytest.mark.parametrize("spoil", READ.values(), ids=READ)
def test_they_are_read_as_the_numbers_that_they_are(spoil, tmp_path):
    boxes = open_boxes(write_coco(tmp_path, spoil))
    assert boxes.findings == []
    assert sum(len(split) for split in boxes.splits.values()) == 8
    for split in boxes.splits.values():
        for index in range(len(split)):
            found = split.objects(index)
            assert (found.boxes_xyxy.tolist(), found.labels.tolist()) == ([[20, 10, 44, 30]], [0])
            assert (found.areas.tolist(), found.crowd.tolist()) == ([480], [False])


REFUSED = {
    "a fraction": in_all("annotations", "category_id", lambda number, value: 1.5),
    "no number": in_all("annotations", "category_id", lambda number, value: "box"),
    "a truth": in_all("annotations", "category_id", lambda number, value: True),
}


@pytest.mark.parametrize("spoil", REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_number_is_told(spoil, tmp_path):
    with pytest.raises(
        DataError, match=r"no object to learn from .* annotations of a category that is not listed, left"
    ):
        open_boxes(write_coco(tmp_path, spoil))


@pytest.mark.parametrize(
    ("height", "width", "said"),
    [
        (WIDTH, HEIGHT, "64 and 48"),
        (str(WIDTH), str(HEIGHT), "64 and 48"),
        (480, 640, "480 and 640"),
        ("tall", WIDTH, "'tall' and 64"),
    ],
)
def test_sizes_that_are_swapped_or_wrong_are_told_with_both(height, width, said, tmp_path):
    spoil = both(in_all("images", "height", lambda *_: height), in_all("images", "width", lambda *_: width))
    done = foveate("train", "detect", "--data", write_coco(tmp_path / "data", spoil), "--out", tmp_path / "run")
    assert done.status == 2
    assert f"png is 48 high and 64 wide, where {said} were said" in done.errors


GOOD = [20, 10, 44, 10, 44, 30, 20, 30]


@pytest.mark.parametrize("bad", [[1, 2], [], [20, 10, 44], ["a", 1, 2, 3, 4, 5], None], ids=str)
def test_one_bad_outline_leaves_the_good_ones(bad, tmp_path):
    pytest.importorskip("pycocotools", reason="outlines are drawn by pycocotools, which is not installed")

    def spoil(content):
        for number, entry in enumerate(content["annotations"]):
            entry["segmentation"] = [GOOD, bad] if number == 3 else [GOOD]

    boxes = open_boxes(write_coco(tmp_path, spoil), masks=True)
    assert [finding.what for finding in boxes.findings] == [
        "objects with outlines that are none, whose other outlines count"
    ]
    masks = [split.masks(index) for split in boxes.splits.values() for index in range(len(split))]
    assert len(masks) == 8
    assert all(mask is not None and mask.shape[0] == 1 and mask.sum() == 480 for mask in masks)


@pytest.mark.slow
def test_a_run_trains_on_all_of_them(tmp_path):
    data = write_coco(tmp_path / "data", READ["half"])
    arguments = ("--network", "detr_tiny", "--epochs", "1", "--out", tmp_path / "run")
    done = foveate("train", "detect", "--data", data, *arguments)
    assert done.status == 0, done.errors
    assert "left out" not in done.errors
