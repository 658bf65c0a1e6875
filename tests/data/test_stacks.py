import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.coco_files import save_coco
from tests.data.making import OBLIQUE, decathlon, noise, pairs, save_nifti
from tests.data.series import save_series

from foveate.data.dicom import read_series
from foveate.data.stack_checks import StackFacts, check_stacks
from foveate.data.stacks import Stack, boxes_of, holds_stacks, open_stack_split, open_stacks
from foveate.data.volume_stacks import lesions_in
from foveate.errors import DataError

SHAPE = (7, 5, 3)


def two_spots(number: int = 0) -> np.ndarray:
    """One spot of one voxel, and one of two by three by one."""
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = 1
    label[3:5, 1:4, 2] = 1 + number
    return label


def scans(root: Path, labels: Sequence[np.ndarray], affine: np.ndarray = OBLIQUE) -> Path:
    """Scans in images and labels, without a description."""
    for number, label in enumerate(labels):
        save_nifti(root / "images" / f"{number}.nii.gz", noise(*label.shape, seed=number), affine)
        save_nifti(root / "labels" / f"{number}.nii.gz", label, affine)
    return root


def first(root: Path, **options) -> Stack:
    return open_stacks(root, **options).splits["train"].stack(0)


def test_parts_that_hang_together_are_lesions_and_touch_over_corners():
    label = torch.zeros(4, 4, 4, dtype=torch.uint8)
    label[0, 0, 0] = label[1, 1, 1] = 2  # one, over the corner
    label[3, 3, 3] = 2
    label[3, 3, 2] = 1  # beside it, of another class
    lesions, labels = lesions_in(label)
    assert labels.tolist() == [0, 1, 1]
    assert lesions.dtype == torch.int32
    assert [lesions[place].item() for place in ((3, 3, 2), (0, 0, 0), (1, 1, 1), (3, 3, 3))] == [1, 2, 2, 3]
    assert int((lesions > 0).sum()) == 4


def test_a_volume_is_cut_into_slices_with_its_lesions(tmp_path: Path):
    stacks = open_stacks(scans(tmp_path, [two_spots()] * 3))
    assert (stacks.classes, stacks.values, stacks.modality, stacks.masks) == (["foreground"], [1], "image", True)
    assert {split: len(held) for split, held in stacks.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert stacks.splits["test"].name(0) == "2"
    stack = stacks.splits["train"].stack(0)
    # OBLIQUE counts from left to right and from back to front as the slices do: rows are y and columns x.
    assert torch.equal(stack.slices, torch.from_numpy(noise(*SHAPE)).permute(2, 1, 0))
    assert stack.spacing == pytest.approx(np.linalg.norm(OBLIQUE[:3, :3], axis=0)[::-1], rel=1e-6)
    assert stack.instances is not None
    assert stack.labels.tolist() == [0, 0]
    assert stack.annotated.tolist() == [True, True, True]
    objects, masks = stack.objects(2)
    assert objects.boxes_xyxy.tolist() == [[3, 1, 5, 4]]
    assert objects.labels.tolist() == [0]
    assert masks is not None
    assert int(masks.sum()) == 6
    assert len(stack.objects(1)[0]) == 0
    assert stack.volume is not None
    assert stack.back is not None
    assert stack.volume.label is not None
    assert torch.equal(stack.back(stack.instances) > 0, stack.volume.label > 0)
    assert torch.equal(stack.back(stack.slices), stack.volume.image[0])


def test_the_plane_decides_what_slices_are(tmp_path: Path):
    root = scans(tmp_path, [two_spots()] * 3, np.eye(4))
    shapes = {plane: tuple(first(root, plane=plane).slices.shape) for plane in ("axial", "coronal", "sagittal")}
    assert shapes == {"axial": (3, 5, 7), "coronal": (5, 3, 7), "sagittal": (7, 3, 5)}
    with pytest.raises(ValueError, match="plane is one of axial, coronal, sagittal; got 'round'"):
        open_stacks(root, plane="round")  # pyright: ignore[reportArgumentType]


def test_classes_come_from_the_description_with_their_values(tmp_path: Path):
    root = scans(tmp_path, [two_spots(6)] * 3)
    said = {"labels": {"background": 0, "cyst": 7, "node": 1}, "channel_names": {"0": "CT"}}
    (root / "dataset.json").write_text(json.dumps(said))
    stacks = open_stacks(root)
    assert (stacks.classes, stacks.values, stacks.modality) == (["node", "cyst"], [1, 7], "CT")
    assert stacks.splits["train"].stack(0).labels.tolist() == [0, 1]
    one, both = open_stacks(root, classes=["cyst"]), stacks.splits["train"].stack(0)
    assert (one.classes, one.values) == (["cyst"], [7])
    stack = one.splits["train"].stack(0)
    assert stack.labels.tolist() == [0]
    assert stack.instances is not None
    assert both.instances is not None
    assert torch.equal(stack.instances, (both.instances == 2).int())  # what else is labelled is background
    with pytest.raises(DataError, match=r"^classes must be some of node, cyst in .*; got 'liver'$"):
        open_stacks(root, classes=["liver"])


def test_instances_are_lesions_whatever_their_numbers(tmp_path: Path):
    label = np.zeros(SHAPE, np.int16)
    label[0, 0, 0] = label[6, 4, 2] = 300  # one lesion in two places
    label[3, 3, 1] = 1000
    root = scans(tmp_path, [label, label + 0, np.arange(105).reshape(SHAPE).astype(np.int16) * 3])
    said = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}}
    (root / "dataset.json").write_text(json.dumps(said))
    stacks = open_stacks(root, labels="instances")
    assert (stacks.classes, stacks.values, stacks.modality) == (["lesion"], [1], "CT")
    stack = stacks.splits["train"].stack(0)
    assert stack.labels.tolist() == [0, 0]
    assert stack.instances is not None
    assert stack.back is not None
    found = stack.back(stack.instances)
    assert (found[0, 0, 0], found[6, 4, 2], found[3, 3, 1], int((found > 0).sum())) == (1, 1, 2, 3)
    assert len(stacks.splits["test"].stack(0).labels) == 104
    assert stack.volume is not None
    assert stack.volume.label is not None
    assert torch.equal(stack.volume.label, (found > 0).to(torch.uint8))


def test_instances_below_zero_and_fractions_are_refused(tmp_path: Path):
    root = scans(tmp_path, [two_spots()] * 3)
    for bad, sentence in ((-2, "number its objects from 1, and 0 be no object; got -2"), (0.5, "a whole number")):
        save_nifti(root / "labels/0.nii.gz", two_spots().astype(np.float32) * bad, OBLIQUE)
        with pytest.raises(DataError, match=rf"labels/0\.nii\.gz must (hold )?{sentence}"):
            first(root, labels="instances")
    with pytest.raises(ValueError, match='labels are "classes" or "instances"; got \'boxes\''):
        open_stacks(root, labels="boxes")  # pyright: ignore[reportArgumentType]


def test_one_channel_is_shown(tmp_path: Path):
    root = decathlon(tmp_path, 3, (5, 7, 3, 2), modality={"0": "T1", "1": "FLAIR"})
    stacks = open_stacks(root, channel="FLAIR")
    assert stacks.modality == "FLAIR"
    assert torch.equal(stacks.splits["train"].stack(0).slices, torch.from_numpy(noise(5, 7, 3, 2)[..., 1].T.copy()))
    with pytest.raises(DataError, match=r"channel must name one channel of .*, which has 2 channels: T1, FLAIR; got N"):
        open_stacks(root)
    with pytest.raises(DataError, match="which has 2 channels: T1, FLAIR; got 'CT'"):
        open_stacks(root, channel="CT")


def test_pictures_are_no_volumes(tmp_path: Path):
    with pytest.raises(DataError, match=r"stacks are cut from volumes, of three axes of space; .* holds pictures"):
        open_stacks(pairs(tmp_path))


def test_dicom_series_are_stacks(tmp_path: Path):
    for number in range(3):
        affine = read_series(save_series(tmp_path / f"images/{number}")).affine
        save_nifti(tmp_path / f"labels/{number}.nii.gz", two_spots(), affine)
    stack = first(tmp_path)
    # Files of slices are as radiologists see them, so that nothing is turned.
    read = read_series(tmp_path / "images/0")
    assert torch.equal(stack.slices, read.image[0].permute(2, 1, 0))
    assert stack.spacing == pytest.approx((5, 0.7, 0.9))
    assert stack.objects(2)[0].boxes_xyxy.tolist() == [[3, 1, 5, 4]]


def test_folds_and_files_of_splits_are_handed_on(tmp_path: Path):
    root = scans(tmp_path, [two_spots()] * 6)
    assert open_stacks(root, fold=0, folds=5).splits["val"].name(0) == "0"
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["5"], "val": ["4"]}))
    assert open_stacks(root, split_file=tmp_path / "splits.json").splits["train"].name(0) == "5"


def test_a_mask_of_one_pixel_has_a_box_of_one_by_one():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 3, 4] = masks[1, 1, 0] = masks[1, 2, 3] = True
    assert boxes_of(masks).tolist() == [[4, 3, 5, 4], [0, 1, 4, 3]]


def test_what_stacks_hold_is_told_and_goes_into_json(tmp_path: Path):
    told = []
    root = scans(tmp_path, [two_spots()] * 3)
    facts, findings = check_stacks(open_stacks(root), lambda *progress: told.append(progress))
    assert [fact.split for fact in facts] == ["train", "val", "test"]
    spacing = first(root).spacing
    assert facts[0] == StackFacts("train", "0", 3, (5, 7), spacing, 2, [0, 2], [1], (1.0, 1.0, 3.0))
    assert findings == []
    assert told == [(1, 3), (2, 3), (3, 3)]
    json.dumps([vars(fact) for fact in facts])


def test_what_is_odd_about_stacks_is_found(tmp_path: Path):
    flat = np.zeros((7, 5, 1), np.uint8)
    root = scans(tmp_path, [two_spots(), np.zeros(SHAPE, np.uint8), flat])
    save_nifti(root / "images/1.nii.gz", noise(*SHAPE), OBLIQUE)  # a copy of the first
    said = {"labels": {"background": 0, "node": 1, "cyst": 2}}
    (root / "dataset.json").write_text(json.dumps(said))
    facts, findings = check_stacks(open_stacks(root))
    assert facts[1].sides is None
    assert [str(finding) for finding in findings] == [
        "val: 1 volumes without a lesion, kept; the first: 1",
        "val: 1 volumes that another split has too, kept; the first: 1 is 0 of train",
        "test: 1 volumes without a lesion, kept; the first: 2",
        "test: 1 volumes of one slice, which have no neighbours, kept; the first: 2",
        "train: 1 classes without a lesion, which cannot be learned; the first: cyst",
    ]


def test_empty_volumes_are_no_copies_of_each_other(tmp_path: Path):
    root = scans(tmp_path, [two_spots()] * 3)
    for name in "12":
        save_nifti(root / f"images/{name}.nii.gz", np.zeros(SHAPE, np.float32), OBLIQUE)
    assert check_stacks(open_stacks(root))[1] == []


def test_every_stack_that_cannot_be_read_is_named(tmp_path: Path):
    root = scans(tmp_path, [two_spots()] * 3)
    stacks = open_stacks(root)
    for name in "02":
        (root / f"images/{name}.nii.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(DataError, match=r"(?s)images/0\.nii\.gz is damaged.*\n.*images/2\.nii\.gz is damaged"):
        check_stacks(stacks)


def test_twenty_faults_are_told_and_the_rest_counted(tmp_path: Path):
    root = scans(tmp_path, [two_spots()[:, :, :2]] * 23)
    stacks = open_stacks(root)
    for number in range(23):
        os.truncate(root / f"images/{number}.nii.gz", 100)
    with pytest.raises(DataError) as caught:
        check_stacks(stacks)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, "and 3 more")


def test_a_train_split_without_a_lesion_is_refused(tmp_path: Path):
    root = scans(tmp_path, [np.zeros(SHAPE, np.uint8), two_spots(), two_spots()])
    with pytest.raises(DataError, match="has no lesion to learn from in its train split"):
        check_stacks(open_stacks(root))


def test_volumes_are_told_from_pictures_without_reading_them(tmp_path: Path):
    assert holds_stacks("lesions")
    assert not holds_stacks("demo")
    assert not holds_stacks(str(tmp_path / "nowhere"))
    assert not holds_stacks(str(tmp_path))
    assert holds_stacks(str(scans(tmp_path / "scans", [two_spots()])))
    (tmp_path / "scans/train").mkdir()
    for name in ("images", "labels"):
        (tmp_path / "scans" / name).rename(tmp_path / "scans/train" / name)
    assert holds_stacks(str(tmp_path / "scans"))
    assert holds_stacks(decathlon(tmp_path / "decathlon"))
    assert holds_stacks(tmp_path / "decathlon/dataset.json")
    assert not holds_stacks(pairs(tmp_path / "pairs"))
    save_series(tmp_path / "dicom/images/a")
    assert not holds_stacks(tmp_path / "dicom")
    (tmp_path / "dicom/labels").mkdir()
    assert holds_stacks(tmp_path / "dicom")
    (tmp_path / "dicom/images/.DS_Store").write_bytes(b"hidden")
    assert holds_stacks(tmp_path / "dicom")
    save_series(tmp_path / "loose/images")  # no folder a series
    (tmp_path / "loose/labels").mkdir()
    assert not holds_stacks(tmp_path / "loose")


def test_the_description_of_nnunet_says_whether_it_has_volumes(tmp_path: Path):
    for ending, wanted in ((".nii.gz", True), (".png", False)):
        (tmp_path / "dataset.json").write_text(json.dumps({"file_ending": ending}))
        assert holds_stacks(tmp_path) == wanted


def test_coco_is_of_volumes_where_its_pictures_say_so(tmp_path: Path):
    assert not holds_stacks(save_coco(tmp_path / "plain/train.json", tmp_path / "plain"))
    assert not holds_stacks(tmp_path / "plain")
    images = [{"id": 0, "file_name": "pic000.png", "volume": "a", "slice": 4}]
    named = [{"id": 3, "name": '"volume": "slice":'}]
    assert not holds_stacks(save_coco(tmp_path / "named/train.json", tmp_path / "named", categories=named))
    assert not holds_stacks(save_coco(tmp_path / "more/train.json", tmp_path / "more", info={"volume": 1, "slice": 2}))
    assert holds_stacks(save_coco(tmp_path / "slices/train.json", tmp_path / "slices", images=images))
    assert holds_stacks(tmp_path / "slices")


DEEP = b'{"volume": 1, "slice": ' + b"[" * 99999
BROKEN = [b"", b"{", b'{"volume": 1, "slice": 2', b'["volume":"slice":]', b"\xff", DEEP]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_is_no_json_holds_no_stacks(tmp_path: Path, content: bytes):
    (tmp_path / "train.json").write_bytes(content)
    assert not holds_stacks(tmp_path)
    assert not holds_stacks(tmp_path / "train.json")


def test_options_of_volumes_are_refused_for_slices(tmp_path: Path):
    sentence = "channel and plane cannot be chosen for lesions, which holds slices; they are for volumes"
    with pytest.raises(ValueError, match=sentence):
        open_stacks("lesions", channel="CT", plane="coronal")


def test_other_scans_are_measured_as_a_whole_and_those_of_a_run_as_it_divided_them(tmp_path: Path):
    data = decathlon(tmp_path, 4)
    found = open_stack_split(data, "test", {"train": ["a"], "val": ["b"], "test": ["c"]})
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 0, "val": 0, "test": 4}
    assert found.rule == f"all of {data}"
    held = {"train": ["case_0", "case_1"], "val": ["case_2"], "test": ["case_3"]}
    found = open_stack_split(data, "test", held)
    assert [found.splits["test"].name(index) for index in range(len(found.splits["test"]))] == ["case_3"]
