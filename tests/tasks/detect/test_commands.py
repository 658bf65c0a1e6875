"""Detection through the command line."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.tasks.detect.conftest import SETTINGS

from foveate.cli import main
from foveate.cli.options import parse_point
from foveate.cli.progress import validation


@pytest.fixture
def foveate(monkeypatch, capsys):
    """A function that runs `foveate` with arguments and gives (exit status, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["foveate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err  # pyright: ignore[reportReturnType]

    return run


def words() -> list[str]:
    left = {name: value for name, value in SETTINGS.items() if name not in ("network", "epochs", "device")}
    pairs = [(key, json.dumps(value) if isinstance(value, dict) else value) for key, value in left.items()]
    return [word for key, value in pairs for word in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_pictures_go_all_the_way(foveate, scenes: Path, tmp_path: Path):
    out = tmp_path / "run"
    given = ("train", "detect", "--data", scenes, "--network", "detr_tiny", "--epochs", 2, "--device", "cpu")
    status, said, err = foveate(*given, "--mechanism", "se", "--out", out, *words())
    assert status == 0, err
    assert "se, seed 0: test mAP 0." in said
    assert "after 2 epochs" in said
    assert "8 train, 3 val, 4 test pictures of 2 classes (as the files say)" in err
    status, said, err = foveate("evaluate", out, "--json")
    metrics = json.loads(said)
    assert status == 0, err
    assert metrics["map_large"] is None
    assert metrics["map"] == json.loads((out / "summary.json").read_text())["metrics"]["map"]
    status, said, _ = foveate("evaluate", out, "--split", "val", "--out", tmp_path / "rows.csv")
    assert status == 0
    assert "map_large   not defined" in said
    assert (tmp_path / "rows.csv").read_text().startswith("index,name,image_id,prediction,score,")
    picture = scenes / "test" / "shapes 011.png"
    status, said, err = foveate("predict", out, picture, "--out", tmp_path / "found", "--threshold", 0.01)
    assert status == 0, err
    assert said.strip() == str(tmp_path / "found")
    assert json.loads((tmp_path / "found" / "predictions.json").read_text())["annotations"]
    assert Image.open(tmp_path / "found" / "shapes 011.png.found.png").size == (540, 324)
    status, said, err = foveate(
        "attend",
        out,
        picture,
        "--out",
        tmp_path / "maps",
        "--point",
        "30,20",
        "--point",
        "0,0",
        "--layer",
        1,
        "--heads",
    )
    assert status == 0, err
    assert [Path(line).name for line in said.splitlines()] == [
        "shapes 011.png.queries.png",
        "shapes 011.png.points.png",
        "gates.csv",
    ]
    status, _, err = foveate("attend", out, picture, "--out", tmp_path / "maps", "--point", "60,20")
    assert status == 2
    assert err.strip().endswith("a point lies in the picture, which has 60 x 36 pixels; got 60,20")
    status, said, err = foveate(*given, "--mechanism", "se", "--out", out, *words())  # finished, and left alone
    assert status == 0, err
    assert "test mAP" in said


def test_what_cannot_be_is_a_sentence_and_a_status(foveate, run: Path, scenes: Path, tmp_path: Path):
    status, _, err = foveate("train", "detect", "--data", scenes, "--network", "resnet18", "--out", tmp_path / "run")
    assert status == 2
    assert "resnet18 is there to classify, not to detect" in err
    status, _, err = foveate("train", "detect", "--set", 'costs={"class": 1}', "--out", tmp_path / "run")
    assert status == 2
    assert 'costs has no "class"; it takes classes, boxes, giou' in err
    status, _, err = foveate("predict", run, tmp_path / "absent.png", "--out", tmp_path / "found")
    assert status == 2
    assert err.strip().endswith("absent.png does not exist")
    status, _, err = foveate("attend", run, scenes / "test", "--out", tmp_path / "maps", "--layer", 3)
    assert status == 2
    assert err.strip().endswith("the encoder has layers 1 to 1; got 3")
    status, _, err = foveate("attend", run, scenes / "test", "--out", tmp_path / "maps", "--point", "middle")
    assert status == 2
    assert "a point is written like 120,80: pixels from the left and from above; got 'middle'" in err


def test_a_point_is_read_in_pixels():
    assert parse_point("120,80") == (120.0, 80.0)
    assert parse_point(" 7.5, 3") == (7.5, 3.0)


@pytest.mark.parametrize("text", ["", "120", "1,2,3", "x,3", "120;80"])
def test_a_point_that_cannot_be_read_is_named(text: str):
    with pytest.raises(ValueError, match=f"^a point is written like 120,80: pixels from the left .*; got '{text}'$"):
        parse_point(text)


def test_validation_is_told_in_words():
    row = {"val_map": 0.1234, "val_map50": 0.5, "val_unstable": 0.375, "val_entropy": 0.5, "val_alike": 0.98}
    assert validation(row) == ["validation mAP 0.123", "mAP50 0.500", "38% of matches new", "queries look 98% alike"]
    assert validation({"val_map": 0.5}) == ["validation mAP 0.500"]
