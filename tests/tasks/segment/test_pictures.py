"""Pictures with masks, and the slices of a DICOM series, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.cli import main

SETTINGS = {
    "network_options": {"widths": [4, 8, 16], "fused_heads": False},
    "patch_size": [24, 24],
    "patches_per_epoch": 32,
    "batch_size": 4,
    "learning_rate": 0.02,
    "threads": 1,
    "device": "cpu",
}


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


def squares(root: Path) -> Path:
    """Dark squares on noise, with masks of 0 and 255."""
    random = np.random.default_rng(0)
    for number in range(10):
        image = random.integers(120, 200, (40, 30), np.uint8)
        mask = np.zeros_like(image)
        top, left = random.integers(0, 18, 2)
        mask[top : top + 12, left : left + 12] = 255
        image[mask > 0] -= 100
        for folder, array in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{number}.png")
    return root


def words(settings: dict[str, object]) -> list[str]:
    pairs = [(key, json.dumps(value) if isinstance(value, dict | list) else value) for key, value in settings.items()]
    return [word for key, value in pairs for word in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_pictures_go_all_the_way(foveate, tmp_path: Path):
    data, run = squares(tmp_path / "data"), tmp_path / "run"
    given = ("train", "segment", "--data", data, "--network", "attention-unet", "--epochs", 4, "--out", run)
    status, said, err = foveate(*given, *words(SETTINGS))
    assert status == 0, err
    assert "test dice 0." in said or "test dice 1." in said
    status, said, _ = foveate("evaluate", run, "--json")
    metrics = json.loads(said)
    assert status == 0
    assert metrics["dice"] > 0.8
    assert (metrics["cases"], metrics["missed"]) == (2, 0)
    status, said, err = foveate("predict", run, data / "images" / "9.png", "--out", tmp_path / "labels")
    assert status == 0, err
    label = np.asarray(Image.open(tmp_path / "labels" / "9.png"))
    truth = np.asarray(Image.open(data / "masks" / "9.png"))
    assert set(np.unique(label)) == {0, 255}  # the values of the masks that it was trained with
    assert (label == truth).mean() > 0.9
    assert Image.open(tmp_path / "labels" / "9.overlay.png").size[0] >= 224
    status, said, err = foveate("attend", run, data / "images", "--out", tmp_path / "maps")
    assert status == 0, err
    assert len(said.split()) == 20  # a map and an overlay of each
    status, _, err = foveate("predict", run, data / "masks" / "absent.png", "--out", tmp_path / "labels")
    assert status == 2
    assert err.strip().endswith("absent.png does not exist")


def test_segmentation_needs_data(foveate):
    status, _, err = foveate("train", "segment", "--network", "unet")
    assert status == 2
    assert "segment needs --data: a folder of scans or pictures with labels; none was given" in err


@pytest.mark.slow
def test_a_network_of_another_task_is_refused(foveate, tmp_path: Path):
    data = squares(tmp_path / "data")
    status, _, err = foveate("train", "segment", "--data", data, "--network", "resnet18", "--out", tmp_path / "run")
    assert status == 2
    assert "resnet18 is there to classify, not to segment" in err
