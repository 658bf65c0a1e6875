"""Folds: which cases validate, and that an evaluation anywhere keeps them apart from those that were trained with."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from foveate.tasks.run import evaluate, train
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.scoring import open_other

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def test_the_same_cases_elsewhere_are_divided_as_the_run_divided_them(balls: Path, tmp_path: Path):
    names = [f"ball_{number:02}" for number in range(10)]
    held = {"train": names[2:8], "val": names[:2], "test": names[8:]}
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps(held))
    assert open_other(str(balls), splits).names() == held

    # Other cases, here fewer, are divided as they are without a run; so are those of a run that names none.
    about = json.loads((balls / "dataset.json").read_text())
    about["training"] = about["training"][1:]
    shutil.copytree(balls, tmp_path / "fewer")
    (tmp_path / "fewer" / "dataset.json").write_text(json.dumps(about))
    assert open_other(str(tmp_path / "fewer"), splits).names()["val"] == ["ball_08"]
    assert open_other(str(balls), tmp_path / "absent.json").names()["val"] == ["ball_07"]


@pytest.mark.slow
def test_a_fold_of_real_scans_is_trained_and_measured(tmp_path: Path):
    source = Path(os.environ.get("FOVEATE_DATA") or SHARED) / "hippocampus"
    if not source.is_dir():
        pytest.skip(f"there is no {source}; FOVEATE_DATA may name the folder that holds hippocampus")
    about = json.loads((source / "dataset.json").read_text())
    about["training"] = [{key: str(source / file) for key, file in entry.items()} for entry in about["training"][:6]]
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
