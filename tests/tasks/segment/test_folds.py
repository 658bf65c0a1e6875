"""Folds: which cases validate, and that an evaluation anywhere keeps them apart from those that were trained with."""

import csv
import json
import os
from pathlib import Path

import pytest

from foveate.errors import DataError, RunError
from foveate.tasks.run import evaluate, train
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.scoring import open_begun, open_other

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def test_the_same_cases_elsewhere_are_divided_as_the_run_divided_them(balls: Path, tmp_path: Path):
    names = [f"ball_{number:02}" for number in range(10)]
    held = {"train": names[2:8], "val": names[:2], "test": names[8:]}
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps(held))
    assert called(balls, splits, "train") == held["train"]
    assert called(balls, splits, "test") == held["test"]

    # One case less, and one that the run does not know: what it trained with still tests nothing.
    about = json.loads((balls / "dataset.json").read_text())
    held["train"].remove("ball_04")
    held["val"].append("gone")
    splits.write_text(json.dumps(held))
    assert called(balls, splits, "val") == names[:2]
    assert called(balls, splits, "test") == names[8:]
    (tmp_path / "few.json").write_text(json.dumps(about | {"training": in_place(balls, about["training"][2:7])}))
    with pytest.raises(DataError, match=r"few\.json holds cases of the run, but none that is in its test split$"):
        open_other(str(tmp_path / "few.json"), splits, "test")

    # Data of which the run knows nothing, and which say no splits, are measured as a whole.
    splits.write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["c"]}))
    assert called(balls, splits, "val") == names


def test_a_run_keeps_its_cases_whatever_comes_into_its_folder(balls: Path, tmp_path: Path):
    names = [f"ball_{number:02}" for number in range(10)]
    held = {"train": names[2:8], "val": names[:2], "test": names[9:]}
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps(held))
    assert open_begun(SegmentConfig(data=str(balls)), splits).names() == held
    held["test"].append("gone")
    splits.write_text(json.dumps(held))
    with pytest.raises(DataError, match=r"^the run needs gone, which .*balls does not hold with labels any more$"):
        open_begun(SegmentConfig(data=str(balls)), splits)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([["ball_02"]], r"each of train, val, test; got \[\['ball_02'\]\]"),
        ({"train": ["ball_02"], "val": []}, "'test'; got None"),
        ({"train": "ball_02", "val": [], "test": []}, "'train'; got 'ball_02'"),
        ({"train": [], "val": ["ball_02", 3], "test": []}, r"'val'; got \['ball_02', 3\]"),
    ],
)
def test_a_division_that_no_run_wrote_is_refused(balls: Path, tmp_path: Path, content: object, said: str):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps(content))
    for opened in (lambda: open_begun(SegmentConfig(data=str(balls)), splits), lambda: called(balls, splits, "test")):
        with pytest.raises(RunError, match=rf"splits\.json must list names of cases under {said}$"):
            opened()


def called(data: Path, splits: Path, split: str) -> list[str]:
    return [case.name for case in open_other(str(data), splits, split)[1]]


def in_place(root: Path, entries: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: str(root / file) for key, file in entry.items()} for entry in entries]


@pytest.mark.slow
def test_a_fold_of_real_scans_is_trained_and_measured(tmp_path: Path):
    source = Path(os.environ.get("FOVEATE_DATA") or SHARED) / "hippocampus"
    if not source.is_dir():
        pytest.skip(f"there is no {source}; FOVEATE_DATA may name the folder that holds hippocampus")
    about = json.loads((source / "dataset.json").read_text())
    about["training"] = in_place(source, about["training"][:6])
    data, run = tmp_path / "data.json", tmp_path / "run"
    data.write_text(json.dumps(about))
    config = SegmentConfig(
        data=str(data),
        network_options={"widths": [2, 4, 8], "fused_heads": False},
        fold=1,
        folds=5,
        epochs=1,
        patches_per_epoch=2,
        patch_size=[16, 16, 16],
        augment="none",
        device="cpu",
    )
    train(config, run)
    names = [Path(entry["image"]).name.partition(".")[0] for entry in about["training"]]
    held = {"train": [names[0], *names[2:5]], "val": [names[1]], "test": [names[5]]}
    assert json.loads((run / "splits.json").read_text()) == held
    own = evaluate(run, split="val", device="cpu", rows=tmp_path / "val.csv")
    assert own["cases"] == 1
    with (tmp_path / "val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows] == [(names[1], "Anterior"), (names[1], "Posterior")]
    assert evaluate(run, str(data), "val", device="cpu") == own
