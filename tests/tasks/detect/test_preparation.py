import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.detect.conftest import OPTIONS, write_shapes
from tests.tasks.detect.scenes import Scenes

from foveate import save_checkpoint
from foveate.data.box_checks import BoxFacts, check_boxes
from foveate.data.boxes import Boxes, Finding, open_boxes
from foveate.networks import detr_tiny
from foveate.tasks.detect.augment import normalised
from foveate.tasks.detect.config import DetectConfig
from foveate.tasks.detect.preparation import Preparation, describe, prepare_for

PREPARED = Preparation(["square", "disc"], [3, 11], [11], 24, 40, 17, False)


def crowded(most: int) -> Boxes:
    """Pictures of 36 x 52 with so many objects, and as many crowds."""
    scenes = Scenes((36, 52), [[0, 0, 5, 5]] * 2 * most, [False, True] * most)
    return Boxes("here", ["a", "b", "c", "d"], [1, 2, 3, 4], dict.fromkeys(("train", "val", "test"), scenes), "")


def facts(split: str = "train", pictures: int = 12_000, most: int = 3) -> BoxFacts:
    return BoxFacts(split, pictures, 2, (5, 7), 1, most)


def tiny(**settings: Any) -> DetectConfig:
    return DetectConfig(network="detr_tiny", network_options=OPTIONS, **settings)


def test_the_size_is_the_median_of_the_training_pictures(scenes: Path):
    # Shorter sides of the eight training pictures: 36, 40, 44 and 36, twice.
    prepared = prepare_for(tiny(data=str(scenes)), open_boxes(scenes))
    assert (prepared.short, prepared.longest) == (38, round(38 * 1333 / 800))
    assert (prepared.classes, prepared.category_ids) == (["square", "disc"], [3, 11])
    asked = prepare_for(tiny(data=str(scenes), short=31, longest=47), open_boxes(scenes))
    assert (asked.short, asked.longest) == (31, 47)
    for settings in ({"longest": 23}, {"longest": 23, "pretrained": True}):
        limited = prepare_for(tiny(data=str(scenes), **settings), open_boxes(scenes))
        assert (limited.short, limited.longest) == (23, 23)


def test_what_starts_from_weights_keeps_the_size_that_its_objects_had(scenes: Path):
    prepared = prepare_for(tiny(data=str(scenes), pretrained=True), open_boxes(scenes))
    assert (prepared.short, prepared.longest) == (800, 1333)


def test_large_pictures_are_not_enlarged_beyond_the_releases():
    boxes = crowded(1)
    large = dataclasses.replace(boxes, splits={name: Scenes((900, 1300), [[0, 0, 5, 5]]) for name in boxes.splits})
    assert prepare_for(tiny(), large).short == 800


@pytest.mark.parametrize(("most", "queries"), [(3, 10), (5, 10), (7, 14), (31, 20)])
def test_queries_are_twice_the_objects_of_the_fullest_picture_where_the_network_has_more(most: int, queries: int):
    assert prepare_for(tiny(), crowded(most)).num_queries == queries  # detr_tiny has 20 of its own


def test_queries_of_weights_or_those_that_are_asked_for_come_first(tmp_path: Path):
    assert prepare_for(tiny(num_queries=3), crowded(7)).num_queries == 3
    assert prepare_for(tiny(pretrained=True), crowded(2)).num_queries == 20
    path = tmp_path / "detr.safetensors"
    save_checkpoint(detr_tiny(num_classes=5, num_queries=23, **OPTIONS), path)
    assert prepare_for(tiny(init=str(path)), crowded(2)).num_queries == 23
    assert prepare_for(tiny(init=str(path), num_queries=7), crowded(2)).num_queries == 7


def test_a_network_that_does_not_detect_is_refused():
    with pytest.raises(LookupError, match="resnet18 is there to classify, not to detect in pictures"):
        prepare_for(DetectConfig(network="resnet18"), crowded(2))
    with pytest.raises(LookupError, match="mask_rcnn_tiny is there to detect in volumes, not to detect in pictures"):
        prepare_for(DetectConfig(network="mask_rcnn_tiny"), crowded(2))


def test_a_preparation_is_the_same_after_writing_and_reading():
    assert Preparation.from_json(PREPARED.to_json()) == PREPARED


def test_a_picture_is_resized_and_normalised():
    picture = Scenes((36, 48), [[0, 0, 48, 36]]).image(0)
    ready = PREPARED.prepare(picture)
    assert ready.shape == (3, 24, 32)
    assert torch.allclose(ready[:, 7, 7], normalised(torch.full((3, 1, 1), 50, dtype=torch.uint8))[:, 0, 0])


def test_what_was_chosen_is_told(scenes: Path):
    config, boxes = tiny(data=str(scenes)), open_boxes(scenes)
    prepared = prepare_for(config, boxes)
    found = (Finding("val", "boxes without area, left out", 2, "annotation 7"),)
    lines = describe(config, prepared, boxes, check_boxes(boxes)[0], found)
    assert lines[:3] == (
        "train: 14 objects of 2 classes, 3 in the fullest picture, 0 pictures without any",
        "pictures are brought to shorter side 38, longer side 63 at most; 10 queries",
        "val: 2 boxes without area, left out; the first: annotation 7",
    )
    assert len(lines) == 4
    assert lines[3].startswith(
        "8 pictures are few to train a DETR from random weights, for which its authors advise 10,"
    )


def test_few_pictures_are_no_trouble_for_weights_nor_many_for_random_ones():
    held = [facts(pictures=7)]
    assert len(describe(tiny(), PREPARED, crowded(1), held, ())) == 3
    assert len(describe(tiny(pretrained=True), PREPARED, crowded(1), held, ())) == 2
    assert len(describe(tiny(), PREPARED, crowded(1), [facts(pictures=10_000)], ())) == 2


def test_more_objects_than_queries_are_told_of_each_split():
    held = [facts(most=17), facts("val", most=18), facts("test", most=19)]
    told = describe(tiny(), PREPARED, crowded(1), held, ())[2:]
    assert [line.partition(" has a picture with ")[::2] for line in told] == [
        (split, f"{most} objects, of which 17 queries can find one each: give more with num_queries")
        for split, most in (("val", 18), ("test", 19))
    ]


def test_pictures_without_objects_are_counted(tmp_path: Path):
    boxes = open_boxes(write_shapes(tmp_path / "data", {"train": 3, "val": 1}))
    empty = dataclasses.replace(facts(), empty=1)
    assert ", 1 pictures without any" in describe(tiny(), PREPARED, boxes, [empty], ())[0]
