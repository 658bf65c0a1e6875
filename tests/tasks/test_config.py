import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import RunError
from foveate.tasks.config import DEMO_SETTINGS, RunConfig, command_for, config_for, parse_setting


def test_a_configuration_survives_its_file(tmp_path: Path):
    config = RunConfig(
        data="photos", mechanism="se", options={"reduction": 8}, max_time_s=90, seed=3, host_learning_rate=1e-4
    )
    (tmp_path / "config.json").write_text(config.to_json())
    assert RunConfig.from_file(tmp_path / "config.json") == config


def test_a_run_without_a_budget_has_thirty_epochs():
    assert RunConfig().epochs == 30
    assert RunConfig(max_time_s=60).epochs is None


def test_the_mechanism_starts_as_the_identity_in_a_trained_host():
    assert not RunConfig().identity
    assert RunConfig(pretrained=True).identity
    assert RunConfig(init="net.pth").identity
    assert not RunConfig(init="net.pth", start="published").identity
    assert RunConfig(start="identity").identity


def test_an_arm_is_called_by_its_mechanism_unless_named():
    assert RunConfig(mechanism="se").arm_name == "se"
    assert RunConfig(arm="wider").arm_name == "wider"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"task": "segment"}, "task must be \"classify\"; got 'segment'"),
        ({"epochs": 0}, "epochs must be 1 or more; got 0"),
        ({"epochs": 2.5}, "epochs takes a whole number or none; got 2.5"),
        ({"epochs": True}, "epochs takes a whole number or none; got True"),
        ({"max_time_s": 0}, "max_time_s must be greater than 0; got 0"),
        ({"max_time_s": float("nan")}, "max_time_s must be finite; got nan"),
        ({"learning_rate": -1.0}, r"learning_rate must be greater than 0; got -1\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must be 0 or more; got -1\.0"),
        ({"seed": -1}, "seed must be 0 or more; got -1"),
        ({"seed": 2**32}, r"seed must be below 2\*\*32; got 4294967296"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be from 0 to below 1; got 1\.0"),
        ({"batch_size": 9, "devices": 2}, "batch_size 9 must be a multiple of devices 2"),
        ({"optimizer": "adam"}, 'optimizer takes "adamw" or "sgd"; got \'adam\''),
        ({"pretrained": "yes"}, "pretrained takes true or false; got 'yes'"),
        ({"options": [1]}, r"options takes an object of names and values; got \[1\]"),
        ({"data": 5}, "data takes text; got 5"),
        ({"learning_rate": "fast"}, "learning_rate takes a number; got 'fast'"),
        ({"pretrained": True, "init": "a.pth"}, "pretrained and init both say where the weights come from"),
        ({"train_only": "inserted", "host_learning_rate": 1e-4}, "host_learning_rate has nothing to teach"),
        ({"options": {"reduction": 8}}, r"options \{'reduction': 8\} need a mechanism; mechanism is none"),
        ({"where": "layer3.*"}, r"where 'layer3\.\*' needs a mechanism; mechanism is none"),
        ({"precision": "16", "device": "cpu"}, 'precision "16" needs a GPU; use "bf16" or "32" on the CPU'),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(settings: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        RunConfig(**settings)


def test_an_unknown_setting_is_guessed_at():
    with pytest.raises(LookupError, match='a run has no setting "epoch"; did you mean "epochs"'):
        RunConfig.from_dict({"epoch": 3})
    with pytest.raises(LookupError, match='a run has no setting "zzz"; it takes task, data, network'):
        RunConfig.from_dict({"zzz": 3})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "config.json cannot be read as a run's configuration: Expecting property name"),
        ("[1]", "config.json must hold one JSON object; got list"),
        ('{"epoch": 3}', 'config.json is not a run\'s configuration: a run has no setting "epoch"; did you mean'),
        ('{"epochs": 0}', "config.json is not a run's configuration: epochs must be 1 or more; got 0"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match=sentence):
        RunConfig.from_file(tmp_path / "config.json")


def test_the_demo_has_settings_that_suit_it_and_what_is_given_wins():
    assert dataclasses.asdict(config_for("demo")).items() >= DEMO_SETTINGS.items()
    assert config_for("demo", epochs=3).epochs == 3
    assert config_for("demo", max_time_s=60).epochs is None
    assert config_for("photos").network == "resnet18"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("max-time-s=1.5", "max_time_s", 1.5),
        ("learning_rate=3e-3", "learning_rate", 3e-3),
        ("epochs=none", "epochs", None),
        ("mechanism=none", "mechanism", "none"),
        ("precision=16", "precision", "16"),
        ("class_weights=True", "class_weights", True),
        ("data=a=b", "data", "a=b"),
        ('options={"reduction": 8}', "options", {"reduction": 8}),
    ],
)
def test_a_setting_is_read_as_its_kind(text: str, name: str, value: object):
    assert parse_setting(text) == (name, value)


def test_a_wrong_text_of_a_setting_is_told():
    with pytest.raises(ValueError, match="a setting is key=value; got 'epochs'"):
        parse_setting("epochs")
    with pytest.raises(ValueError, match="epochs takes a whole number or none; got 'many'"):
        parse_setting("epochs=many")
    with pytest.raises(LookupError, match="did you mean"):
        parse_setting("epoch=3")


@pytest.mark.parametrize(
    "config",
    [
        config_for("demo"),
        config_for("demo", max_time_s=60.0, mechanism="se", options={"reduction": 8}),
        config_for("my photos", network="timm/resnet50", pretrained=True, seed=4, image_size=64),
    ],
)
def test_the_command_makes_the_same_run(config: RunConfig):
    words = shlex.split(command_for(config, Path("run")))
    data = words[words.index("--data") + 1]
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert config_for(data, **dict(map(parse_setting, settings))) == config
    assert words[:3] == ["foveate", "train", "classify"]
    assert words[-2:] == ["--out", "run"]
