"""COCO json and folders of pictures whose names say the split in any of the usual words and capitals."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cases.calling import foveate

from foveate.data.boxes import open_boxes


def write(root: Path, file: str, folder: str, shade: int) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(4):
        name = f"frame_{index:06}.png"  # the same names in each subset
        Image.fromarray(np.full((24, 32, 3), shade + index, np.uint8)).save(root / folder / name)
        images.append({"id": index + 1, "file_name": name, "width": 32, "height": 24})
        box = {"id": index + 1, "image_id": index + 1, "category_id": 1, "bbox": [4, 4, 8, 8], "area": 64, "iscrowd": 0}
        annotations.append(box)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    (root / file).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (
            ("annotations/instances_Train.json", "annotations/instances_Validation.json"),
            ("images/Train", "images/Validation"),
        ),
        (("annotations/instances_train.json", "annotations/instances_val.json"), ("images/Training", "images/Valid")),
        (("Train/_annotations.coco.json", "Valid/_annotations.coco.json"), ("Train", "Valid")),
        (("TRAIN.json", "DEV.json"), ("Images/TRAIN", "Images/DEV")),
        (("instances_train2017.json", "instances_val2017.json"), ("train2017", "val2017")),
        (("train.json", "val.json"), ("train/images", "val/Images")),
    ],
)
def test_pictures_are_found_in_the_folder_of_their_split(
    tmp_path: Path, files: tuple[str, str], folders: tuple[str, str]
):
    for number, (file, folder) in enumerate(zip(files, folders, strict=True)):
        write(tmp_path, file, folder, 100 * number)
    boxes = open_boxes(tmp_path)
    assert {name: len(split) for name, split in boxes.splits.items()} == {"train": 4, "val": 4, "test": 0}
    assert int(boxes.splits["train"].image(2).max()) == 2
    assert int(boxes.splits["val"].image(2).max()) == 102


def test_the_command_line_trains_on_them(tmp_path: Path):
    for number, name in enumerate(("Train", "Validation")):
        write(tmp_path / "data", f"annotations/instances_{name}.json", f"images/{name}", 100 * number)
    command = ("train", "detect", "--data", tmp_path / "data", "--network", "detr_tiny", "--max-time", "1s")
    status, _, err = foveate(*command, "--out", tmp_path / "run")
    assert status == 0
    assert "4 train, 4 val, 0 test pictures of 1 class (as the files say)" in err
