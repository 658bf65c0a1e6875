"""Runs that detect in volumes, from training to what each lesion drew on."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.data.test_deep_lesion import deep_lesion, row
from tests.tasks.detect.test_resume import interrupt
from tests.tasks.lesions.conftest import write_lesions, write_volume
from typer.testing import CliRunner

from foveate.cli.app import app
from foveate.errors import CheckpointError, DataError, ExportError
from foveate.tasks.export import export_run
from foveate.tasks.lesions import run as runs
from foveate.tasks.lesions.config import LesionConfig
from foveate.tasks.lesions.network import load_run
from foveate.tasks.lesions.tracing import trace
from foveate.tasks.run import attend, evaluate, open_network, predict, train
from foveate.tasks.summary import Summary

pytestmark = pytest.mark.slow
SMALL: dict[str, Any] = {
    "network": "mask_rcnn_tiny",
    "image_size": 64,
    "epochs": 1,
    "learning_rate": 1e-3,
    "threads": 1,
}
NUMBERS = {"network_options": {"detector": {"box_detections_per_img": 10}}}


def small(data: Path, **settings: Any) -> LesionConfig:
    return LesionConfig(data=str(data), **SMALL | NUMBERS | settings)


@pytest.fixture(scope="module")
def run(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(small(lesions, mechanism="volumetric", epochs=3, bag_mm=4.0), out)
    return out


def summary(run: Path) -> Summary:
    return Summary(**json.loads((run / "summary.json").read_text()))


def scan(lesions: Path, number: int) -> Path:
    return lesions / "imagesTr" / f"ball_{number:02}.nii.gz"


def test_a_run_holds_what_it_found(run: Path):
    told = summary(run)
    assert {"sensitivity", "sensitivity_16", "froc", "map50", "mask_map50", "dice", "neighbours"} <= told.metrics.keys()
    assert (told.metrics["slices"], told.metrics["cases"]) == (16, 2)
    assert told.metrics["sensitivity.ball"] == told.metrics["sensitivity"]
    assert told.train_size == 7
    assert len(told.gate_health) == 20  # four maps on five levels
    assert 0 < told.metrics["neighbours"] < 1
    for name in ("predictions.csv", "cases.csv", "froc.csv", "slices.json", "preparation.json", "maps/maps.npz"):
        assert (run / name).is_file(), name
    held = json.loads((run / "slices.json").read_text())
    assert [len(held[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    notes = {each["name"]: each for each in held["train"]}
    assert notes["ball_02"]["with_lesion"] == []
    assert notes["ball_03"]["depth"] == 1


def test_evaluation_gives_the_numbers_of_the_run_again(run: Path, tmp_path: Path):
    found = evaluate(run, rows=tmp_path / "cases.csv")
    told = summary(run).metrics
    assert found.pop("samples") == {"test": 2}
    assert found.pop("measured").startswith("in the order of the names")
    assert found == {name: value for name, value in told.items() if name in found}
    assert (tmp_path / "cases.csv").read_text() == (run / "cases.csv").read_text()
    assert (tmp_path / "cases.froc.csv").read_text() == (run / "froc.csv").read_text()
    assert evaluate(run, split="val")["slices"] == 8


def test_a_loaded_network_is_the_trained_one(run: Path):
    network, config, _ = load_run(run)
    held = load_file(run / "model.safetensors")
    assert all(value.equal(held[name]) for name, value in network.state_dict().items())
    assert config.mechanism == "volumetric"
    opened, shape = open_network(str(run))
    assert shape == (5, 3, 64, 64)
    assert opened.bag == 5


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_label_maps_lie_in_the_voxels_of_their_scans(run: Path, lesions: Path, tmp_path: Path, number: int):
    predict(run, [scan(lesions, number)], tmp_path, threshold=0.05)
    name = f"ball_{number:02}"
    given, found = nibabel.load(scan(lesions, number)), nibabel.load(tmp_path / f"{name}.nii.gz")
    assert found.shape == given.shape
    assert np.array_equal(found.affine, given.affine)
    assert [int(found.header[code]) for code in ("qform_code", "sform_code")] == [
        int(given.header[code]) for code in ("qform_code", "sform_code")
    ]
    assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1}
    told = json.loads((tmp_path / f"{name}.boxes.json").read_text())
    assert {entry["lesion"] for entry in told["annotations"]} == {each["lesion"] for each in told["lesions"]}
    assert all(entry["score"] >= 0.05 for entry in told["annotations"])
    with pytest.raises(ValueError, match=r"^results must not replace a file; .*nii\.gz exists$"):
        predict(run, [scan(lesions, number)], tmp_path)


def test_the_weights_of_the_slices_of_each_lesion_are_told(run: Path, lesions: Path, tmp_path: Path):
    written = attend(run, [scan(lesions, 8)], tmp_path, threshold=0.05)
    assert written[-1] == tmp_path / "slices.csv"
    assert all(path.is_file() for path in written)
    with written[-1].open() as file:
        rows = list(csv.DictReader(file))
    sums: dict[tuple[str, str], float] = {}
    for each in rows:
        sums[each["lesion"], each["tap"]] = sums.get((each["lesion"], each["tap"]), 0) + float(each["weight"])
    assert len(sums) == 2 * (len(written) - 1)  # two gates for each lesion
    assert all(total == pytest.approx(1, abs=1e-4) for total in sums.values())
    assert {float(each["away_mm"]) for each in rows} <= {-8.0, -4.0, 0.0, 4.0, 8.0, -2.0, 2.0, -6.0, 6.0}


def test_a_scan_that_cannot_be_read_is_told_when_the_others_are_done(run: Path, lesions: Path, tmp_path: Path):
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    with pytest.raises(DataError, match=r"bad\.nii\.gz is damaged and cannot be read"):
        predict(run, [tmp_path / "bad.nii.gz", scan(lesions, 8)], tmp_path / "out")
    assert (tmp_path / "out" / "ball_08.nii.gz").is_file()
    assert not (tmp_path / "out" / "bad.nii.gz").exists()


def test_what_is_no_volume_is_refused(run: Path, lesions: Path, tmp_path: Path):
    from PIL import Image

    Image.new("L", (20, 20)).save(tmp_path / "picture.png")
    with pytest.raises(DataError, match=r"picture\.png is a picture; this takes volumes"):
        predict(run, [tmp_path / "picture.png"], tmp_path / "out")
    with pytest.raises(ExportError, match=r"or detects in pictures; the task of .*run is lesions$"):
        export_run(run, tmp_path / "x.onnx")


def test_other_classes_are_refused(run: Path, lesions: Path, tmp_path: Path):
    data = write_lesions(tmp_path / "other", 5)
    about = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(about | {"labels": {"0": "background", "1": "cyst"}}))
    with pytest.raises(DataError, match=r"has classes \['cyst'\]; the run knows \['ball'\]$"):
        evaluate(run, str(data), "train")


def test_several_channels_need_one_to_be_named(tmp_path: Path):
    data = write_lesions(tmp_path / "two", 5, channels=("CT", "PET"))
    for number in range(5):
        path = scan(data, number)
        held = nibabel.load(path)
        both = np.stack([np.asarray(held.dataobj)] * 2, axis=-1)
        nibabel.Nifti1Image(both, held.affine).to_filename(path)
    with pytest.raises(
        DataError, match=r"channel must name one channel of .*, which has 2 channels: CT, PET; got None"
    ):
        train(small(data), tmp_path / "run")
    train(small(data, channel="PET", max_time_s=1.0, epochs=None), tmp_path / "run")
    predict(tmp_path / "run", [scan(data, 4)], tmp_path / "out", threshold=0.0)
    assert nibabel.load(tmp_path / "out" / "ball_04.nii.gz").shape == nibabel.load(scan(data, 4)).shape[:3]


def test_data_without_a_lesion_to_learn_from_are_refused(tmp_path: Path):
    data = write_lesions(tmp_path / "empty", 5)
    for number in range(5):
        write_volume(data, number, f"ball_{number:02}", empty=True)
    with pytest.raises(DataError, match="lesion"):
        train(small(data), tmp_path / "run")


def test_slices_so_far_apart_that_none_shows_a_lesion_are_refused(tmp_path: Path):
    data = write_lesions(tmp_path / "data", 5)
    for number in range(5):  # in the first slice alone
        write_volume(data, number, f"ball_{number:02}", empty=True, slices=8)
        path = data / "labelsTr" / f"ball_{number:02}.nii.gz"
        held = nibabel.load(path)
        label = np.zeros(held.shape, np.uint8)
        label[5:9, 5:9, 0] = 1
        nibabel.Nifti1Image(label, held.affine).to_filename(path)
    told = r"data must have a lesion to learn from; slices 16 mm apart show none of its train split; take a smaller"
    with pytest.raises(DataError, match=told):
        train(small(data, slice_mm=16.0), tmp_path / "run")


def test_a_mechanism_of_channels_alone_has_nothing_to_draw(lesions: Path, tmp_path: Path):
    train(small(lesions, mechanism="se", max_time_s=1.0, epochs=None), tmp_path / "run")
    with pytest.raises(LookupError, match=r"^the mechanism of .*run has no maps of slices or places$"):
        attend(tmp_path / "run", [scan(lesions, 8)], tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_a_mechanism_of_places_is_drawn_without_weights_of_slices(lesions: Path, tmp_path: Path):
    train(small(lesions, mechanism="spatial", max_time_s=1.0, epochs=None), tmp_path / "run")
    assert summary(tmp_path / "run").metrics["neighbours"] is None
    written = attend(tmp_path / "run", [scan(lesions, 8)], tmp_path / "maps", threshold=1.0)  # the surest one
    assert [path.name for path in written] == ["ball_08.lesion1.png"]


def test_a_bag_without_its_target_has_a_weight_less(lesions: Path, tmp_path: Path):
    config = small(lesions, mechanism="volumetric", bag=3, include_target=False, max_time_s=1.0, epochs=None)
    train(config, tmp_path / "run")
    assert summary(tmp_path / "run").metrics["neighbours"] is None  # there is nothing else
    written = attend(tmp_path / "run", [scan(lesions, 8)], tmp_path / "maps", threshold=1.0)
    with written[-1].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2
    for each in rows:
        middle, away = int(each["slice"]), int(each["bag_slice"])
        assert away in (max(middle - 1, 0), min(middle + 1, 7))
        assert float(each["away_mm"]) == 2.0 * (away - middle)


def test_runs_of_masks_are_measured_on_masks(tmp_path: Path):
    data = write_lesions(tmp_path / "data", 5)
    about = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(about | {"labels": {"0": "background", "1": "lesion"}}))
    train(small(data, max_time_s=1.0, epochs=None), tmp_path / "run")
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    deep_lesion(boxes, [row(1), row(2, split=3)])
    with pytest.raises(DataError, match=r"boxes has boxes alone; the run learned masks, and is measured on data with"):
        evaluate(tmp_path / "run", str(boxes))


def test_a_scan_in_which_nothing_is_found_is_told(run: Path, lesions: Path, tmp_path: Path, monkeypatch):
    whole = load_run(run)
    whole[0].roi_heads.score_thresh = 1.1
    monkeypatch.setattr(runs, "load_run", lambda run: whole)
    with pytest.raises(
        DataError, match=r"^nothing is found at any score in ball_00, ball_01, so that there is nothing"
    ):
        attend(run, [scan(lesions, 0), scan(lesions, 1)], tmp_path)


def test_patience_needs_a_lesion_to_validate_with(tmp_path: Path):
    data = write_lesions(tmp_path / "data", 5)
    write_volume(data, 3, "ball_03", empty=True)  # which validates
    with pytest.raises(
        DataError, match=r"^patience needs a lesion to validate with; .*data has none in its val split$"
    ):
        train(small(data, patience=1), tmp_path / "run")


def test_the_plain_network_has_nothing_to_look_at(lesions: Path, tmp_path: Path):
    train(small(lesions, max_time_s=1.0, epochs=None, slice_mm=4.0, pixel_mm=1.5), tmp_path / "run")
    with pytest.raises(LookupError, match=r"has no mechanism to look at; train one with --mechanism volumetric$"):
        attend(tmp_path / "run", [scan(lesions, 0)], tmp_path / "maps")
    predict(tmp_path / "run", [scan(lesions, 1)], tmp_path / "out", threshold=0.0)
    assert nibabel.load(tmp_path / "out" / "ball_01.nii.gz").shape == nibabel.load(scan(lesions, 1)).shape


@pytest.mark.parametrize("changes", [{"mechanism": "volumetric"}, {"augment": "flips", "cache_mib": 1, "patience": 2}])
def test_wherever_a_run_is_broken_off_it_ends_the_same(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    config = small(lesions, epochs=2, batch_size=8, validate_every=1, seed=3, **changes)
    interrupt(config, tmp_path / "broken", 3, monkeypatch)  # pyright: ignore[reportArgumentType]
    resumed, whole = train(config, tmp_path / "broken"), train(config, tmp_path / "whole")
    assert (resumed.resumed, whole.resumed) == (1, 0)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert resumed.metrics == whole.metrics
    for name in ("predictions.csv", "froc.csv", "cases.csv", "slices.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_boxes_alone_are_learned_without_masks(tmp_path: Path):
    split = [1, 1, 1, 1, 3]
    data = deep_lesion(tmp_path, [row(number + 1, split=split[number]) for number in range(5)])
    train(small(data, max_time_s=1.0, epochs=None, mechanism="volumetric"), tmp_path / "run")
    told = summary(tmp_path / "run").metrics
    assert "dice" not in told
    assert told["slices"] == told["lesions"] == 1
    assert not (tmp_path / "run" / "cases.csv").exists()
    write_volume(tmp_path / "scans", 0, "scan")
    predict(tmp_path / "run", [tmp_path / "scans" / "imagesTr" / "scan.nii.gz"], tmp_path / "out", threshold=0.0)
    assert (tmp_path / "out" / "scan.boxes.json").is_file()
    assert not (tmp_path / "out" / "scan.nii.gz").exists()


def test_the_command_line_means_volumes(lesions: Path, tmp_path: Path):
    words = ["train", "detect", "--data", str(lesions), "--network", "mask_rcnn_tiny", "--mechanism", "volumetric"]
    words += ["--max-time", "1s", "--set", "image_size=64", "--set", "bag=3", "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(app, words, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert "test sensitivity at 0.5 false positives a slice" in told.output
    assert json.loads((tmp_path / "run" / "config.json").read_text())["task"] == "lesions"


def test_the_mechanism_alone_learns_in_a_host_that_is_frozen(run: Path, lesions: Path, tmp_path: Path):
    given = {"mechanism": "volumetric", "train_only": "inserted", "init": str(run / "model.safetensors")}
    train(small(lesions, start="published", **given), tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=r"has weights of the mechanism at backbone\.attention\.0; start=published"
    ):
        train(small(lesions, **given), tmp_path / "other")
    before, after = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "run"))
    changed = {key for key, value in after.items() if not value.equal(before[key])}
    learning = ("backbone.attention.", "roi_heads.box_predictor.", "roi_heads.mask_predictor.")
    assert changed
    assert all(key.startswith(learning) for key in changed)


def test_what_is_looked_for_at_any_score_keeps_no_masks_of_a_whole_volume(
    run: Path, lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = []

    def watched(found: Any, least: float) -> Any:
        held.extend(found.values())
        return trace(found, least)

    monkeypatch.setattr("foveate.tasks.lesions.run.trace", watched)
    attend(run, [scan(lesions, 8)], tmp_path, threshold=0.05)
    assert sum(map(len, held))
    assert all(each.masks is None for each in held)
