"""Masks in COCO json that would take all memory or minutes are left out and counted, before they are drawn."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image
from tests.cases.calling import foveate

from foveate.data.boxes import open_boxes
from foveate.errors import DataError
from foveate.rules import ReadRules, reading

FAR = 9e4
OUTLINE = [[2, 3, 12, 3, 12, 11, 2, 11]]


def boxes(folder: Path, segmentation) -> Path:
    images, annotations = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(8):
        Image.new("RGB", (30, 20), (number * 9, 9, 9)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 20, "width": 30})
        box = {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0}
        annotations.append(box | {"segmentation": OUTLINE})
    annotations[0]["segmentation"] = segmentation
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "segmentation",
    [
        [[-FAR, -FAR, FAR, FAR] * 1500],
        [[-FAR, -FAR, FAR, FAR, 0, 0]] * 100,
        [[1, 1] * 200_000],
        {"size": [20, 30], "counts": "o" * 2_000_000},
        {"size": [20, 30], "counts": ("o" * 30 + "0") * 50_000},
        {"size": [20, 30], "counts": "1" * 1_000_000},
        {"size": [20, 30], "counts": [10**400, 0]},
        {"size": [20, 30], "counts": [600] * 1_000_000},
    ],
    ids=["far", "many", "points", "endless", "long", "ones", "digits", "runs"],
)
def test_such_a_mask_is_left_out_and_counted_in_a_second_and_some_mib(tmp_path: Path, segmentation):
    folder = boxes(tmp_path, segmentation)
    tracemalloc.start()
    began = time.perf_counter()
    found = open_boxes(folder, masks=True)
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    told = [
        finding for finding in found.findings if finding.what == "objects without a mask that can be used, left out"
    ]
    assert [(finding.count, finding.first) for finding in told] == [(1, "annotation 0 of 0.png")]
    assert seconds < 5  # tracing makes it several times slower
    assert peak < 200 * 2**20


def test_outlines_that_reach_a_little_out_of_the_picture_are_drawn(tmp_path: Path):
    found = open_boxes(boxes(tmp_path, [[-5, -5, 40, -5, 40, 12, -5, 12]]), masks=True)
    assert not found.findings
    masks = [split.masks(index) for split in found.splits.values() for index in range(len(split))]
    assert max(int(mask.sum()) for mask in masks) == 12 * 30


def test_masks_of_many_objects_are_held_against_the_limit_before_they_are_unpacked(tmp_path: Path):
    found = open_boxes(boxes(tmp_path, OUTLINE), masks=True)
    split = found.splits["train"]
    split.scenes[0].segmentations.extend([OUTLINE] * 4000)  # of 600 pixels each
    told = r"\.png has masks that unpack to 3 MiB; the limit is 1 MiB, which the setting max_file_mib changes"
    with reading(ReadRules(max_file_mib=1)), pytest.raises(DataError, match=told):
        split.masks(0)


def test_train_tells_what_is_left_out(tmp_path: Path):
    data = boxes(tmp_path / "data", [[-FAR, -FAR, FAR, FAR] * 1500])
    options = ["--network", "detr_tiny", "--set", "masks=true", "--epochs", 1, "--set", "batch_size=2"]
    done = foveate("train", "detect", "--data", data, *options, "--out", tmp_path / "run")
    assert done.status == 0
    assert "1 objects without a mask that can be used, left out" in done.told
