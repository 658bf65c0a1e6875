"""What was read is told in one form, whatever the kind of data."""

from pathlib import Path

import pytest

from foveate.data import open_clips, open_pictures
from foveate.data.box_checks import count_boxes
from foveate.data.boxes import open_boxes
from foveate.data.checks import CaseFacts
from foveate.data.overview import Overview, of_boxes, of_samples, of_stacks, of_text, of_volumes
from foveate.data.stack_checks import StackFacts
from foveate.data.stacks import open_stacks
from foveate.data.text import Text
from foveate.data.volumes import Case, Volumes


@pytest.mark.parametrize("name", ["demo", "direction"])
def test_pictures_and_clips_are_told_by_class(name: str):
    samples = open_pictures(name) if name == "demo" else open_clips(name)
    first, train, *_, facts = of_samples(samples).lines()
    classes = len(samples.classes)
    assert first.startswith(f"read {name}: ")
    assert first.endswith(f"of {classes} classes (as the data say)")
    assert train.startswith(f"train: {samples.classes[0]} ")
    assert facts == "size 40 x 40; grey"


def test_many_classes_are_cut_short():
    classes = [f"c{number}" for number in range(14)]
    overview = Overview(
        "here", "pictures", {"train": 14}, "by hand", classes, "pictures", {"train": dict.fromkeys(classes, 1)}
    )
    assert overview.lines()[1].endswith("c11 1 and 2 more classes pictures")


def test_volumes_are_told_with_sizes_spacing_and_fractions():
    splits = {"train": [Case("a", (Path("a.nii.gz"),))], "val": [Case("b", (Path("b.nii.gz"),))], "test": []}
    volumes = Volumes("here", 3, ["CT"], ["background", "liver"], {0: 0, 1: 1, 9: 255}, splits, "by hand")
    cases = [
        CaseFacts("a", "train", (4, 5, 6), (1.0, 1, 2.5), (90, 20), 10),
        CaseFacts("b", "val", (4, 4, 9), (1, 1, 1), (9, 1)),
    ]
    assert of_volumes(volumes, cases).lines() == (
        "read here: 1 train, 1 val, 0 test cases of 2 classes (by hand)",
        "train: background 81.82%, liver 18.18% of 110 voxels",
        "val: background 90.00%, liver 10.00% of 10 voxels",
        "size 4 x 4 x 6 to 4 x 5 x 9; spacing 1 x 1 x 1 to 1 x 1 x 2.5 mm; .nii.gz; channels CT",
        "label 9 is ignored: 7.69% of all voxels are neither learned nor scored",
    )


def test_boxes_are_told_with_objects():
    boxes = open_boxes("demo")
    first, train, *_, facts = of_boxes(boxes, count_boxes(boxes)).lines()
    assert first.startswith("read demo: ")
    assert train.endswith(" objects")
    assert facts == "size 72 x 72"


def test_stacks_and_pairs_are_told():
    stacks = open_stacks("lesions")
    facts = {"train": [StackFacts("train", "a", 7, (48, 64), (5.0, 1, 1), 3, [1], [0], None)]}
    assert of_stacks(stacks, facts).lines()[1:] == (
        "train: lesions 3 in all",
        f"slices 7; size 48 x 64; spacing 5 x 1 x 1 mm; {stacks.modality}",
    )
    text = Text("here", "en", "de", {"train": [("a", "b")], "val": [("c", "d")], "test": []}, "as the files say")
    assert of_text(text).lines() == ("read here: 1 train, 1 val, 0 test pairs of en and de (as the files say)",)
