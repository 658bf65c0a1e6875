"""What a run that detects in volumes may be, and that the command line means it."""

import shlex

import pytest
import typer.main

from foveate.cli.app import app
from foveate.cli.options import Task, parse_settings, task_of
from foveate.tasks.config import command_for, config_for, task_for
from foveate.tasks.lesions.config import LesionConfig


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"bag": 0}, r"^bag must be 1 or more; got 0$"),
        ({"folds": 0}, r"^folds must be 1 or more; got 0$"),
        ({"image_size": 0}, r"^image_size must be 1 or more; got 0$"),
        ({"bag_stride": 0}, r"^bag_stride must be 1 or more; got 0$"),
        ({"pixel_mm": -1.0}, r"^pixel_mm must be greater than 0; got -1.0$"),
        ({"bag_mm": 0.0}, r"^bag_mm must be greater than 0; got 0.0$"),
        ({"clip": 0.0}, r"^clip must be greater than 0; got 0.0$"),
        ({"window": [1.0]}, r"^window takes its low and its high end, such as \[-160, 240\]; got \[1.0\]$"),
        ({"cache_mib": -1}, r"^empty and cache_mib must be 0 or more; got 1.0 and -1$"),
        ({"validate_every": 0}, r"^validate_every must be 1 or more; got 0$"),
        ({"slice_mm": 0.0}, r"^slice_mm must be greater than 0; got 0.0$"),
        ({"bag_stride": 2, "bag_mm": 5.0}, r"^bag_stride and bag_mm both say how far apart .*; got 2 and 5.0$"),
        ({"window": [5.0, 1.0]}, r"^window takes its low and its high end, such as \[-160, 240\]; got \[5.0, 1.0\]$"),
        ({"window": [float("nan"), 1.0]}, r"^window takes its low and its high end, .*; got \[nan, 1.0\]$"),
        ({"window": [0.0, float("inf")]}, r"^window takes its low and its high end, .*; got \[0.0, inf\]$"),
        ({"anchor_sizes": [8, 16, 0, 32, 64]}, r"^anchor_sizes are 1 or more; got \[8, 16, 0, 32, 64\]$"),
        ({"empty": -1.0}, r"^empty and cache_mib must be 0 or more; got -1.0 and 4096$"),
        ({"score": 1.5}, r"^score must be from 0 to 1; got 1.5$"),
        ({"pretrained": True, "init": "x"}, r"^pretrained and init both say where the weights come from"),
        ({"norm": "frozen"}, r'^norm "frozen" holds what loaded weights have measured; give init or pretrained$'),
        ({"plane": "oblique"}, r'^plane takes "axial" or "coronal" or "sagittal"; got \'oblique\'$'),
        ({"labels": "both"}, r'^labels takes "classes" or "instances"; got \'both\'$'),
    ],
)
def test_what_makes_no_sense_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        LesionConfig(data="x", **settings)


def test_the_embedded_volumes_have_settings_of_their_own():
    assert config_for("lesions", task="lesions").network == "mask_rcnn_tiny"
    assert config_for("x", task="lesions").network == "mask_rcnn_resnet50"
    inside = config_for("lesions", task="lesions", bag_mm=6.0)  # instead of the stride that suits them
    assert isinstance(inside, LesionConfig)
    assert (inside.bag_mm, inside.bag_stride) == (6.0, None)
    with pytest.raises(ValueError, match=r"^bag_stride and bag_mm both say"):
        config_for("lesions", task="lesions", bag_mm=6.0, bag_stride=2)


def test_to_detect_is_meant_in_volumes_where_the_network_or_the_data_are_of_them(lesions, tmp_path):
    assert task_for("detect", "demo", None) == "detect"
    assert task_for("detect", "lesions", None) == "lesions"
    assert task_for("detect", str(lesions), None) == "lesions"
    assert task_for("detect", str(tmp_path), None) == "detect"
    assert task_for("detect", str(tmp_path), "va_mask_rcnn_resnet50") == "lesions"
    assert task_for("detect", str(lesions), "detr_tiny") == "detect"
    assert task_for("segment", "lesions", None) == "segment"
    assert task_of(Task.detect, "x", None, ["batch_size=2", "network=mask_rcnn_tiny"]) == "lesions"


FEW = {"options": {"scale": "sqrt"}, "bag_mm": 5.0}
ALL = {
    "labels": "instances",
    "channel": "T1",
    "plane": "coronal",
    "fold": 1,
    "window": [-160.0, 240.5],
    "slice_mm": 2.5,
    "bag": 7,
    "bag_stride": 3,
    "include_target": False,
    "anchor_sizes": [4, 8, 16, 32, 64],
    "norm": "group",
    "clip": None,
    "augment": "flips",
    "empty": 0.0,
    "network_options": {"detector": {"rpn_nms_thresh": 0.6}},
}


@pytest.mark.parametrize("data", ["lesions", "some scans"])
@pytest.mark.parametrize("settings", [FEW, ALL, {"window": "liver", "bag_stride": 4}])
def test_the_command_of_a_run_makes_it_again(tmp_path, data, settings):
    config = LesionConfig(data=data, network="mask_rcnn_tiny", mechanism="volumetric", **settings)
    words = shlex.split(command_for(config, tmp_path / "run"))
    assert words[:3] == ["foveate", "train", "detect"]
    train = typer.main.get_command(app).commands["train"]  # pyright: ignore[reportAttributeAccessIssue]
    given = train.make_context("train", words[2:]).params
    assert task_of(Task(given["task"]), given["data"], given["network"], given["settings"]) == "lesions"
    values = parse_settings(given["settings"], "lesions")
    assert config_for(given["data"], task="lesions", network=given["network"], **values) == config
