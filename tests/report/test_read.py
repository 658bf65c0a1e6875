"""Reading folders: what is damaged becomes a sentence."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from foveate.errors import RunError
from foveate.report.read import dig, kind_of_folder, number, read_maps, read_run, read_study


def test_a_study_is_read_with_its_arms_seeds_costs_and_failures(study: Path) -> None:
    read = read_study(study)
    assert read.arms[:3] == ("none", "se", "eca")
    assert read.seeds == (0, 1, 2)
    assert read.missing == [("nonlocal", 2)]
    assert read.failures[0][:2] == ("nonlocal", 2)
    assert read.costs["cbam"]["parameters"] == 180_530
    assert read.problems == ()


def test_a_folder_that_is_neither_study_nor_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"\(with study.json\) or run folder \(with config.json\); .* has neither"):
        kind_of_folder(tmp_path)
    with pytest.raises(RunError, match="is not a folder"):
        kind_of_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\ud800".encode("utf-8", "surrogatepass"), "[" * 100_000])
def test_a_damaged_summary_is_told(study: Path, text: str | bytes) -> None:
    path = study / "runs" / "se" / "seed0" / "summary.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    run = read_run(path.parent, "se", 0)
    assert not run.finished
    assert "summary.json could not be read" in run.problems


@pytest.mark.parametrize(
    ("text", "rows", "told"),
    [
        (None, 0, "metrics.csv is missing"),
        ("", 0, "metrics.csv has no rows"),
        ("epoch,val_loss\n1,0.5\nx,0.4\n", 1, "1 rows without a readable epoch"),
        ("epoch,val_loss\n1,nan\n", 1, None),
        ("epoch,val_loss\n1\n2,0.5,7,8\n", 2, None),
        (b"\xff\xfe\x00", 0, "metrics.csv could not be read"),
    ],
)
def test_curves_are_read_as_far_as_they_go(study: Path, text: str | bytes | None, rows: int, told: str | None) -> None:
    path = study / "runs" / "se" / "seed0" / "metrics.csv"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    run = read_run(path.parent)
    assert len(run.curves) == rows
    assert (told is None and not run.problems) or any(told and told in problem for problem in run.problems)


def test_maps_come_with_samples_boxes_and_points(study: Path) -> None:
    maps = read_maps(read_run(study / "runs" / "nonlocal" / "seed0"))
    assert maps is not None
    assert len(maps.samples) == 16
    assert maps.samples[2].label == "one"
    box = maps.samples[0].box
    assert box is not None
    assert 0 <= box[0] < box[2] <= 1
    rows = next(entry for entry in maps.maps if entry.kind == "rows")
    assert rows.values.shape == (16, 10, 10)
    assert rows.point_of(3) == pytest.approx(
        ((box3 := maps.samples[3].box or box)[1] / 2 + box3[3] / 2, box3[0] / 2 + box3[2] / 2)
    )


def test_one_point_for_all_samples_is_read(study: Path) -> None:
    folder = study / "runs" / "nonlocal" / "seed0" / "maps"
    index = json.loads((folder / "maps.json").read_text())
    for entry in index["maps"]:
        entry["point"] = [0.25, 0.5]
    (folder / "maps.json").write_text(json.dumps(index))
    maps = read_maps(read_run(folder.parent))
    assert maps is not None
    assert maps.maps[0].point_of(11) == (0.25, 0.5)


def test_boxes_are_in_pixels_of_image_size(study: Path) -> None:
    folder = study / "runs" / "se" / "seed0" / "maps"
    index = json.loads((folder / "maps.json").read_text())
    index |= {"image_size": [20, 80]}
    index["samples"][0]["box_xyxy"] = [40, 5, 60, 15]
    (folder / "maps.json").write_text(json.dumps(index))
    maps = read_maps(read_run(folder.parent))
    assert maps is not None
    assert maps.samples[0].box == (0.5, 0.25, 0.75, 0.75)


def test_damaged_maps_are_told(study: Path) -> None:
    run = read_run(study / "runs" / "se" / "seed0")
    arrays = run.path / "maps" / "maps.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    told = read_maps(run)
    assert told is not None
    assert "maps.npz could not be read" in told.problems[0]
    images = np.zeros((16, 40, 40, 3), np.uint8)
    np.savez(arrays, images=images, map0=np.zeros((3, 5)), map1=np.array(["no", "numbers"]), map2=np.zeros((7, 4, 4)))
    told = read_maps(run)
    assert told is not None
    assert len(told.maps) == 1  # map0 is a channel profile and may have three classes
    assert any("missing from maps.npz" in problem for problem in told.problems)
    (run.path / "maps" / "maps.json").write_text("{")
    told = read_maps(run)
    assert told is not None
    assert told.problems == ("maps.json could not be read",)


def npy_in(path: Path, header: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,)}\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,)}\n",
        b"[" * 3000,
    ],
)
def test_arrays_with_a_wrong_header_are_told(study: Path, header: bytes) -> None:
    run = read_run(study / "runs" / "se" / "seed0")
    npy_in(run.path / "maps" / "maps.npz", header)
    told = read_maps(run)
    assert told is not None
    assert told.problems[0].startswith("maps.npz could not be read (")


def test_a_plain_array_or_changed_bytes_are_told(study: Path) -> None:
    run = read_run(study / "runs" / "se" / "seed0")
    path = run.path / "maps" / "maps.npz"
    whole = path.read_bytes()
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    told = read_maps(run)
    assert told is not None
    assert told.problems == ("maps.npz could not be read (TypeError)",)
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        assert read_maps(run) is not None


def test_a_map_with_other_samples_is_told(study: Path) -> None:
    run = read_run(study / "runs" / "none" / "seed0")
    np.savez(run.path / "maps" / "maps.npz", images=np.zeros((16, 40, 40, 3), np.uint8), map0=np.zeros((7, 4, 4)))
    told = read_maps(run)
    assert told is not None
    assert told.problems == ("the map of tap 'network' has 7 samples where there are 16",)


def test_numbers_are_finite_or_nothing() -> None:
    assert [number(value) for value in (1, "2.5", "nan", float("inf"), True, None, "x", [1])] == [1, 2.5] + [None] * 6
    assert dig({"a": {"b": 3}}, "a", "b") == 3
    assert dig({"a": 1}, "a", "b") is None
