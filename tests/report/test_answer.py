"""The sentence at the head of a report: honest, whatever the study found."""

import dataclasses
import json
from pathlib import Path

import pytest

from foveate.compare.result import ArmResult, summarise
from foveate.compare.statistics import BETTER, UNSHOWN, WORSE
from foveate.report.answer import answer
from foveate.report.read import read_study


def arm(
    name: str,
    difference: float | None = None,
    reach: float | None = 0.01,
    verdict: str = UNSHOWN,
    p: float | None = 0.5,
) -> ArmResult:
    low, high = (None, None) if difference is None or reach is None else (difference - reach, difference + reach)
    return ArmResult(name, (0, 1, 2), (0.8, 0.8, 0.8), 0.8, 0.79, 0.81, 3, difference, low, high, p, p, verdict)


def said(study: Path, *arms: ArmResult) -> tuple[str, dict[str, str]]:
    result = dataclasses.replace(summarise(study), arms=arms)
    told = answer(read_study(study), result)
    return told.sentence, dict(told.findings)


def test_no_winner_is_named_where_no_difference_is_shown(study: Path) -> None:
    sentence, findings = said(study, arm("none"), arm("se", 0.02, 0.03), arm("eca", -0.01, 0.02), arm("placebo", 0.0))
    assert sentence == "No mechanism shows a difference to none at 3 seeds."
    assert "2.5 points in the median" in findings["What it could see"]
    assert findings["Controls"] == "placebo shows no difference either."


def test_a_shown_difference_is_told_with_its_interval(study: Path) -> None:
    sentence, findings = said(
        study, arm("none"), arm("se", 0.001), arm("cbam", 0.021, 0.017, BETTER), arm("wider", 0.001)
    )
    assert (
        sentence == "cbam: +2.1 points [+0.4, +3.8] over none, at 3 seeds. The one other mechanism shows no difference."
    )
    assert findings["Controls"] == "wider shows no difference."
    assert "Not enough" not in findings


def test_equal_differences_are_told_without_an_interval(study: Path) -> None:
    sentence, _ = said(study, arm("none"), arm("se", 0.02, None, BETTER, 0.03))
    assert sentence == "se: +2.0 points over none, at 3 seeds."


def test_worse_is_told_as_well_as_better(study: Path) -> None:
    sentence, _ = said(study, arm("none"), arm("se", 0.02, 0.01, BETTER), arm("bam", -0.03, 0.01, WORSE))
    assert sentence.startswith("se: +2.0 points [+1.0, +3.0] over none; bam: \N{MINUS SIGN}3.0 points")
    assert sentence.endswith("below none, at 3 seeds.")


def test_a_control_that_gains_is_told(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.02, 0.01, BETTER), arm("wider", 0.02, 0.01, BETTER))
    assert "without any attention" in findings["Controls"]


def test_an_interval_without_zero_that_fails_the_correction_is_not_called_a_difference(study: Path) -> None:
    sentence, findings = said(study, arm("none"), arm("se", 0.02, 0.01, UNSHOWN, 0.12))
    assert sentence.startswith("No mechanism shows a difference")
    assert "se (corrected p 0.12)" in findings["Not enough"]


@pytest.mark.parametrize(
    ("arms", "sentence"),
    [
        (
            (arm("none"), arm("se", 0.02, None, p=None)),
            "Only one seed is finished: a difference between two arms cannot be told from chance.",
        ),
        (
            (ArmResult("none", (), ()), arm("se")),
            "The baseline none has no finished run, so no difference can be told.",
        ),
        ((arm("none"), ArmResult("se", (), ())), "No mechanism has a finished run to compare with none."),
    ],
)
def test_what_cannot_be_told_is_not_told(study: Path, arms: tuple[ArmResult, ...], sentence: str) -> None:
    assert said(study, *arms)[0] == sentence


def test_a_time_budget_says_how_much_of_an_epoch_each_arm_had(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | {"budget": {"max_time_s": 60.0}}))
    _, findings = said(study, arm("none"), arm("se", 0.0))
    assert findings["Equal time, not equal epochs"].startswith("each run had 60 s of training. Epochs seen")
    assert "none 6, se 6" in findings["Equal time, not equal epochs"]


def test_places_and_costs_are_told_from_the_runs(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.0))
    assert "eca-spatial 68\N{NO-BREAK SPACE}%, cbam 67" in findings["Where they look"]
    assert "by chance 15" in findings["Where they look"]
    assert findings["Cost"] == (
        "the latency of one inference against none goes from +10\N{NO-BREAK SPACE}% (eca)"
        " to +61\N{NO-BREAK SPACE}% (cbam)."
    )
