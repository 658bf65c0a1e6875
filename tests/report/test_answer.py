"""The sentence at the head of a report: honest, whatever the study found."""

import dataclasses
import json
from pathlib import Path

import pytest

from foveate.cli.compare import print_result
from foveate.compare.result import ArmResult, summarise
from foveate.compare.statistics import BETTER, UNSHOWN, WORSE
from foveate.report.answer import answer
from foveate.report.html import write_report
from foveate.report.read import read_study


def arm(
    name: str,
    difference: float | None = None,
    reach: float | None = 0.01,
    verdict: str = UNSHOWN,
    p: float | None = 0.5,
    seeds: int = 3,
) -> ArmResult:
    low, high = (None, None) if difference is None or reach is None else (difference - reach, difference + reach)
    return ArmResult(
        name,
        tuple(range(seeds)),
        (0.8,) * seeds,
        mean=0.8,
        low=0.79,
        high=0.81,
        pairs=seeds,
        difference=difference,
        diff_low=low,
        diff_high=high,
        p_corrected=p,
        verdict=verdict,
        seed_differences=() if difference is None else (difference,) * seeds,
        detectable=None if low is None or reach is None else 1.3 * reach,
    )


def said(study: Path, *arms: ArmResult) -> tuple[str, dict[str, str]]:
    result = dataclasses.replace(summarise(study), arms=arms)
    told = answer(read_study(study), result)
    return told.sentence, dict(told.findings)


def test_no_winner_is_named_where_no_difference_is_shown(study: Path) -> None:
    sentence, findings = said(study, arm("none"), arm("se", 0.02, 0.03), arm("eca", -0.01, 0.02), arm("placebo", 0.0))
    assert sentence == "No mechanism shows a difference to none at 3 seeds."
    assert findings["Controls"] == "placebo shows no difference either."


def test_what_no_arm_can_do_is_ruled_out(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", -0.002, 0.01), arm("eca", -0.01, 0.012))
    told = "no arm can help by more than +0.8 points; no arm can cost more than 2.2 points"
    assert findings["What is ruled out"] == f"{told} (95 % for all of these together)."


def test_what_an_arm_costs_or_gains_at_least_is_told(study: Path) -> None:
    arms = arm("none"), arm("se", -0.033, 0.01, WORSE), arm("cbam", 0.02, 0.01, BETTER)
    told = said(study, *arms)[1]["What is ruled out"]
    assert told.startswith(
        "se costs at least 2.3 points here; cbam gains at least 1.0 points here; no arm can help by more"
    )
    only = said(study, arm("none"), arm("se", -0.033, 0.01, WORSE))[1]["What is ruled out"]
    assert "can help" not in only


def test_an_arm_that_equals_the_baseline_rules_nothing_out(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.0, 0.0))
    assert "What is ruled out" not in findings


def test_the_smallest_difference_that_the_study_could_see_is_told(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.0, 0.01), arm("eca", 0.0, 0.03))
    assert findings["What it could see"].startswith(
        "a true difference of 2.6 points is shown by four in five such studies (median over the arms)"
    )


def test_two_seeds_are_said_to_see_little(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.0, seeds=2), arm("eca", 0.0))
    assert findings["Two seeds"].startswith(
        "with two seeds in common with none the intervals of se are widened once more"
    )
    assert "Two seeds" not in said(study, arm("none"), arm("se", 0.0))[1]


def test_equal_differences_cannot_be_told_from_chance(study: Path) -> None:
    sentence, _ = said(study, arm("none"), arm("se", 0.02, None, p=None))
    assert sentence.startswith(
        "Equal differences in every seed, without any spread: a difference between two arms cannot"
    )


def test_curves_that_were_still_rising_are_told_first(study: Path) -> None:
    for run in (study / "runs").glob("*/seed*/metrics.csv"):
        rows = [f"{epoch},{epoch},{0.5 + 0.05 * epoch + 0.001 * len(run.parts[-3])}" for epoch in range(1, 7)]
        run.write_text("\n".join(["epoch,step,val_accuracy", *rows]))
    result = dataclasses.replace(summarise(study), arms=(arm("none"), arm("se", 0.0)))
    told = answer(read_study(study), result).warning
    assert told.startswith(
        "Training ended too early: validation accuracy rose by 5.0 points from the third to the last"
    )
    assert "speed of learning, not quality" in told
    page = write_report(study).read_text(encoding="utf-8")
    assert page.index("Training ended too early") < page.index('<p class="answer">')


def test_curves_that_had_settled_are_not_told(study: Path) -> None:
    assert answer(read_study(study), summarise(study)).warning == ""


def test_a_shown_difference_is_told_with_its_interval(study: Path) -> None:
    sentence, findings = said(
        study, arm("none"), arm("se", 0.001), arm("cbam", 0.021, 0.017, BETTER), arm("wider", 0.001)
    )
    assert (
        sentence == "cbam: +2.1 points [+0.4, +3.8] over none, at 3 seeds. The one other mechanism shows no difference."
    )
    assert findings["Controls"] == "wider shows no difference."


def test_worse_is_told_as_well_as_better(study: Path) -> None:
    sentence, _ = said(study, arm("none"), arm("se", 0.02, 0.01, BETTER), arm("bam", -0.03, 0.01, WORSE))
    assert sentence.startswith("se: +2.0 points [+1.0, +3.0] over none; bam: \N{MINUS SIGN}3.0 points")
    assert sentence.endswith("below none, at 3 seeds.")


def test_a_control_that_gains_is_told(study: Path) -> None:
    _, findings = said(study, arm("none"), arm("se", 0.02, 0.01, BETTER), arm("wider", 0.02, 0.01, BETTER))
    assert "without any attention" in findings["Controls"]


@pytest.mark.parametrize(
    ("arms", "sentence"),
    [
        (
            (arm("none"), arm("se", 0.02, None, p=None, seeds=1)),
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


def test_a_terminal_shows_the_answer_too(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(summarise(study))
    shown = " ".join(capsys.readouterr().out.split())
    told = answer(read_study(study), summarise(study))
    assert told.sentence in shown.replace("\N{NO-BREAK SPACE}", " ")
    assert f"What is ruled out: {dict(told.findings)['What is ruled out']}" in shown
    assert "Controls:" not in shown
