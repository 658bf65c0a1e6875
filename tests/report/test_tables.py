"""The table of results."""

import dataclasses
import json
from pathlib import Path

import pytest

from foveate.compare.result import summarise
from foveate.report import study_table
from foveate.report.tables import Cell, Table, clipped, counted, measures_table, percent, points, signed


def row(table: Table, arm: str) -> dict[str, Cell]:
    cells = next(row.cells for group in table.groups for row in group.rows if row.arm == arm)
    return dict(zip((column.title for column in table.columns), cells, strict=True))


def test_a_row_says_quality_difference_cost_and_place(study: Path) -> None:
    told = row(study_table(study), "cbam")
    assert told["Sites"].text == "4"
    assert told["Accuracy"].sub.startswith("[")
    assert told["Difference to none"].interval is not None
    assert told["Verdict"].text in ("better", "worse", "no difference shown")
    assert (told["Parameters"].text, told["Parameters"].sub) == ("180,530", "+2.1\N{NO-BREAK SPACE}%")
    assert (told["MACs"].text, told["MACs"].sub) == ("21.9 M", "+2.6\N{NO-BREAK SPACE}%")
    assert (told["Latency"].text, told["Latency"].sub) == ("5.00", "p95\N{NO-BREAK SPACE}6.00")
    assert (told["Pointing"].text, told["Pointing"].sub) == ("74", "mechanism\N{NO-BREAK SPACE}67")


def test_the_baseline_has_no_difference_and_controls_stand_apart(study: Path) -> None:
    table = study_table(study)
    assert [row.arm for row in table.groups[1].rows] == ["placebo", "wider"]
    assert "shows what size alone does" in table.groups[1].note
    told = row(table, "none")
    assert told["Difference to none"].interval is None
    assert told["Verdict"].text == "\N{EN DASH}"


def test_dead_gates_missing_runs_and_absent_mechanisms_are_flagged(study: Path) -> None:
    table = study_table(study)
    assert row(table, "bam")["Arm"].sub == "3 of 12 gates dead"
    assert row(table, "placebo")["Arm"].sub == ""  # a gate held at one is what it is for
    assert row(table, "nonlocal")["Arm"].sub == "1 of 3 runs not finished"
    for seed in range(3):
        path = study / "runs" / "se" / f"seed{seed}" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sites": []}))
    told = row(study_table(study), "se")
    assert told["Verdict"].text == "\N{EN DASH}"
    assert told["Accuracy"].text == "\N{EN DASH}"  # a run without its mechanism says nothing about it
    assert told["Arm"].sub == "3 of 3 runs not finished"


def test_one_seed_gives_no_verdict(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | {"seeds": [1]}))
    told = row(study_table(study), "se")
    assert told["Difference to none"].sub == "one seed: no interval"
    assert told["Verdict"].text == "cannot be told"


def test_a_time_budget_adds_a_column_of_epochs(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | {"budget": {"max_time_s": 60.0}}))
    assert row(study_table(study), "se")["Epochs"].text == "6"


def test_costs_fall_back_on_the_runs(study: Path) -> None:
    (study / "costs.json").unlink()
    told = row(study_table(study), "cbam")
    assert told["Parameters"].text == "180,530"
    assert told["Latency"].text == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (176_890, "176,890"),
        (21.4e6, "21.4 M"),
        (4.1e9, "4.10 G"),
        (1.23e12, "1,230 G"),
        (0, "0"),
    ],
)
def test_counts_are_short(value: float | None, text: str) -> None:
    assert counted(value) == text


def test_numbers_carry_true_signs() -> None:
    assert (signed(2.14), signed(-2.14), signed(-0.04)) == ("+2.1", "\N{MINUS SIGN}2.1", "0.0")
    assert (points(0.8421), percent(0.149)) == ("84.2", "15\N{NO-BREAK SPACE}%")


def metric_cell(study: Path, name: str, **fields: float | str) -> Cell:
    result = summarise(study)
    arms = (dataclasses.replace(result.arms[0], **fields),)  # pyright: ignore[reportArgumentType]
    table = measures_table(dataclasses.replace(result, arms=arms, metrics={name: arms}), {})
    return table.groups[0].rows[0].cells[1]


def test_other_measures_have_no_verdicts(study: Path) -> None:
    cell = metric_cell(study, "auroc", mean=0.9, low=0.85, high=0.95, verdict="better")
    assert (cell.text, cell.sub, cell.mark) == ("0.900", "[0.850,\N{NO-BREAK SPACE}0.950]", "")


def test_intervals_of_shares_stay_within_them(study: Path) -> None:
    assert metric_cell(study, "auroc", mean=0.99, low=-0.1, high=1.2).sub == "[0.000,\N{NO-BREAK SPACE}1.000]"
    assert metric_cell(study, "loss", mean=0.9, low=0.1, high=1.2).sub == "[0.100,\N{NO-BREAK SPACE}1.200]"
    assert clipped(None, 1.2) == (None, None)
    for seed, accuracy in enumerate((0.94, 0.99, 1.0)):
        path = study / "runs" / "se" / f"seed{seed}" / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"]["accuracy"] = accuracy
        path.write_text(json.dumps(summary))
    assert row(study_table(study), "se")["Accuracy"].sub.endswith("\N{NO-BREAK SPACE}100.0]")
