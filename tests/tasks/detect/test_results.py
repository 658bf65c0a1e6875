"""Files that tools of COCO read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.tasks.detect.found import Found
from foveate.tasks.detect.panoptic import Segment
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.results import PanopticResults, Results, categories, run_lengths

PREPARED = Preparation(["square", "disc"], [3, 11], [11], 32, 53, 7, True)
BOXES = torch.tensor([[1.0, 2, 4, 7], [0.125, 0.5, 17.126, 12.0], [5, 5, 9, 9]])
FOUND = Found(torch.tensor([0.25, 0.75, 0.5]), torch.tensor([0, 1, 0]), BOXES)


@pytest.fixture
def masks() -> torch.Tensor:
    return torch.rand(3, 13, 19, generator=torch.Generator().manual_seed(1)) < 0.4


def test_what_was_found_opens_as_a_file_of_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from pycocotools.coco import COCO

    results = Results(PREPARED)
    results.add("one.png", (13, 19), FOUND, [1, 0])
    results.add("two.png", (23, 29), FOUND, [])
    results.add("three.png", (23, 29), FOUND, [2])
    path = results.write(tmp_path / "predictions.json")
    coco = COCO(path)
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["one.png", "two.png", "three.png"]
    assert coco.loadImgs([1])[0]["height"] == 13
    assert coco.loadImgs([1])[0]["width"] == 19
    assert coco.getCatIds(catNms=["disc"]) == [11]
    (first, second), (third,) = (coco.loadAnns(coco.getAnnIds(imgIds=[number])) for number in (1, 3))
    assert (first["category_id"], first["score"], first["bbox"]) == (11, 0.75, [0.12, 0.5, 17.0, 11.5])
    assert (second["category_id"], second["bbox"], second["area"]) == (3, [1, 2, 3, 5], 15)
    assert (third["id"], third["iscrowd"], third["score"]) == (3, 0, 0.5)
    again = coco.loadRes(json.loads(path.read_text())["annotations"])
    assert len(again.getAnnIds()) == 3
    assert again.loadAnns([2])[0]["bbox"] == [1, 2, 3, 5]
    capsys.readouterr()  # pycocotools prints what it does


def test_masks_come_back_from_their_run_lengths(
    tmp_path: Path, masks: torch.Tensor, capsys: pytest.CaptureFixture[str]
):
    from pycocotools.coco import COCO

    results = Results(PREPARED)
    results.add("one.png", (13, 19), Found(FOUND.scores, FOUND.labels, FOUND.boxes_xyxy, masks), [2, 1])
    coco = COCO(results.write(tmp_path / "predictions.json"))
    for entry, query in zip(coco.loadAnns(coco.getAnnIds()), (2, 1), strict=True):
        assert entry["segmentation"]["size"] == [13, 19]
        assert np.array_equal(coco.annToMask(entry), masks[query])
        assert entry["area"] == masks[query].sum()
    capsys.readouterr()


def test_run_lengths_are_text(masks: torch.Tensor):
    held = run_lengths(masks[0])
    assert isinstance(held["counts"], str)
    assert json.loads(json.dumps(held)) == held
    assert run_lengths(torch.zeros(3, 5, dtype=torch.bool)) == {"size": [3, 5], "counts": "?"}


def test_categories_keep_their_ids_and_say_what_can_be_counted():
    assert categories(PREPARED) == [
        {"id": 3, "name": "square", "isthing": 1},
        {"id": 11, "name": "disc", "isthing": 0},
    ]


def test_panoptic_files_agree_with_their_maps(tmp_path: Path):
    numbers = torch.zeros(13, 19, dtype=torch.long)
    numbers[2:5, 3:10], numbers[7:, :] = 1, 2
    segments = [Segment(1, 0, 0.875, 21, (3, 2, 7, 3)), Segment(2, 1, 0.9375, 114, (0, 7, 19, 6))]
    results = PanopticResults(PREPARED, tmp_path)
    results.add("a/one.png", "a_one.png", numbers, segments)
    results.add("two.png", "two.png", numbers * 0, [])
    content = json.loads(results.write(tmp_path / "panoptic.json").read_text())
    assert content["categories"] == categories(PREPARED)
    assert [entry["file_name"] for entry in content["images"]] == ["a/one.png", "two.png"]
    one, two = content["annotations"]
    assert (one["image_id"], one["file_name"], two["segments_info"]) == (1, "a_one.png.panoptic.png", [])
    assert [each["category_id"] for each in one["segments_info"]] == [3, 11]
    drawn = np.asarray(Image.open(tmp_path / one["file_name"])).astype(int) @ [1, 256, 65536]
    assert np.array_equal(drawn, numbers.numpy())
    for each in one["segments_info"]:
        rows, columns = np.nonzero(drawn == each["id"])
        assert each["area"] == len(rows)
        left, top, width, height = each["bbox"]
        assert [columns.min(), rows.min()] == [left, top]
        assert [columns.max() + 1, rows.max() + 1] == [left + width, top + height]
    assert not np.asarray(Image.open(tmp_path / two["file_name"])).any()
