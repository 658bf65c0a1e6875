import dataclasses
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from foveate.tasks.config import command_for, config_for, parse_setting
from foveate.tasks.detect.config import DEMO_SETTINGS, DetectConfig


@pytest.mark.parametrize("start", [{"init": "detr.pth"}, {"pretrained": True}])
def test_what_starts_from_weights_is_frozen_and_slow_in_its_backbone(start: dict[str, Any]):
    config = DetectConfig(learning_rate=3e-4, **start)
    assert config.trained
    assert config.freezes
    assert config.backbone_rate == pytest.approx(3e-5)
    assert not DetectConfig(frozen=False, **start).freezes
    assert DetectConfig(backbone_learning_rate=0.0, **start).backbone_rate == 0


def test_from_random_weights_all_of_the_backbone_learns():
    config = DetectConfig(learning_rate=3e-4)
    assert not config.trained
    assert not config.freezes
    assert config.backbone_rate == 3e-4
    assert DetectConfig(frozen=True).freezes
    assert DetectConfig(backbone_learning_rate=7e-6).backbone_rate == 7e-6


@pytest.mark.parametrize(
    ("settings", "identity", "inserted"),
    [
        ({"mechanism": "se"}, False, False),
        ({"mechanism": "se", "where": "layer2.*"}, False, True),
        ({"mechanism": "se", "init": "detr.pth"}, True, True),
        ({"mechanism": "se", "pretrained": True}, True, True),
        ({"mechanism": "se", "init": "detr.pth", "start": "published"}, False, False),
        ({"mechanism": "se", "start": "identity"}, True, True),
        ({"start": "identity"}, True, False),
    ],
)
def test_how_a_mechanism_comes_into_the_backbone(settings: dict[str, Any], identity: bool, inserted: bool):
    config = DetectConfig(**settings)
    assert (config.identity, config.inserted) == (identity, inserted)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_queries": 0}, r"^num_queries must be 1 or more; got 0$"),
        ({"short": 0}, r"^short must be 1 or more; got 0$"),
        ({"longest": -3}, r"^longest must be 1 or more; got -3$"),
        ({"validate_every": 0}, r"^validate_every must be 1 or more; got 0$"),
        ({"short": 31, "longest": 29}, r"^longest must be at least short; got 29 and 31$"),
        ({"backbone_learning_rate": -0.5}, r"^backbone_learning_rate must be 0 or more; got -0\.5$"),
        ({"clip": 0.0}, r"^clip must be greater than 0; got 0\.0$"),
        ({"no_object": 0.0}, r"^no_object must be from above 0 to 1; got 0\.0$"),
        ({"no_object": 1.5}, r"^no_object must be from above 0 to 1; got 1\.5$"),
        ({"costs": {"giou": -1}}, r"^costs takes numbers of 0 or more; got -1 for giou$"),
        ({"costs": {"giou": True}}, r"^costs takes numbers of 0 or more; got True for giou$"),
        ({"weights": {"loss_ce": "2"}}, r"^weights takes numbers of 0 or more; got '2' for loss_ce$"),
        ({"host_learning_rate": 0.5}, r"^a detector has a backbone_learning_rate; got host_learning_rate=0\.5$"),
        ({"pretrained": True, "init": "a.pth"}, r"^pretrained and init both say where the weights come from; give one"),
        ({"where": "layer1"}, r"^where 'layer1' needs a mechanism; mechanism is none$"),
        ({"augment": "crops"}, r'^augment takes "none" or "flips" or "standard"; got \'crops\'$'),
        ({"task": "classify"}, r'^task must be "detect"; got \'classify\'$'),
    ],
)
def test_what_cannot_be_is_a_sentence(settings: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        DetectConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"costs": {"class": 1.0}}, r'^costs has no "class"; it takes classes, boxes, giou$'),
        (
            {"weights": {"giou": 1.0}},
            r'^weights has no "giou"; it takes loss_ce, loss_bbox, loss_giou, loss_mask, loss_d',
        ),
    ],
)
def test_costs_and_weights_have_names(settings: dict[str, Any], told: str):
    with pytest.raises(LookupError, match=told):
        DetectConfig(**settings)


def test_the_command_of_a_run_makes_it_again():
    config = DetectConfig(
        data="rac coons",
        network="detr_tiny",
        mechanism="se",
        options={"reduction": 4},
        start="identity",
        masks=True,
        frozen=False,
        clip=None,
        costs={"giou": 3.0},
        weights={"loss_dice": 0.5},
        network_options={"encoder_layers": 1},
        num_queries=13,
        backbone_learning_rate=0.0,
    )
    words = shlex.split(command_for(config, Path("out")))
    assert words[:5] == ["foveate", "train", "detect", "--data", "rac coons"]
    assert words[-2:] == ["--out", "out"]
    settings = [word for flag, word in pairwise(words) if flag == "--set"]
    given = dict(parse_setting(text, DetectConfig) for text in settings)
    assert config_for("rac coons", task="detect", **given) == config


def test_the_embedded_pictures_have_settings_of_their_own():
    config = config_for("demo", task="detect")
    assert dataclasses.asdict(config) | DEMO_SETTINGS == dataclasses.asdict(config)
    assert config.network == "detr_tiny"
    assert config.augment == "none"
    assert config_for("demo", task="detect", max_time_s=7.0).epochs is None
    assert config_for("raccoons", task="detect") == DetectConfig(data="raccoons")
    assert "demo" in command_for(config, Path("out"))
    assert "--set" not in command_for(config, Path("out"))


def test_a_configuration_is_read_back_from_its_file(tmp_path: Path):
    config = DetectConfig(data="raccoons", costs={"boxes": 2.0}, pretrained=True)
    (tmp_path / "config.json").write_text(config.to_json())
    assert DetectConfig.from_file(tmp_path / "config.json") == config
