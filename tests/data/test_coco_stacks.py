import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.making import save_picture

from foveate.data.stack_checks import check_stacks
from foveate.data.stacks import Stack, holds_stacks, open_stacks
from foveate.errors import DataError, MissingExtra

HEIGHT, WIDTH = 6, 8
CATEGORIES = [{"id": 7, "name": "cyst"}, {"id": 3, "name": "node"}]


def runs(left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """A full rectangle as run lengths down the columns."""
    mask = np.zeros((HEIGHT, WIDTH), int)
    mask[top : top + height, left : left + width] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


def spot(image: int, *box: int, category: int = 3, masked: bool = True, **more: Any) -> dict[str, Any]:
    """An object that fills its box."""
    said = {"id": image, "image_id": image, "bbox": list(box), "category_id": category, **more}
    return said | ({"segmentation": runs(*box)} if masked and "segmentation" not in more else {})


def image(number: int, volume: Any = "a", place: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{number:03}.png",
        "volume": volume,
        "slice": number if place is None else place,
        **more,
    }


def stored(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)


def save(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], depth: type = np.uint8) -> Path:
    """A file, and its pictures beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for held in images:
        save_picture(path.parent / held["file_name"], stored(held["id"]).astype(depth))
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return path


def splits(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], **options: Any) -> Path:
    """These pictures to train with, and one of another volume to validate with."""
    save(root / "train.json", images, annotations, **options)
    save(root / "val.json", [image(100, "other", 1)], [spot(100, 1, 1, 2, 2)])
    return root


def trained(root: Path) -> list[Stack]:
    split = open_stacks(root).splits["train"]
    return [split.stack(index) for index in range(len(split))]


def test_slices_of_a_volume_are_a_stack_in_their_order(tmp_path: Path):
    # Slices are counted in the order of their numbers, not of the file; objects with one number are one lesion.
    images = [image(2), image(0), image(1), image(5, "b", 0, spacing=[5, 0.5, 0.75])]
    objects = [
        spot(0, 1, 2, 3, 2, lesion=4),
        spot(1, 1, 2, 2, 2, lesion=4),
        spot(1, 6, 0, 2, 2, category=7),
        spot(2, 6, 0, 2, 2, category=7),
    ]
    root = splits(tmp_path, images, objects)
    assert holds_stacks(root)
    stacks = open_stacks(root)
    assert (stacks.classes, stacks.values, stacks.modality, stacks.masks) == (["node", "cyst"], [3, 7], "grey", True)
    assert (stacks.rule, stacks.findings) == ("as the files say", [])
    first, second = trained(root)
    assert (first.name, second.name) == ("a", "b")
    assert np.array_equal(first.slices, np.stack([stored(number) for number in range(3)]).astype(np.float32))
    assert (first.spacing, second.spacing) == ((1, 1, 1), (5, 0.5, 0.75))
    assert first.annotated.tolist() == [True] * 3
    assert first.labels.tolist() == [0, 1, 1]
    assert first.instances is not None
    assert first.instances.dtype == torch.int32
    assert [sorted(held.unique().tolist()) for held in first.instances] == [[0, 1], [0, 1, 2], [0, 3]]
    assert first.objects(0)[0].boxes_xyxy.tolist() == [[1, 2, 4, 4]]
    assert second.instances is not None
    assert not second.instances.any()


def test_a_number_of_a_lesion_counts_within_its_category_and_volume(tmp_path: Path):
    objects = [spot(0, 0, 0, 2, 2, lesion=1), spot(0, 4, 0, 2, 2, lesion=1, category=7), spot(5, 0, 0, 2, 2, lesion=1)]
    first, second = trained(splits(tmp_path, [image(0), image(5, "b")], objects))
    assert (sorted(first.labels.tolist()), second.labels.tolist()) == ([0, 1], [0])


def test_the_smaller_of_two_that_overlap_is_seen(tmp_path: Path):
    (stack,) = trained(splits(tmp_path, [image(0)], [spot(0, 2, 2, 2, 2, category=7), spot(0, 0, 0, 8, 6)]))
    objects, masks = stack.objects(0)
    assert masks is not None
    assert sorted(zip(masks.flatten(1).sum(dim=1).tolist(), objects.labels.tolist(), strict=True)) == [(4, 1), (44, 0)]


def test_gaps_part_a_volume(tmp_path: Path):
    root = splits(tmp_path, [image(0), image(1), image(3)], [spot(0, 0, 0, 2, 2)])
    assert [(stack.name, len(stack)) for stack in trained(root)] == [("a_0-1", 2), ("a_3-3", 1)]
    (root / "000.png").unlink()
    assert [(stack.name, len(stack)) for stack in trained(root)] == [("a_1-1", 1), ("a_3-3", 1)]
    assert "pictures that are missing, left out" in str(open_stacks(root).findings[0])


def test_without_masks_there_are_boxes(tmp_path: Path):
    objects = [spot(0, 1, 2, 3, 2), spot(1, 1, 2, 2, 2, masked=False), spot(1, 0, 0, 8, 6, iscrowd=1, masked=False)]
    root = splits(tmp_path, [image(0), image(1)], objects)
    stacks = open_stacks(root)
    assert not stacks.masks
    assert str(stacks.findings[0]).startswith("train: 1 objects without a mask that can be used, so that boxes alone")
    (stack,) = trained(root)
    assert (stack.instances, len(stack.labels), sorted(stack.boxes)) == (None, 0, [0, 1])
    objects, masks = stack.objects(1)
    assert masks is None
    assert (objects.boxes_xyxy.tolist(), objects.crowd.tolist()) == ([[1, 2, 3, 4], [0, 0, 8, 6]], [False, True])
    facts, _ = check_stacks(stacks)
    assert (facts[0].lesions, facts[0].with_lesion, facts[0].sides) == (2, [0, 1], (2, 2, 3))


def test_crowds_are_no_lesions_where_there_are_masks(tmp_path: Path):
    objects = [spot(0, 1, 2, 3, 2), spot(0, 0, 0, 8, 6, iscrowd=1, masked=False)]
    root = splits(tmp_path, [image(0)], objects)
    # A crowd that has no mask is no reason to do without those of the others.
    (stack,) = trained(root)
    assert stack.labels.tolist() == [0]
    told = [str(finding) for finding in open_stacks(root).findings]
    assert told == ["train: 1 crowds, which are no lesions, left out; the first: 000.png"]


def test_a_lesion_that_is_no_number_is_found(tmp_path: Path):
    objects = [spot(0, 0, 0, 2, 2, lesion="one"), spot(1, 0, 0, 2, 2, lesion="one")]
    root = splits(tmp_path, [image(0), image(1)], objects)
    (found,) = open_stacks(root).findings
    assert (found.count, found.what) == (2, "objects whose lesion is no whole number, taken for lesions of their own")
    assert len(trained(root)[0].labels) == 2


def test_sixteen_bits_keep_their_values(tmp_path: Path):
    root = splits(tmp_path, [image(0)], [spot(0, 0, 0, 2, 2)], depth=np.uint16)
    save_picture(root / "000.png", stored(0).astype(np.uint16) * 100)
    assert np.array_equal(trained(root)[0].slices[0], stored(0).astype(np.float32) * 100)


def test_volumes_of_one_file_are_divided_and_never_parted(tmp_path: Path):
    images = [image(number, f"v{number // 4}", number % 4) for number in range(40)]
    path = save(tmp_path / "all.json", images, [spot(number, 0, 0, 2, 2) for number in range(40)])
    stacks = open_stacks(path)
    names = {split: [held.name(index) for index in range(len(held))] for split, held in stacks.splits.items()}
    assert {split: len(held) for split, held in names.items()} == {"train": 6, "val": 2, "test": 2}
    assert len({name for held in names.values() for name in held}) == 10
    assert all(len(held.stack(0)) == 4 for held in stacks.splits.values())
    assert stacks.rule == "val and test taken from the file of train in the order of a hash of the volumes' names"


def test_a_volume_in_two_splits_is_refused(tmp_path: Path):
    save(tmp_path / "train.json", [image(0)], [spot(0, 0, 0, 2, 2)])
    save(tmp_path / "val.json", [image(1)], [spot(1, 0, 0, 2, 2)])
    with pytest.raises(DataError, match="must have each volume in one split; a is in train and in val"):
        open_stacks(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"volume": 3}, r'must say of each image its volume, a text, .* as "slice"; of 001\.png it says 3 and 1'),
        ({"slice": 1.5}, r"of 001\.png it says 'a' and 1\.5"),
        ({"slice": True}, r"of 001\.png it says 'a' and True"),
        ({"slice": 0}, r"each slice of a volume once; 000\.png and 001\.png are both slice 0 of a"),
        ({"spacing": [1, 2]}, r"spacing as three positive numbers, .* in mm; of 001\.png it says \[1, 2\]"),
        ({"spacing": [1, 2, 0]}, r"of 001\.png it says \[1, 2, 0\]"),
        ({"spacing": [1, 2, float("nan")]}, r"of 001\.png it says \[1, 2, nan\]"),
        ({"spacing": [1, 2, 3]}, r"one spacing in a volume; of a 000\.png has None and 001\.png \[1, 2, 3\]"),
    ],
)
def test_an_image_must_say_where_it_belongs(tmp_path: Path, wrong: dict[str, Any], sentence: str):
    root = splits(tmp_path, [image(0), image(1) | wrong], [spot(0, 0, 0, 2, 2)])
    with pytest.raises(DataError, match=sentence):
        open_stacks(root)


def test_slices_of_two_sizes_are_refused(tmp_path: Path):
    root = splits(tmp_path, [image(0), image(1)], [spot(0, 0, 0, 2, 2)])
    save_picture(root / "001.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"one size in a volume; of a 000\.png has \(6, 8\) and 001\.png \(5, 5\)"):
        open_stacks(root)


def test_pictures_in_colour_are_found_before_training(tmp_path: Path):
    root = splits(tmp_path, [image(0)], [spot(0, 0, 0, 2, 2)])
    save_picture(root / "000.png", np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8))
    with pytest.raises(DataError, match=r"000\.png is in colour"):
        check_stacks(open_stacks(root))


def test_outlines_need_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outline = [[1, 1, 4, 1, 4, 4, 1, 4]]
    root = splits(tmp_path, [image(0)], [spot(0, 1, 1, 3, 3, segmentation=outline)])
    assert trained(root)[0].objects(0)[0].boxes_xyxy.tolist() == [[1, 1, 4, 4]]
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtra, match="pycocotools"):
        open_stacks(root)
