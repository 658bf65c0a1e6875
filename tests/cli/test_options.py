"""The texts of options become values, or a sentence."""

import pytest

from foveate.cli.compare import parse_seeds
from foveate.cli.options import check_budget, given, parse_settings, parse_time
from foveate.cli.profile import parse_shape
from foveate.compare.sequential import Rule


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("45", 45)])
def test_a_time_is_read_in_seconds(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "10 m", "5x", "-3m", "m"])
def test_a_time_that_cannot_be_read_is_named(text):
    with pytest.raises(ValueError, match="a time is written like 90s, 10m or 1h30m"):
        parse_time(text)


def test_no_time_at_all_is_refused():
    with pytest.raises(ValueError, match="a time must be more than zero; got '0m'"):
        parse_time("0m")


def test_a_run_has_one_budget():
    assert check_budget(3, None) is None
    assert check_budget(None, "2m") == 120
    with pytest.raises(ValueError, match="a run ends by --epochs or by --max-time, not both; got 3 and 2m"):
        check_budget(3, "2m")


def test_a_setting_is_read_as_the_kind_that_it_takes():
    texts = ["batch_size=32", "class_weights=true", "augment=digits", "image_size=null", "where=layer3.*"]
    assert parse_settings(texts) == {
        "batch_size": 32,
        "class_weights": True,
        "augment": "digits",
        "image_size": None,
        "where": "layer3.*",
    }


def test_a_setting_without_a_value_is_named():
    with pytest.raises(ValueError, match="a setting is key=value; got 'batch_size'"):
        parse_settings(["batch_size"])


def test_a_setting_that_is_not_there_is_named():
    with pytest.raises(LookupError, match='a run has no setting "batchsize"; did you mean "batch_size"'):
        parse_settings(["batchsize=3"])


def test_a_setting_named_twice_is_refused():
    with pytest.raises(ValueError, match="--set names seed twice: 1 and 2"):
        parse_settings(["seed=1", "seed=2"])
    with pytest.raises(ValueError, match="seed is given twice: 3 by its option and 1 by --set"):
        given(["seed=1"], seed=3)


def test_options_that_were_not_given_leave_the_defaults():
    assert given(["seed=1"], epochs=None, device="cpu") == {"seed": 1, "device": "cpu"}


def test_an_input_shape_is_read_and_a_wrong_one_named():
    assert parse_shape("3x224x160") == (3, 224, 160)
    assert parse_shape("1x32x48x32") == (1, 32, 48, 32)
    with pytest.raises(ValueError, match="an input shape is written like 3x224x224 or 1x64x64x32; got '3'"):
        parse_shape("3")


@pytest.mark.parametrize(
    ("text", "found"),
    [("4", (4, None)), ("auto", (10, Rule(10))), ("auto:6", (6, Rule(6)))],
    ids=["4", "auto", "auto:6"],
)
def test_seeds_are_a_number_or_a_rule(text, found):
    assert parse_seeds(text, None, None) == found


def test_the_limits_of_rounds_are_read():
    assert parse_seeds("auto:6", 0.02, "2h") == (6, Rule(6, 0.02, 7200.0))


@pytest.mark.parametrize("text", ["0", "-1", "three", "auto:", "auto:x", "auto6", "1.5", ""])
def test_seeds_that_cannot_be_read_are_named(text):
    with pytest.raises(ValueError, match=f"--seeds takes a number, 1 or more, auto, or auto:MAX; got {text}$"):
        parse_seeds(text, None, None)


def test_rounds_that_leave_no_room_for_a_look_are_refused():
    with pytest.raises(ValueError, match="seeds that are added in rounds are 3 or more; got 2"):
        parse_seeds("auto:2", None, None)


@pytest.mark.parametrize(
    ("precision", "time", "told"),
    [
        (0.01, None, "--precision-of is for --seeds auto; got 0.01"),
        (None, "2h", "--total-time is for --seeds auto; got 2h"),
    ],
)
def test_limits_of_rounds_are_refused_without_rounds(precision, time, told):
    with pytest.raises(ValueError, match=f"{told} with --seeds 3"):
        parse_seeds("3", precision, time)
