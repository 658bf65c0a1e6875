"""COCO's measures, beside pycocotools on files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.detect.conftest import write_shapes
from tests.tasks.detect.scenes import Scenes
from torch import Tensor

from foveate.data.boxes import Boxes, BoxSplit, Objects, open_boxes
from foveate.tasks.detect.found import Found
from foveate.tasks.detect.preparation import Preparation
from foveate.tasks.detect.results import run_lengths
from foveate.tasks.detect.scoring import average_precision, write_predictions

# COCOeval's stats, in their order, and ours.
STATS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "recall_1", "recall_10", "recall_100")


class Pictures:
    """Random objects of several sizes in large pictures that nobody looks at."""

    def __init__(self, count: int, classes: int, with_masks: bool = False) -> None:
        self.generator = torch.Generator().manual_seed(count)
        self.with_masks = with_masks
        self.held = [self._objects(classes, number) for number in range(count)]

    def _objects(self, classes: int, number: int) -> Objects:
        count = number % 5
        size = 10 ** (0.7 + 1.6 * torch.rand(count, 2, generator=self.generator))  # 5 to 200 pixels
        corner = torch.rand(count, 2, generator=self.generator) * 50
        boxes = torch.cat([corner, corner + size], dim=1).round()
        crowd = torch.arange(count) == 3
        labels = torch.randint(classes, (count,), generator=self.generator)
        return Objects(boxes, labels, crowd, (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) * 0.7)

    def __len__(self) -> int:
        return len(self.held)

    def image(self, index: int) -> Tensor:
        raise AssertionError("scoring looks at no picture")

    def size(self, index: int) -> tuple[int, int]:
        return 260, 270

    def name(self, index: int) -> str:
        return f"{index}.png"

    def image_id(self, index: int) -> int:
        return 13 * index + 5

    def objects(self, index: int) -> Objects:
        return self.held[index]

    def masks(self, index: int) -> Tensor | None:
        return filled(self.held[index].boxes_xyxy) if self.with_masks else None


def filled(boxes: Tensor) -> Tensor:
    """An ellipse in each box."""
    rows, columns = torch.arange(260)[None, :, None] + 0.5, torch.arange(270)[None, None] + 0.5
    left, top, right, bottom = boxes[:, :, None, None].unbind(dim=1)
    across, down = (columns - (left + right) / 2) / (right - left), (rows - (top + bottom) / 2) / (bottom - top)
    return across.square() + down.square() < 0.25


def guesses(split: Pictures, classes: int, masks: bool = False) -> list[Found]:
    """Boxes near the true ones, several for each, some of another class, and some anywhere."""
    found = []
    for objects in split.held:
        near = objects.boxes_xyxy.repeat(3, 1)
        size = (near[:, 2:] - near[:, :2]).repeat(1, 2)
        near = near + 0.15 * size * torch.randn(near.shape, generator=split.generator)
        corner = torch.rand(3, 2, generator=split.generator) * 100
        boxes = torch.cat([near, torch.cat([corner, corner + 60], dim=1)])
        boxes = torch.cat([boxes[:, :2].minimum(boxes[:, 2:] - 1), boxes[:, 2:]], dim=1)
        labels = torch.cat([objects.labels.repeat(3), torch.randint(classes, (3,), generator=split.generator)])
        other = torch.rand(len(labels), generator=split.generator) < 0.2
        labels = torch.where(other, (labels + 1) % classes, labels)
        scores = torch.rand(len(labels), generator=split.generator)
        found.append(Found(scores, labels, boxes, filled(boxes) if masks else None))
    return found


def prepared(classes: int, masks: bool = False) -> Preparation:
    ids = [3 + 4 * number for number in range(classes)]
    return Preparation([f"kind {number}" for number in ids], ids, [], 32, 53, 17, masks)


def by_pycocotools(split: Pictures, found: list[Found], held: Preparation, folder: Path, kind: str) -> list[float]:
    """COCOeval's own twelve numbers, through files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: dict[str, Any] = {"images": [], "annotations": []}
    truth["categories"] = [{"id": number, "name": str(number)} for number in held.category_ids]
    results = []
    for index, each in enumerate(found):
        image_id, objects = split.image_id(index), split.held[index]
        truth["images"].append({"id": image_id, "height": 260, "width": 270})
        for number, (left, top, right, bottom) in enumerate(objects.boxes_xyxy.tolist()):
            entry = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image_id,
                "category_id": held.category_ids[objects.labels[number]],
                "bbox": [left, top, right - left, bottom - top],
                "area": objects.areas[number].item(),
                "iscrowd": int(objects.crowd[number]),
            }
            mask = {"segmentation": run_lengths(split.masks(index)[number])} if split.with_masks else {}  # pyright: ignore[reportOptionalSubscript]
            truth["annotations"].append(entry | mask)
        for query, (left, top, right, bottom) in enumerate(each.boxes_xyxy.tolist()):
            entry = {
                "image_id": image_id,
                "category_id": held.category_ids[each.labels[query]],
                "score": each.scores[query].item(),
            }
            mask = {"segmentation": run_lengths(each.masks[query])} if kind == "segm" else {}  # pyright: ignore[reportOptionalSubscript]
            results.append(entry | (mask or {"bbox": [left, top, right - left, bottom - top]}))
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(results))
    coco = COCO(folder / "truth.json")
    judged = COCOeval(coco, coco.loadRes(str(folder / "found.json")), kind)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged.stats.tolist()


def test_perfect_boxes_have_a_precision_of_one(scenes: Path):
    split = open_boxes(scenes).splits["test"]
    found = []
    for index in range(len(split)):
        objects = split.objects(index)
        scores = torch.linspace(0.9, 0.6, len(objects))
        found.append(Found(scores, objects.labels, objects.boxes_xyxy))
    measured = average_precision(found, split, Preparation(["square", "disc"], [3, 11], [], 32, 53, 7, False))
    for name in ("map", "map50", "map75", "map_small", "recall_10", "recall_100", "map.square", "map.disc"):
        assert measured[name] == pytest.approx(1), name
    assert measured["map_medium"] is None
    assert measured["map_large"] is None


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_it_is_what_pycocotools_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str):
    split, held = Pictures(17, 5, kind == "segm"), prepared(5, kind == "segm")
    found = guesses(split, 5, kind == "segm")
    measured = average_precision(found, split, held)
    wanted = by_pycocotools(split, found, held, tmp_path, kind)
    prefix = "mask_" if kind == "segm" else ""
    for name, value in zip(STATS, wanted, strict=False):
        assert 0 < value < 1
        assert measured[f"{prefix}{name}"] == pytest.approx(value, abs=1e-6), name
    kinds = [measured[f"{prefix}map.{name}"] for name in held.classes]
    assert measured[f"{prefix}map"] == pytest.approx(sum(kinds) / 5, abs=1e-6)  # pyright: ignore[reportArgumentType]
    capsys.readouterr()  # pycocotools prints what it does


def test_a_class_without_objects_has_no_precision():
    objects = Objects(torch.tensor([[2.0, 3, 13, 17]]), torch.tensor([1]), torch.tensor([False]), torch.tensor([154.0]))
    split = Pictures(1, 3)
    split.held = [objects]
    found = [Found(torch.tensor([0.9]), torch.tensor([1]), objects.boxes_xyxy)]
    measured = average_precision(found, split, prepared(3))
    assert [measured[f"map.kind {number}"] for number in (3, 7, 11)] == [None, pytest.approx(1), None]
    # What is found of a class that is not there has none either, and does not count.
    wrong = [Found(torch.tensor([0.9, 0.8]), torch.tensor([1, 2]), objects.boxes_xyxy.repeat(2, 1))]
    measured = average_precision(wrong, split, prepared(3))
    assert [measured[f"map.kind {number}"] for number in (3, 7, 11)] == [None, pytest.approx(1), None]
    assert measured["map"] == pytest.approx(1)


def test_what_is_found_nowhere_has_a_precision_of_zero():
    split = Pictures(5, 2)
    found = [Found(torch.tensor([0.9]), torch.tensor([0]), torch.tensor([[200.0, 200, 203, 205]]))] * 5
    measured = average_precision(found, split, prepared(2))
    assert measured["map"] == measured["map.kind 3"] == measured["recall_100"] == 0


def test_where_there_is_nothing_to_find_nothing_is_measured(recwarn: pytest.WarningsRecorder):
    empty = Pictures(1, 2)  # one picture without objects
    found = [Found(torch.tensor([0.9]), torch.tensor([1]), torch.tensor([[2.0, 3, 13, 17]]))]
    nobody = Pictures(0, 2)
    for measured in (average_precision(found, empty, prepared(2)), average_precision([], nobody, prepared(2))):
        assert len(measured) == 9 + 2
        assert set(measured.values()) == {None}
    masks = average_precision([], nobody, prepared(2, masks=True))
    assert len(masks) == 2 * (9 + 2)
    assert set(masks.values()) == {None}
    assert not len(recwarn)


def test_a_crowd_excuses_what_is_found_in_it():
    box = torch.tensor([[0.0, 0, 50, 50], [100, 100, 120, 130]])
    split = Pictures(1, 2)
    found = [
        Found(torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), torch.tensor([[3.0, 3, 20, 20], [100, 100, 120, 130]]))
    ]
    for crowd, wanted in ((True, 1.0), (False, 0.25)):
        split.held = [Objects(box, torch.zeros(2, dtype=torch.long), torch.tensor([crowd, False]), torch.ones(2) * 900)]
        assert average_precision(found, split, prepared(2))["map"] == pytest.approx(wanted, abs=0.01)


def test_a_row_says_what_each_query_found(tmp_path: Path):
    split: BoxSplit = Scenes((36, 52), [[0, 0, 5, 5]])
    boxes = torch.tensor([[1.0, 2, 4, 7], [0.25, 0.5, 51.5, 36.0]])
    found = [Found(torch.tensor([0.25, 0.75]), torch.tensor([0, 1]), boxes)] * 2
    path = tmp_path / "predictions.csv"
    write_predictions(path, found, split, prepared(2))
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["index", "name", "image_id", "prediction", "score", "x", "y", "width", "height"]
    assert rows[1] == ["0", "scene 0", "0", "kind 7", "0.75", "0.25", "0.50", "51.25", "35.50"]
    assert rows[2] == ["0", "scene 0", "0", "kind 3", "0.25", "1.00", "2.00", "3.00", "5.00"]
    assert [row[1] for row in rows[3:]] == ["scene 1", "scene 1"]


def test_the_splits_of_a_file_are_scored_with_their_ids(tmp_path: Path):
    boxes: Boxes = open_boxes(write_shapes(tmp_path / "data", {"train": 2, "val": 1}))
    found = [Found(torch.tensor([0.5]), torch.tensor([1]), torch.zeros(1, 4))] * 2
    write_predictions(tmp_path / "rows.csv", found, boxes.splits["train"], prepared(2))
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["0", "shapes 000.png", "1000"],
        ["1", "shapes 001.png", "1007"],
    ]
