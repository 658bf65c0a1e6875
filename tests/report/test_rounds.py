"""What the report says of seeds that were added in rounds."""

import dataclasses
from pathlib import Path

from foveate.compare.result import StudyResult, summarise
from foveate.compare.sequential import Round
from foveate.report.rounds import rounds_finding, rounds_table


def rounds_of(study: Path, ended: str = "", arms: int = 4) -> StudyResult:
    """A result with two looks: one settles se and placebo, the next eca."""
    result = summarise(study)
    names = ("se", "placebo", "eca", "cbam")[:arms]
    runs = {"none": (0, 1, 2), **dict.fromkeys(names, (0, 1, 2))}
    first = Round(3, 0.008, 0.01, names, runs, {"se": "better", "placebo": "precise"}, 15, 15)
    second = dataclasses.replace(
        first, seeds=4, arms=names[2:], settled={"eca": "out of reach"}, trainings=18, fixed=20
    )
    arm = result.arms[0]
    known = tuple(dataclasses.replace(arm, arm=name) for name in ("none", *names))
    return dataclasses.replace(result, arms=known, rounds=(first, second), most=10, ended=ended)


def test_a_study_of_fixed_seeds_has_no_rounds(study: Path) -> None:
    assert rounds_table(summarise(study)) is None
    assert rounds_finding(summarise(study)) is None


def test_each_look_has_a_row(study: Path) -> None:
    table = rounds_table(rounds_of(study))
    assert table is not None
    rows = [[cell.text for cell in row.cells] for row in table.groups[0].rows]
    assert rows == [
        ["3", "se: better, placebo: precise", "eca, cbam", "0.80", "15", "15"],
        ["4", "eca: out of reach", "cbam", "0.80", "18", "20"],
    ]


def test_the_finding_says_what_was_settled_what_was_not_and_what_it_took(study: Path) -> None:
    told = rounds_finding(rounds_of(study, "seeds"))
    assert told == (
        "Rounds",
        "se: better; placebo: known within 1 point to each side; eca: not to be shown or known within 1 point to each "
        "side by 10 seeds; cbam: not settled by 10 seeds. 18 trainings; 10 seeds of every arm take 50.",
    )


def test_time_that_was_over_is_said(study: Path) -> None:
    told = rounds_finding(rounds_of(study, "time"))
    assert told is not None
    assert "cbam: not settled when the total time was over, at 4 seeds" in told[1]


def test_a_study_that_goes_on_is_not_said_to_have_ended(study: Path) -> None:
    told = rounds_finding(rounds_of(study))
    assert told is not None
    assert "cbam: not settled at 4 seeds, and the study is not finished" in told[1]
    silent = dataclasses.replace(rounds_of(study), rounds=())
    assert rounds_finding(silent) == ("Rounds", "no round is complete yet, so nothing is settled.")
