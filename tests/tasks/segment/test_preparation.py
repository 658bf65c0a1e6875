"""What was chosen from the data, as it is said before training begins."""

import pytest

from foveate.cli.progress import run_progress
from foveate.data.intensity import Intensity
from foveate.data.overview import of_volumes
from foveate.data.volumes import Case, Volumes
from foveate.tasks.segment.preparation import Preparation, describe
from foveate.tasks.summary import Progress


def test_every_rule_is_said_in_words():
    splits = {"train": [Case("a", ()), Case("b", ())], "val": [Case("c", ())], "test": []}
    classes, rules = ["background", "cell"], [Intensity("foreground", -80, 240, 101.5, 39), Intensity("window", 0, 255)]
    held = Volumes("here", 2, ["CT", "grey"], classes, {0: 0, 1: 1}, splits, "by hand")
    prepared = Preparation(classes, [0, 1], held.modalities, 2, None, rules, (32, 48))
    assert of_volumes(held).lines()[0] == "read here: 2 train, 1 val, 0 test cases of 2 classes (by hand)"
    assert describe(prepared) == (
        "patches of 32 x 48",
        "CT: clipped to -80 to 240, less 101.5, divided by 39",
        "grey: 0 to 255 becomes 0 to 1",
    )


def test_notes_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]):
    state = Progress(
        arm="none", seed=0, stage="prepare", epoch=0.0, epochs=1, fraction=0.0, seconds_left=None, notes=("one", "two")
    )
    with run_progress() as show:
        show(state)
    assert capsys.readouterr().err.startswith("one\ntwo\n")
