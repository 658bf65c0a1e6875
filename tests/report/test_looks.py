"""What is seen of attention, arm by arm."""

import json
from pathlib import Path

import numpy as np
import pytest

from foveate.report.figures import styles
from foveate.report.looks import Looks, _layers, looks_of_run, looks_of_study
from foveate.report.read import Map, Maps, Run, Sample, read_run, read_study


def looks(study: Path) -> Looks:
    read = read_study(study)
    return looks_of_study({arm: read.finished(arm) for arm in read.arms}, styles(read.arms, "none"))


def test_arms_are_shown_by_what_they_have(study: Path) -> None:
    seen = looks(study)
    assert [column.title for column in seen.own] == ["eca-spatial", "cbam", "bam", "nonlocal"]
    assert seen.without == ("none", "se", "eca", "placebo", "wider")
    assert len(seen.network) == 9
    assert [column.title for column in seen.profiles] == ["se", "eca", "eca-spatial", "cbam", "bam"]
    assert seen.seeds == "seed 0"
    assert seen.problems == ()


def test_layers_have_short_names_and_the_last_comes_last(study: Path) -> None:
    columns = {column.title: column for column in looks(study).own}
    assert [layer.short for layer in columns["cbam"].layers] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert columns["cbam"].layers[-1].tap == "layer4.0.mechanism.spatial_gate"
    assert columns["nonlocal"].layers[0].short == "layer3.0.weights"
    assert columns["nonlocal"].note == "rows of weights"


def test_every_cell_says_in_words_what_it_shows(study: Path) -> None:
    columns = {column.title: column for column in looks(study).own}
    cell = columns["cbam"].layers[-1].cells[2]
    assert cell.alt.startswith("cbam, layer4.0.mechanism.spatial_gate, on test/1/00002.png (one): 0.")
    assert cell.alt.endswith(("; its maximum lies in the true box", "; its maximum lies outside the true box"))
    assert cell.point is None
    assert columns["nonlocal"].layers[0].cells[2].point is not None
    wrong = looks(study).network[0].layers[0].cells[0]
    assert wrong.range.endswith(", taken for three")
    dead = columns["bam"].layers[0].cells[0]
    assert (dead.range, dead.peak) == ("flat at 0.5", None)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.5121, 0.5138, "0.5121 to 0.5138"),
        (0.0, 0.483, "0 to 0.48"),
        (2.4e-29, 1.0, "0 to 1.0"),
        (-0.2, 31.0, "-0.2 to 31.0"),
        (3e-5, 7e-5, "3e-05 to 7e-05"),
    ],
)
def test_a_range_has_as_many_digits_as_tell_its_ends_apart(low: float, high: float, text: str) -> None:
    values = np.array([[[low, high]]], np.float32)
    sample = Sample("a", "b", "b", np.zeros((2, 2, 3), np.uint8), None, (2, 2))
    run = Run(Path(), "arm", 0, {}, {}, [])
    (layer,) = _layers([Map("tap", "spatial", values)], Maps((sample,), (), ()), 64, run)
    assert layer.cells[0].range == text.replace("to", "\N{EN DASH}").replace("-", "\N{MINUS SIGN}")


def test_pointing_is_told_over_the_test_pictures_where_it_was_measured(study: Path) -> None:
    seen = looks(study)
    columns = {column.title: column for column in seen.own}
    assert columns["cbam"].layers[0].hits == "in place: 20\N{NO-BREAK SPACE}% of test"
    assert columns["nonlocal"].layers[0].hits.endswith("of 16")
    assert seen.network[0].layers[0].hits == "in place: 58\N{NO-BREAK SPACE}% of test"


def test_an_arm_that_saw_other_samples_is_left_out_with_a_sentence(study: Path) -> None:
    path = study / "runs" / "cbam" / "seed0" / "maps" / "maps.json"
    index = json.loads(path.read_text())
    index["samples"][0]["name"] = "another.png"
    path.write_text(json.dumps(index))
    seen = looks(study)
    assert "cbam" not in [column.title for column in seen.own]
    assert seen.problems == ("cbam was looked at on other samples than the first arm, so its maps are left out",)


def test_a_run_has_a_column_for_each_tap(study: Path) -> None:
    seen = looks_of_run(read_run(study / "runs" / "cbam" / "seed0"))
    assert [column.title for column in seen.own] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert len(seen.profiles[0].layers) == 4
    assert looks_of_run(read_run(study / "runs" / "cbam" / "seed1")) == Looks()
