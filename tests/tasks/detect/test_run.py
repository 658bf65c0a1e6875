"""A run from pictures to everything that its folder holds, and what is done with it afterwards."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.tasks.detect.conftest import COUNTS, OPTIONS, small, write_shapes

from foveate import save_checkpoint
from foveate.data.boxes import open_boxes
from foveate.errors import DataError, RunError
from foveate.networks import detr_tiny
from foveate.networks.detr_backbone import FrozenBatchNorm2d
from foveate.tasks.detect.found import detect
from foveate.tasks.detect.module import Detector
from foveate.tasks.detect.network import load_run, preparation_of
from foveate.tasks.resume import read_checkpoint
from foveate.tasks.run import attend, evaluate, open_network, predict, train
from foveate.tasks.summary import Progress, read_summary

METRICS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "recall_1", "recall_10", "recall_100")
KINDS = ("map.square", "map.disc")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_writes_its_whole_folder(run: Path):
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if "tfevents" not in path.name}
    assert found == {
        ".lock",
        "checkpoints",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "config.json",
        "maps",
        "data.json",
        "maps/maps.json",
        "maps/maps.npz",
        "metrics.csv",
        "model.safetensors",
        "predictions.csv",
        "preparation.json",
        "summary.json",
        "tensorboard",
    }


def test_the_summary_says_what_was_trained_and_what_it_is_worth(run: Path):
    summary = read_summary(run)
    assert summary is not None
    assert tuple(summary.metrics) == (*METRICS, *KINDS, "val_map")
    assert (summary.task, summary.arm, summary.start, summary.seed) == ("detect", "eca+spatial", "published", 0)
    assert (summary.train_size, summary.val_size, summary.test_size) == tuple(COUNTS.values())
    assert (summary.epochs, summary.steps, summary.stopped_by) == (2, 8, "epochs")
    assert [site["name"] for site in summary.sites] == [f"backbone.layer{stage}.0.mechanism" for stage in (1, 2, 3)]
    held = load_file(run / "model.safetensors")
    assert summary.parameters < sum(value.numel() for value in held.values())  # which has running statistics too
    assert set(summary.gate_health) == {
        f"{site['name']}.{gate}.gate" for site in summary.sites for gate in ("eca", "spatial")
    }
    assert summary.pointing["samples"] == 9
    assert set(summary.pointing["taps"]) == {f"{site['name']}.spatial.gate" for site in summary.sites}
    assert summary.command.startswith("foveate train detect --data ")


def test_every_epoch_has_a_row(run: Path):
    found = rows(run / "metrics.csv")
    assert list(found[0])[-6:] == list(Detector.measures)
    assert [row["step"] for row in found] == ["4", "8"]
    assert [row["val_unstable"] == "" for row in found] == [True, False]
    summary = read_summary(run)
    assert summary is not None
    assert float(found[-1]["val_map"]) == summary.metrics["val_map"]
    predictions = rows(run / "predictions.csv")
    assert {row["prediction"] for row in predictions} <= {"square", "disc"}
    assert len(predictions) == COUNTS["test"] * preparation_of(run).num_queries


def test_the_weights_say_what_they_take(run: Path):
    network, config, prepared = load_run(run)
    assert not network.training
    assert (prepared.classes, prepared.category_ids, prepared.short) == (["square", "disc"], [3, 11], 32)
    assert config.mechanism == "eca+spatial"
    assert all(
        torch.equal(value, network.state_dict()[key]) for key, value in load_file(run / "model.safetensors").items()
    )
    opened, shape = open_network(str(run))
    assert shape == (3, 32, 43)
    assert opened.state_dict().keys() == network.state_dict().keys()


def test_evaluation_finds_what_the_summary_says(run: Path, scenes: Path, tmp_path: Path):
    summary = read_summary(run)
    assert summary is not None
    wanted = {name: value for name, value in summary.metrics.items() if name != "val_map"}
    wanted |= {"samples": {"test": 4}, "measured": "as the files say"}
    assert evaluate(run, device="cpu", rows=tmp_path / "rows.csv") == wanted
    assert (tmp_path / "rows.csv").read_text() == (run / "predictions.csv").read_text()
    assert evaluate(run, str(scenes), device="cpu") == wanted
    val = evaluate(run, split="val", device="cpu", rows=tmp_path / "val.csv")
    assert val["map"] == pytest.approx(summary.metrics["val_map"], abs=1e-6)
    assert {row["name"] for row in rows(tmp_path / "val.csv")} == {f"shapes {number:03}.png" for number in (8, 9, 10)}


def test_data_of_other_classes_are_refused(run: Path, tmp_path: Path):
    other = [{"id": 3, "name": "square"}, {"id": 11, "name": "ring"}]
    data = write_shapes(tmp_path / "data", {"train": 2, "val": 1}, categories=other)
    with pytest.raises(DataError, match=r"data has classes \['square', 'ring'\]; the run knows \['square', 'disc'\]$"):
        evaluate(run, str(data), device="cpu")
    with pytest.raises(ValueError, match=r"^split takes train, val or test; got 'all'$"):
        evaluate(run, split="all")
    fewer = write_shapes(tmp_path / "fewer", {"train": 2, "val": 1})
    with pytest.raises(DataError, match=r"fewer has no picture in its test split$"):
        evaluate(run, str(fewer), device="cpu")


def pictures(scenes: Path, tmp_path: Path) -> list[Path]:
    """One by itself and a folder with two."""
    folder = tmp_path / "photos" / "more"
    folder.mkdir(parents=True)
    for number in (11, 13):
        shutil.copy(scenes / "test" / f"shapes {number:03}.png", folder / f"{number}.png")
    Image.new("L", (20, 31), 77).save(tmp_path / "photos" / "grey.png")
    return [tmp_path / "photos" / "grey.png", folder]


def test_boxes_are_written_as_coco_has_them(run: Path, scenes: Path, tmp_path: Path):
    given, out = pictures(scenes, tmp_path), tmp_path / "out"
    assert predict(run, given, out, device="cpu", threshold=0.0) == out
    names = ["grey.png", "more_11.png", "more_13.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["predictions.json", *(f"{name}.found.png" for name in names)]
    )
    content = json.loads((out / "predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["grey.png", "more/11.png", "more/13.png"]
    assert [(image["height"], image["width"]) for image in content["images"]] == [(31, 20), (36, 60), (48, 40)]
    assert len(content["annotations"]) == 3 * preparation_of(run).num_queries
    assert {entry["category_id"] for entry in content["annotations"]} <= {3, 11}
    assert Image.open(out / "more_11.png.found.png").size == (60 * 9, 36 * 9)
    # The test pictures were found in before, to the last digit that is written.
    tested = [row for row in rows(run / "predictions.csv") if row["name"] == "shapes 011.png"]
    again = [entry for entry in content["annotations"] if entry["image_id"] == 2]
    assert [entry["bbox"][0] for entry in again] == [pytest.approx(float(row["x"]), abs=0.011) for row in tested]
    scores = sorted(entry["score"] for entry in content["annotations"])
    predict(run, given, out, device="cpu", threshold=scores[-3])
    assert len(json.loads((out / "predictions.json").read_text())["annotations"]) == 2


def test_masks_are_written_too(masked: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foveate.tasks.detect.panoptic.panoptic.__defaults__", (0.1,))
    given, out = pictures(scenes, tmp_path), tmp_path / "out"
    predict(masked, given, out, device="cpu", threshold=0.0)
    assert len(list(out.iterdir())) == 2 + 2 * 3
    content = json.loads((out / "predictions.json").read_text())
    assert all(entry["segmentation"]["size"] for entry in content["annotations"])
    whole = json.loads((out / "panoptic.json").read_text())
    assert any(each["segments_info"] for each in whole["annotations"])
    for image, each in zip(whole["images"], whole["annotations"], strict=True):
        numbers = np.asarray(Image.open(out / each["file_name"])).astype(int) @ [1, 256, 65536]
        assert numbers.shape == (image["height"], image["width"])
        areas = {entry["id"]: entry["area"] for entry in each["segments_info"]}
        assert areas == {number: (numbers == number).sum() for number in areas}
        assert set(np.unique(numbers)) - {0} == set(areas)


def test_a_run_with_masks_measures_them(masked: Path):
    summary = read_summary(masked)
    assert summary is not None
    names = (*METRICS, *KINDS)
    assert tuple(summary.metrics) == (*names, *(f"mask_{name}" for name in names), "val_map")
    found = evaluate(masked, device="cpu")
    assert found.pop("samples") == {"test": 4}
    assert found.pop("measured") == "as the files say"
    assert found == {k: v for k, v in summary.metrics.items() if k != "val_map"}


@pytest.mark.slow
def test_attention_is_drawn_for_each_picture(run: Path, scenes: Path, tmp_path: Path):
    given, out = pictures(scenes, tmp_path), tmp_path / "out"
    written = attend(run, given, out, device="cpu", points=[(3.0, 5.0)])
    assert sorted(written) == sorted(out.iterdir())
    taps = [f"backbone.layer{stage}.0.mechanism.spatial.gate" for stage in (1, 2, 3)]
    names = ["grey.png", "more_11.png", "more_13.png"]
    assert {path.name for path in written} == {
        f"{name}.{kind}.png" for name in names for kind in ("queries", "points", *taps)
    } | {"gates.csv"}
    gates = rows(out / "gates.csv")
    assert len(gates) == 3 * (8 + 16 + 32)
    assert {row["picture"] for row in gates} == {"grey.png", "more/11.png", "more/13.png"}
    assert all(0 < float(row["gate"]) < 1 for row in gates)
    heads = attend(run, given[:1], tmp_path / "heads", device="cpu", heads=True, layer=1)
    attend(run, given[:1], tmp_path / "four", device="cpu", points=[(3.0, 5.0), (13.0, 17.0)])
    assert {path.name for path in heads} == {
        "gates.csv",
        *(f"grey.png.{kind}.png" for kind in ("queries", "points", *taps)),
    }
    # A row of a sheet has a panel for each of two heads, or four panels.
    widths = [Image.open(tmp_path / folder / "grey.png.points.png").width for folder in ("heads", "four")]
    assert widths == [2 * 330, 4 * 330]


@pytest.mark.slow
def test_what_masks_begin_with_is_drawn(masked: Path, scenes: Path, tmp_path: Path):
    written = attend(masked, pictures(scenes, tmp_path)[:1], tmp_path / "out", device="cpu")
    assert sorted(path.name for path in written) == [f"grey.png.{kind}.png" for kind in ("masks", "points", "queries")]


@pytest.mark.parametrize("use", [predict, attend])
def test_inputs_of_one_name_are_refused(run: Path, scenes: Path, tmp_path: Path, use: Callable[..., Any]):
    (tmp_path / "a").mkdir()
    for name in ("a/b.png", "a_b.png"):
        shutil.copy(scenes / "test" / "shapes 011.png", tmp_path / name)
    with pytest.raises(DataError, match=r"^results of a/b\.png and of a_b\.png would have one name"):
        use(run, [tmp_path / "a", tmp_path / "a_b.png"], tmp_path / "out", device="cpu")


@pytest.mark.parametrize("use", [predict, attend])
@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_is_a_share(run: Path, scenes: Path, tmp_path: Path, use: Callable[..., Any], threshold: float):
    with pytest.raises(ValueError, match=f"^threshold must be from 0 to 1; got {threshold:g}$"):
        use(run, [scenes / "test"], tmp_path, device="cpu", threshold=threshold)


def test_options_of_detectors_are_refused_for_other_runs(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"task": "classify"}')
    told = f"^runs of the task classify take no threshold; got threshold=0.7 for {re.escape(str(tmp_path))}$"
    with pytest.raises(ValueError, match=told):
        predict(tmp_path, [], tmp_path / "out", threshold=0.7)
    with pytest.raises(ValueError, match=r"^runs of the task classify take no heads; got heads=True for "):
        attend(tmp_path, [], tmp_path / "out", heads=True)
    with pytest.raises(RunError, match=r"this takes the folder of a finished run; .*nowhere is no run folder$"):
        predict(tmp_path / "nowhere", [], tmp_path / "out", threshold=0.7)


def test_one_picture_that_cannot_be_read_costs_no_other(run: Path, scenes: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        shutil.copy(scenes / "test" / "shapes 011.png", tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"b\.png is damaged"):
        predict(run, [tmp_path / "in"], tmp_path / "out", device="cpu")
    names = [each["file_name"] for each in json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]]
    assert names == ["a.png", "c.png"]
    with pytest.raises(DataError, match=r"b\.png is damaged"):
        attend(run, [tmp_path / "in"], tmp_path / "maps", device="cpu")
    assert len(list((tmp_path / "maps").glob("*.queries.png"))) == 2


def test_results_do_not_go_among_the_pictures(run: Path, scenes: Path):
    for use in (predict, attend):
        with pytest.raises(ValueError, match=r"^results must not lie among the pictures; "):
            use(run, [scenes / "test"], scenes / "test" / "out", device="cpu")


def test_a_file_is_measured_as_a_whole(run: Path, scenes: Path):
    file = next((scenes).glob("**/*test*.json"))
    said = evaluate(run, str(file), "test", device="cpu")
    assert said["map"] == evaluate(run, None, "test", device="cpu")["map"]


def test_a_network_by_name_is_opened_for_the_classes_of_coco():
    network, shape = open_network("detr_tiny", shape=(3, 40, 56))
    assert shape == (3, 40, 56)
    assert network.state_dict()["class_embed.weight"].shape[0] == 92
    with pytest.raises(ValueError, match=r"^detr_tiny takes 3 channels, height and width; got 1x40x56$"):
        open_network("detr_tiny", shape=(1, 40, 56))


def test_a_network_of_bags_of_slices_is_opened_for_them():
    network, shape = open_network("va_mask_rcnn_tiny")
    assert shape == (5, 3, 128, 128)
    weight = network.state_dict()["roi_heads.box_predictor.cls_score.weight"]
    assert weight.shape[0] == 2
    again, _ = open_network("va_mask_rcnn_tiny")  # what it computes, and so costs, depends on its weights
    assert again.state_dict()["roi_heads.box_predictor.cls_score.weight"].equal(weight)
    with pytest.raises(
        ValueError, match=r"^va_mask_rcnn_tiny takes slices, 3 channels, height and width; got 3x64x64$"
    ):
        open_network("va_mask_rcnn_tiny", shape=(3, 64, 64))


# Training.


def test_a_finished_run_is_left_alone(run: Path, scenes: Path):
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert train(small(scenes, mechanism="eca+spatial"), run) == read_summary(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == times
    with pytest.raises(RunError, match=r"config\.json belongs to another run: num_queries is None there and 5 here"):
        train(small(scenes, mechanism="eca+spatial", num_queries=5), run)


@pytest.mark.slow
def test_what_is_chosen_is_told_and_what_is_done(scenes: Path, tmp_path: Path):
    told: list[Progress] = []
    train(
        small(scenes, epochs=1, network_options=OPTIONS | {"encoder_layers": 0}), tmp_path / "run", progress=told.append
    )
    stages = list(dict.fromkeys(state.stage for state in told))
    assert stages == ["check", "prepare", "train", "score", "done"]
    notes = [line for state in told for line in state.notes]
    assert notes[0] == f"read {scenes}: 8 train, 3 val, 4 test pictures of 2 classes (as the files say)"
    assert "map" in json.dumps(told[-1].validation)
    scored = [state.fraction for state in told if state.stage == "score"]
    assert scored == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.slow
def test_a_run_without_pictures_to_test_with_ends(tmp_path: Path):
    data = write_shapes(tmp_path / "data", {"train": 4, "val": 1})
    summary = train(small(data, epochs=1), tmp_path / "run")
    assert summary.test_size == 0
    assert set(summary.metrics.values()) <= {None, summary.metrics["val_map"]}
    assert summary.metrics["val_map"] is not None
    assert not (tmp_path / "run" / "maps").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"masks": True, "train_only": "inserted", "mechanism": "se", "start": "identity"},
        {"augment": "none", "patience": 1, "epochs": 3, "validate_every": 2},
        {"optimizer": "sgd", "auxiliary": False, "clip": None, "num_queries": 2},
    ],
)
def test_runs_of_every_kind_end(scenes: Path, tmp_path: Path, changes: dict[str, Any]):
    options = OPTIONS | ({"embed_dim": 64, "num_heads": 8} if "masks" in changes else {})
    summary = train(small(scenes, **{"epochs": 1, "network_options": options, **changes}), tmp_path / "run")
    assert summary.stopped_by in ("epochs", "early_stop")
    precisions = [float(row["val_map"]) for row in rows(tmp_path / "run" / "metrics.csv") if row["val_map"]]
    assert summary.metrics["val_map"] == (max(precisions) if "patience" in changes else precisions[-1])
    assert load_run(tmp_path / "run")[0].state_dict().keys() == load_file(tmp_path / "run" / "model.safetensors").keys()
    assert evaluate(tmp_path / "run", device="cpu")["map"] == pytest.approx(summary.metrics["map"], abs=1e-6)


@pytest.mark.slow
def test_a_run_that_started_from_a_checkpoint_needs_it_no_more(scenes: Path, tmp_path: Path):
    path = tmp_path / "coco.safetensors"
    save_checkpoint(detr_tiny(num_classes=5, num_queries=11, width=0.25, frozen=True, **OPTIONS), path)
    config = small(scenes, init=str(path), mechanism="se", epochs=1)
    with pytest.warns(UserWarning, match=r"coco\.safetensors has no weights that fit class_embed, which starts anew"):
        summary = train(config, tmp_path / "run")
    assert (summary.start, preparation_of(tmp_path / "run").num_queries) == ("identity", 11)
    path.unlink()
    network, _, _ = load_run(tmp_path / "run")
    assert "backbone.layer1.0.bn2.inserted.alpha" in network.state_dict()
    assert isinstance(network.get_submodule("backbone.layer1.0.bn1"), FrozenBatchNorm2d)
    assert evaluate(tmp_path / "run", device="cpu")["map"] == pytest.approx(summary.metrics["map"], abs=1e-6)


@pytest.mark.slow
def test_training_lowers_the_loss(scenes: Path, tmp_path: Path):
    train(small(scenes, epochs=12, validate_every=12, augment="none", schedule="constant"), tmp_path / "run")
    losses = [float(row["train_loss"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert losses[-1] < 0.8 * losses[0]


def test_a_network_of_another_task_is_refused_before_the_pictures_are_looked_at(scenes: Path, tmp_path: Path):
    told: list[Progress] = []
    with pytest.raises(LookupError, match="resnet18 is there to classify, not to detect"):
        train(small(scenes, network="resnet18"), tmp_path / "run", progress=told.append)
    assert told == []


@pytest.mark.slow
@pytest.mark.parametrize("val", [1, 5])
def test_two_processes_share_a_run(tmp_path: Path, val: int):
    # With one picture to validate with, one of them has none.
    data = write_shapes(tmp_path / "data", {"train": 8, "val": val, "test": 3})
    summary = train(small(data, devices=2, epochs=2), tmp_path / "both")
    assert (summary.steps, summary.val_size, summary.stopped_by) == (8, val, "epochs")
    alone = train(small(data, epochs=2), tmp_path / "alone")
    assert summary.metrics.keys() == alone.metrics.keys()
    assert evaluate(tmp_path / "both", split="val", device="cpu")["map"] == pytest.approx(
        summary.metrics["val_map"], abs=1e-6
    )
    # What the last validation measured is of all pictures.
    network, _, prepared = load_run(tmp_path / "both")
    held = open_boxes(data).splits["val"]
    boxes = torch.stack([detect(network, prepared, held.image(index))[1]["pred_boxes"][0] for index in range(val)])
    both, one = (rows(tmp_path / name / "metrics.csv") for name in ("both", "alone"))
    if val > 1:
        spread = boxes.std(dim=0, correction=0).mean().item()
        assert float(both[-1]["val_spread"]) == pytest.approx(spread, rel=1e-3)
    standing = read_checkpoint(tmp_path / "both" / "checkpoints" / "last.ckpt").standing
    assert set(standing.memory["matches"]) == set(range(val))
    for first, second in zip(both, one, strict=True):
        assert float(first["train_loss"]) == pytest.approx(float(second["train_loss"]), rel=0.2)
        assert {name for name in first if first[name]} == {name for name in second if second[name]}
