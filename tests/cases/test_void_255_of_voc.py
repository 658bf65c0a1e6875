"""Void values beside small ones are asked for; values to ignore are neither learned nor scored."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cases.calling import foveate

from foveate.data.checks import check_cases
from foveate.data.volumes import Volume, open_volumes
from foveate.errors import DataError
from foveate.tasks.segment.config import SegmentConfig
from foveate.tasks.segment.losses import LOSSES
from foveate.tasks.segment.module import mean_dice
from foveate.tasks.segment.scoring import score_volume


def labels(void: int = 255) -> np.ndarray:
    mask = np.zeros((32, 32), np.uint16 if void > 255 else np.uint8)
    mask[4:20, 4:20], mask[22:30, 22:30] = void, void
    mask[5:19, 5:19], mask[23:29, 23:29] = 1, 2
    return mask


def write(root: Path, mask: np.ndarray, palette: bool = False) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(random.integers(0, 255, (32, 32), np.uint8)).save(root / "images" / f"{index}.png")
        picture = Image.fromarray(mask)
        if palette:
            picture = picture.convert("P")
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224, 224, 192] * 253)
        picture.save(root / "masks" / f"{index}.png")
    return root


@pytest.mark.parametrize(("void", "palette"), [(255, True), (255, False), (65535, False)])
def test_a_void_value_is_asked_for(tmp_path: Path, void: int, palette: bool):
    said = rf"hold {void} in 8\.59% of all voxels beside the classes 0, 1, 2: give ignore=\[{void}\] if it is void"
    with pytest.raises(DataError, match=said):
        open_volumes(write(tmp_path, labels(void), palette))


def test_it_may_be_a_class_and_black_and_white_is_none(tmp_path: Path):
    assert open_volumes(write(tmp_path / "a", labels()), ignore=[]).classes == ["background", "1", "2", "255"]
    assert open_volumes(write(tmp_path / "b", np.where(labels(), 255, 0).astype(np.uint8))).classes[1:] == [
        "foreground"
    ]


@pytest.mark.parametrize("void", [255, 7, 65535])
def test_a_value_to_ignore_is_no_class(tmp_path: Path, void: int):
    volumes = open_volumes(write(tmp_path, labels(void)), ignore=[void])
    assert volumes.classes == ["background", "1", "2"]
    assert volumes.ignored_values == [void]
    assert {facts.ignored for facts in check_cases(volumes)} == {int((labels(void) == void).sum())}


def test_a_dataset_json_may_name_a_label_to_ignore(tmp_path: Path):
    about = {"labels": {"background": 0, "one": 1, "two": 2, "ignore": 255}}
    (write(tmp_path, labels()) / "dataset.json").write_text(json.dumps(about))
    volumes = open_volumes(tmp_path)
    assert (volumes.classes, volumes.ignored_values) == (["background", "one", "two"], [255])


def test_the_background_cannot_be_ignored(tmp_path: Path):
    with pytest.raises(DataError, match=r"must keep the background, which is 0, .*; got ignore \[0\]"):
        open_volumes(write(tmp_path, np.where(labels() == 1, 1, 0).astype(np.uint8)), ignore=[0])
    with pytest.raises(ValueError, match=r"threshold leaves no value to ignore; got 9 and ignore \[255\]"):
        SegmentConfig(data="d", threshold=9, ignore=[255])


@pytest.mark.parametrize("name", ["dice_ce", "soft_dice"])
def test_a_loss_does_not_depend_on_what_is_ignored(name: str):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, 5, 7), generator=generator, dtype=torch.uint8)
    assert LOSSES[name](logits, label, ignored=255).item() == pytest.approx(LOSSES[name](logits, label).item())
    label[:, 2] = 255
    loss = LOSSES[name](logits, label, ignored=255)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 2] == 0).all()
    assert (logits.grad[:, :, 1] != 0).any()
    with torch.no_grad():
        logits[:, :, 2] = 9 * torch.randn(2, 3, 7, generator=generator)
    assert LOSSES[name](logits, label, ignored=255).item() == pytest.approx(loss.item())


def test_a_score_does_not_depend_on_what_is_ignored():
    truth = torch.zeros(6, 6, dtype=torch.uint8)
    truth[1:4, 1:4], truth[4:] = 1, 255
    found = torch.where(truth == 255, 1, truth)
    volume = Volume(torch.zeros(1, 6, 6), truth, np.eye(4), (1.0, 1.0), "a")
    (score,) = score_volume(found, volume, ["background", "disc"])
    assert (score.dice, score.hd95_mm, score.false_positive_ml) == (1.0, 0.0, 0.0)
    assert mean_dice(found, truth, 2) == 1.0


def test_the_command_line_trains_and_scores_without_it(tmp_path: Path):
    command = (
        "train",
        "segment",
        "--data",
        write(tmp_path / "data", labels()),
        "--network",
        "unet",
        "--max-time",
        "1s",
    )
    status, _, err = foveate(*command, "--out", tmp_path / "run")
    assert (status, "give ignore=[255] if it is void" in err) == (2, True)
    status, _, err = foveate(*command, "--set", "ignore=[255]", "--out", tmp_path / "run")
    assert status == 0
    assert "label 255 is ignored: 8.59% of all voxels are neither learned nor scored" in err
    with (tmp_path / "run" / "cases.csv").open() as file:
        assert [row["structure"] for row in csv.DictReader(file)] == ["1", "2"]
    status, out, _ = foveate("evaluate", tmp_path / "run")
    assert (status, "255" in out) == (0, False)
