"""foveate export as a user meets it."""

import json
from pathlib import Path

import pytest
import torch

from foveate.tasks.export import Exported

MADE = Exported(
    path="se.onnx",
    format="onnx",
    input=("batch", 3, "height", "width"),
    maps={"layer1.0.mechanism.gate": "batch channel"},
    fixed=None,
    checked=((1, 3, 40, 40), (3, 3, 54, 51)),
    largest_difference=3.14e-7,
    runtime="onnxruntime 1.32.0",
    metadata={"classes": ["blue", "red"]},
)


def answer(monkeypatch, exported: Exported) -> list[tuple]:
    """Let the export be made already; what it was asked for."""
    asked: list[tuple] = []

    def export_run(run, path, **options):
        asked.append((run, path, options))
        return exported

    monkeypatch.setattr("foveate.tasks.export.export_run", export_run)
    return asked


def test_people_are_told_what_was_written_and_how_it_was_checked(foveate, monkeypatch):
    asked = answer(monkeypatch, MADE)
    status, out, err = foveate("export", "runs/se", "--format", "onnx", "--out", "se.onnx", "--maps")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "input       images: batch x 3 x height x width, as the run's network takes them",
        "outputs     logits",
        "            layer1.0.mechanism.gate: batch channel",
        "checked     onnxruntime 1.32.0 against the network, at 1 x 3 x 40 x 40 and 3 x 3 x 54 x 51",
        "difference  3.1e-07 of an output's largest value, at most",
        "file        se.onnx",
    ]
    options = {"format": "onnx", "maps": True, "fixed_size": False, "tolerance": 1e-4}
    assert asked == [(Path("runs/se"), Path("se.onnx"), options)]


def test_people_are_told_of_a_size_that_is_the_only_one(foveate, monkeypatch):
    fixed = {**vars(MADE), "input": ("batch", 3, 224, 224), "fixed": "the network takes no other size"}
    asked = answer(monkeypatch, Exported(**fixed))
    arguments = ("--out", "vit.pt2", "--fixed-size", "--tolerance", 1e-3)
    _, out, _ = foveate("export", "runs/vit", "--format", "pt2", *arguments)
    assert "fixed       224 x 224 is the only size: the network takes no other size" in out.splitlines()
    assert asked[0][2] == {"format": "pt2", "maps": False, "fixed_size": True, "tolerance": 1e-3}


def test_what_was_written_can_be_read_by_a_program(foveate, monkeypatch):
    answer(monkeypatch, MADE)
    status, out, _ = foveate("export", "runs/se", "--format", "onnx", "--out", "se.onnx", "--json")
    assert status == 0
    assert json.loads(out) == json.loads(json.dumps(vars(MADE)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("nowhere", "--format", "onnx", "--out", "a.onnx"),
            "this takes the folder of a finished run; nowhere is no run",
        ),
        (("nowhere", "--format", "tflite", "--out", "a"), "'tflite' is not one of"),
        (("nowhere", "--out", "a"), "Missing option '--format'"),
        (("nowhere", "--format", "onnx"), "Missing option '--out'"),
    ],
)
def test_what_went_wrong_is_told_with_status_two(foveate, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    status, out, err = foveate("export", *arguments)
    assert (status, out) == (2, "")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_trained_run_becomes_one_file_and_nothing_else_is_said(foveate, photos, tmp_path):
    run, path = tmp_path / "run", tmp_path / "new" / "eca.pt2"
    train = ("--data", photos, "--network", "resnet_tiny", "--mechanism", "eca", "--epochs", 1, "--device", "cpu")
    assert foveate("train", "classify", *train, "--set", "batch_size=8", "--out", run)[0] == 0
    before = {each: each.stat().st_mtime_ns for each in run.rglob("*")}
    status, out, err = foveate("export", run, "--format", "pt2", "--out", path, "--maps", "--json")
    assert (status, err) == (0, "")
    made = json.loads(out)
    assert made["input"] == ["batch", 3, "height", "width"]
    assert made["largest_difference"] < 1e-5
    assert {each: each.stat().st_mtime_ns for each in run.rglob("*")} == before
    assert [each.name for each in path.parent.iterdir()] == ["eca.pt2"]
    found = torch.export.load(path).module()(torch.randn(4, 3, 31, 26))
    assert found["logits"].shape == (4, 2)
    assert found["layer3.0.mechanism.gate"].shape == (4, 64)
