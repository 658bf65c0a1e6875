import pytest

from foveate.errors import RunError
from foveate.tasks.config import RunConfig, command_for, kind_of_config, parse_setting, read_config
from foveate.tasks.segment.config import SegmentConfig


def test_a_run_folder_says_which_task_it_is(tmp_path):
    for number, config in enumerate((SegmentConfig(data="scans", patch_size=[32, 32, 16]), RunConfig(data="photos"))):
        path = tmp_path / f"{number}.json"
        path.write_text(config.to_json())
        assert read_config(path) == config
    path.write_text('{"task": "sort"}')
    with pytest.raises(RunError, match=r'1\.json is not a run\S+ configuration: no task "sort"; there are classify'):
        read_config(path)


def test_a_configuration_of_another_task_is_refused():
    with pytest.raises(ValueError, match=r"^task must be \"segment\"; got 'classify'$"):
        SegmentConfig(data="scans", task="classify")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("patch_size=[32, 32, 16]", "patch_size", [32, 32, 16]),
        ("spacing=[1.5, 1.5, 3]", "spacing", [1.5, 1.5, 3]),
        ("window=[-160, 240]", "window", [-160, 240]),
        ("window=liver", "window", "liver"),
        ("flips=true", "flips", True),
        ("fold=none", "fold", None),
    ],
)
def test_settings_are_read_as_their_fields_take_them(text, name, value):
    assert parse_setting(text, kind_of_config("segment")) == (name, value)


def test_a_list_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"^patch_size takes a list such as \[2, 1, 1\] or none; got '\[1.5, 2\]'$"):
        parse_setting("patch_size=[1.5, 2]", SegmentConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": ""}, "^a segmentation needs data"),
        ({"patch_size": [16, 0, 16]}, r"^patch_size must be positive along each axis; got \[16, 0, 16\]$"),
        ({"window": [3.0]}, r"^window takes its low and its high end, such as \[-160, 240\]; got \[3.0\]$"),
        ({"foreground": 1.5}, "^foreground must be from 0 to 1; got 1.5$"),
        ({"overlap": 1.0}, "^overlap must be from 0 to below 1; got 1.0$"),
        ({"validate_every": 0}, "^validate_every must be 1 or more; got 0$"),
        ({"cache_mib": -1}, "^cache_mib must be 0 or more; got -1$"),
        ({"loss": "soft_dice", "batch_dice": True}, '^batch_dice belongs to the loss "dice_ce"; loss is "soft_dice"$'),
        ({"augment": "none", "flip_axes": [0]}, r'^flip_axes \[0\] need augmentation; augment is "none"$'),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentConfig(**{"data": "scans", **settings})


def test_the_command_makes_the_configuration_again(tmp_path):
    config = SegmentConfig(data="scans", patch_size=[32, 32, 16], batch_size=4, max_time_s=60.0)
    words = command_for(config, tmp_path)
    assert words.startswith("foveate train segment --data scans ")
    assert "'patch_size=[32, 32, 16]'" in words
