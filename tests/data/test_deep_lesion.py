import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.making import save_picture

from foveate.data.runs import runs_of
from foveate.data.stack_checks import check_stacks
from foveate.data.stacks import Stack, holds_stacks, open_stacks
from foveate.errors import DataError

HEIGHT, WIDTH = 6, 9
OTHERS = {"Patient_gender": "F", "Patient_age": "NaN", "Coarse_lesion_type": -1, "DICOM_windows": "-175, 275"}


def row(patient: int = 1, key: int = 5, box: str = "3, 2, 5, 4", split: int = 1, **changes: Any) -> dict[str, Any]:
    """A lesion with three slices before and after its key slice."""
    return {
        "File_name": f"{patient:06}_01_01_{key:03}.png",
        "Patient_index": patient,
        "Key_slice_index": key,
        "Bounding_boxes": box,
        "Possibly_noisy": 0,
        "Slice_range": f"{key - 3}, {key + 3}",
        "Spacing_mm_px_": "0.8, 0.7, 5",
        "Image_size": f"{WIDTH}, {HEIGHT}",
        "Train_Val_Test": split,
        **OTHERS,
        **changes,
    }


def stored(number: int) -> np.ndarray:
    """Values of a slice as in the files; its first is the number in HU."""
    values = np.random.default_rng(number).integers(32768 - 1024, 32768 + 3000, (HEIGHT, WIDTH)).astype(np.uint16)
    values[0, 0] = 32768 + number
    return values


def deep_lesion(
    root: Path, rows: Sequence[Mapping[str, Any]], missing: Sequence[int] = (), validating: int | None = 90
) -> Path:
    """The file and the slices of its ranges but those that are missing; `validating` is a patient of the val split."""
    rows = [*rows, *([] if validating is None else [row(validating, split=2)])]
    with (root / "DL_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for entry in rows:
        folder = root / "Images_png" / entry["File_name"].rpartition("_")[0]
        first, last = map(int, entry["Slice_range"].split(","))
        for number in range(first, last + 1):
            if number not in missing:
                save_picture(folder / f"{number:03}.png", stored(number))
    return root


def told(root: Path) -> list[str]:
    return [str(finding) for finding in open_stacks(root).findings]


def trained(root: Path) -> list[Stack]:
    split = open_stacks(root).splits["train"]
    return [split.stack(index) for index in range(len(split))]


def test_a_key_slice_and_its_neighbours_are_a_stack_in_hu(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(), row(91, split=3)])
    stacks = open_stacks(root)
    assert (stacks.classes, stacks.values, stacks.modality, stacks.masks) == (["lesion"], [1], "CT", False)
    assert {split: len(held) for split, held in stacks.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert (stacks.rule, stacks.findings) == ("as DL_info.csv says", [])
    assert stacks.splits["train"].name(0) == "000001_01_01_002-008"
    stack = stacks.splits["train"].stack(0)
    assert stack.slices.dtype == torch.float32
    assert np.array_equal(stack.slices, np.stack([stored(number) for number in range(2, 9)]).astype(np.float32) - 32768)
    assert stack.slices[:, 0, 0].tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert stack.spacing == (5, 0.7, 0.8)
    assert stack.annotated.tolist() == [False, False, False, True, False, False, False]
    assert (stack.instances, stack.volume, stack.back, len(stack.labels)) == (None, None, None, 0)
    objects, masks = stack.objects(3)
    # Pixels count from 1, the last one included: 3 to 5 are columns 2, 3 and 4.
    assert objects.boxes_xyxy.tolist() == [[2, 1, 5, 4]]
    assert (objects.labels.tolist(), objects.crowd.tolist(), objects.areas.tolist()) == ([0], [False], [9])
    assert masks is None
    assert len(stack.objects(2)[0]) == 0


def test_the_file_itself_may_be_named(tmp_path: Path):
    root = deep_lesion(tmp_path, [row()])
    assert holds_stacks(root)
    assert holds_stacks(root / "DL_info.csv")
    (root / "DL_info.csv").write_text((root / "DL_info.csv").read_text(), encoding="utf-8-sig")
    assert len(open_stacks(root / "DL_info.csv").splits["train"]) == 1


def test_facts_are_of_the_annotated_slices(tmp_path: Path):
    facts, _ = check_stacks(open_stacks(deep_lesion(tmp_path, [row(), row(box="1, 1, 7, 2")])))
    assert (facts[0].with_lesion, facts[0].without, facts[0].lesions) == ([3], [], 2)
    assert facts[0].sides == (3, 3, 7)


def test_ranges_that_overlap_or_touch_are_one_stack_and_others_are_not(tmp_path: Path):
    rows = [row(key=5), row(key=9), row(key=16), row(key=24), row(patient=2, key=12)]
    stacks = trained(deep_lesion(tmp_path, rows))
    names = ["000001_01_01_002-019", "000001_01_01_021-027", "000002_01_01_009-015"]
    assert [stack.name for stack in stacks] == names
    assert sorted(stacks[0].boxes) == [3, 7, 14]
    assert [len(stack) for stack in stacks] == [18, 7, 7]


def test_a_missing_slice_parts_a_run(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(key=5), row(key=9)], missing=[7])
    assert [stack.name for stack in trained(root)] == ["000001_01_01_002-006", "000001_01_01_008-012"]
    # Of the patient that validates too, whose other part has no key slice.
    assert len(open_stacks(root).splits["val"]) == 1
    parted = "1 slices that are missing, where the run is parted"
    assert told(root) == [
        f"{split}: {parted}; the first: {tmp_path}/Images_png/{series}/007.png"
        for split, series in (("train", "000001_01_01"), ("val", "000090_01_01"))
    ]


def test_a_key_slice_that_is_missing_is_left_out(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(key=15), row(key=30)], missing=[15])
    assert [stack.name for stack in trained(root)] == ["000001_01_01_027-033"]
    where = f"{tmp_path}/Images_png/000001_01_01/015.png"
    assert told(root) == [f"train: 1 rows whose key slice is missing, left out; the first: {where}"]


def test_a_series_of_which_nothing_is_there_is_counted(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(), row(2, 55)], missing=range(50, 60))
    assert [stack.name for stack in trained(root)] == ["000001_01_01_002-008"]
    assert "rows whose key slice is missing" in told(root)[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Possibly_noisy": 1}, "marked as possibly noisy, as in the authors' code"),
        ({"box": "5, 2, 5, 4"}, "whose box has no area"),
        ({"box": "5, 4, 7, 2"}, "whose box has no area"),
        ({"box": "nan, 2, 5, 4"}, "whose box has no area"),
        ({"box": "11, 2, 14, 4"}, "whose box is outside the picture"),
        ({"box": "-5, -5, 0, 0"}, "whose box is outside the picture"),
        ({"Spacing_mm_px_": "0.8, 0.8, 0"}, "whose spacing is no positive number"),
        ({"Spacing_mm_px_": "0.8, 0.8, NaN"}, "whose spacing is no positive number"),
        ({"Spacing_mm_px_": "0.8, inf, 5"}, "whose spacing is no positive number"),
        ({"box": "5, 2, 5"}, "that do not say what they should"),
        ({"Possibly_noisy": ""}, "that do not say what they should"),
        ({"Image_size": "nan, 6"}, "that do not say what they should"),
        ({"Key_slice_index": 6}, "whose key slice is another in File_name, or not in Slice_range"),
        ({"Slice_range": "6, 8"}, "whose key slice is another in File_name, or not in Slice_range"),
    ],
)
def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path, changes: dict[str, Any], why: str):
    root = deep_lesion(tmp_path, [row(), row(2, **changes)])
    assert told(root) == [f"train: 1 rows {why}, left out; the first: line 3 of DL_info.csv, 000002_01_01_005.png"]
    assert len(trained(root)) == 1


def test_rows_of_another_spacing_than_their_series_are_left_out(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(), row(key=7, Spacing_mm_px_="0.8, 0.7, 2")])
    assert [sorted(stack.boxes) for stack in trained(root)] == [[3]]
    assert told(root)[0].startswith("train: 1 rows whose spacing or size is not that of their series, left out; the f")


def test_boxes_are_cut_at_the_edge(tmp_path: Path):
    (stack,) = trained(deep_lesion(tmp_path, [row(box="-1.5, 0.5, 12, 4.25")]))
    assert stack.boxes[3].boxes_xyxy.tolist() == [[0, 0, WIDTH, 4.25]]


def test_a_patient_in_two_splits_is_refused(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(), row(key=30), row(1, key=50, split=3)])
    sentence = r"must have each patient in one split; patient 1 is in train \(line 2\) and in test \(line 4\)"
    with pytest.raises(DataError, match=sentence):
        open_stacks(root)


def test_another_table_is_refused_with_the_columns_that_it_lacks(tmp_path: Path):
    (tmp_path / "Images_png").mkdir()
    (tmp_path / "DL_info.csv").write_text("File_name,Patient_index,Key_slice_index,Bounding_boxes,Slice_range\n")
    lacking = "Possibly_noisy, Spacing_mm_px_, Image_size, Train_Val_Test"
    with pytest.raises(DataError, match=rf"DL_info\.csv must have the columns of DeepLesion; it has no {lacking}"):
        open_stacks(tmp_path)
    (tmp_path / "DL_info.csv").write_text("")
    with pytest.raises(DataError, match="it has no File_name, Patient_index"):
        open_stacks(tmp_path)


def test_a_row_of_no_split_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"must say 1, 2 or 3 as Train_Val_Test; line 3 says '4'"):
        open_stacks(deep_lesion(tmp_path, [row(), row(2, split=4)]))


def test_a_file_without_its_slices_is_refused(tmp_path: Path):
    deep_lesion(tmp_path, [row()])
    (tmp_path / "Images_png").rename(tmp_path / "images")
    with pytest.raises(DataError, match=r"needs the slices of DeepLesion in .*Images_png, which is no folder"):
        open_stacks(tmp_path)


def test_a_split_without_a_stack_says_what_was_left_out(tmp_path: Path):
    root = deep_lesion(tmp_path, [row(), row(2, split=2, Possibly_noisy=1)], validating=None)
    with pytest.raises(DataError, match="has no volume in its val split; val: 1 rows marked as possibly noisy"):
        open_stacks(root)


def test_slices_of_eight_bits_or_another_size_are_refused(tmp_path: Path):
    split = open_stacks(deep_lesion(tmp_path, [row()])).splits["train"]
    file = tmp_path / "Images_png/000001_01_01/004.png"
    save_picture(file, np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(DataError, match=r"004\.png must be grey with 16 bits, of which 32768 is 0 HU; its mode is L"):
        split.stack(0)
    save_picture(file, np.zeros((5, 5), np.uint16))
    with pytest.raises(DataError, match=r"004\.png is \(5, 5\); DL_info\.csv says that it is \(6, 9\)"):
        split.stack(0)


def test_runs_have_no_gaps():
    assert runs_of({5, 3, 4, 9}) == [(3, 5), (9, 9)]
    assert runs_of([]) == []


@pytest.mark.parametrize("name", ["../Images_png/000001_01_01_005.png", ".._005.png", "/tmp_005.png", "_005.png"])
def test_slices_are_never_looked_for_beside_their_folder(tmp_path: Path, name: str):
    root = deep_lesion(tmp_path, [row()])
    with (root / "DL_info.csv").open("a", newline="") as file:
        csv.DictWriter(file, list(row())).writerow(row(2, File_name=name))
    assert told(root)[0].startswith("train: 1 rows whose File_name names no folder of slices, left out; the first: li")


def test_a_range_of_slices_that_no_scan_has_is_not_counted_out(tmp_path: Path):
    root = deep_lesion(tmp_path, [row()])
    with (root / "DL_info.csv").open("a", newline="") as file:
        csv.DictWriter(file, list(row())).writerow(row(Slice_range=f"0, {10**12}"))
    assert "or not in Slice_range, left out" in told(root)[0]
    assert len(trained(root)) == 1


def test_a_row_that_ends_early_is_left_out(tmp_path: Path):
    root = deep_lesion(tmp_path, [row()])
    names = [name for name in row() if name not in ("Patient_index", "Train_Val_Test")]
    short = ["Train_Val_Test", *names, "Patient_index"]
    lines = [row(), row(90, split=2), row(2)]
    with (root / "DL_info.csv").open("w", newline="") as file:
        csv.writer(file).writerows([short, *([line[name] for name in short] for line in lines[:2])])
        csv.writer(file).writerow([lines[2][name] for name in short[:-1]])
    assert told(root)[0].startswith("train: 1 rows that do not say what they should, left out; the first: line 4 of")
