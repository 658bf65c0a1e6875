"""Tables of what was recorded."""

from pathlib import Path

from foveate.report.read import read_study
from foveate.report.records import confusion, health_tables, runs_table


def test_every_run_has_a_row_also_those_that_failed(study: Path) -> None:
    table = runs_table(read_study(study), {"accuracy": "Accuracy"})
    rows = {(row.cells[0].text, row.cells[1].text): row.cells for row in table.groups[0].rows}
    assert len(rows) == 27
    assert rows["nonlocal", "2"][-2].text == "failed"
    assert rows["se", "2"][-2].sub == "resumed 1\N{MULTIPLICATION SIGN}"
    assert rows["se", "2"][-1].link == "runs/se/seed2/"


def test_a_run_that_never_began_says_so(study: Path) -> None:
    (study / "runs" / "se" / "seed0").rename(study / "elsewhere")
    table = runs_table(read_study(study), {})
    assert next(row for row in table.groups[0].rows if row.arm == "se").cells[-2].text == "not begun"


def test_a_link_cannot_lead_elsewhere(study: Path) -> None:
    (study / "runs" / "se").rename(study / "runs" / "a#b?c d")
    (study / "study.json").write_text((study / "study.json").read_text().replace('"arm": "se"', '"arm": "a#b?c d"'))
    table = runs_table(read_study(study), {})
    links = [row.cells[-1].link for row in table.groups[0].rows if row.arm == "a#b?c d"]
    assert links[0] == "runs/a%23b%3Fc%20d/seed0/"


def test_dead_gates_are_flagged_and_arms_without_gates_left_out(study: Path) -> None:
    read = read_study(study)
    told = {
        arm: (sentence, alive, table)
        for arm, sentence, alive, table in health_tables({arm: read.finished(arm) for arm in read.arms})
    }
    assert "none" not in told
    assert told["placebo"][:2] == ("4 maps, held at one, as a control", True)
    assert told["se"][:2] == ("4 maps, all alive", True)
    assert told["nonlocal"][0] == "1 map, alive"
    sentence, alive, table = told["bam"]
    assert (sentence, alive) == ("4 maps, 1 dead", False)
    assert [row.cells[-1].text for row in table.groups[0].rows] == ["0 of 3", "3 of 3", "3 of 3", "3 of 3"]


def test_predictions_are_counted_by_true_and_predicted_class(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("index,name,label,prediction,p_cat,p_dog\n0,a,0,0,.9,.1\n1,b,0,1,.2,.8\n2,c,1,1,.1,.9\n")
    drawn = confusion(path)
    assert drawn is not None
    assert (drawn.classes, drawn.counts) == (("cat", "dog"), ((1, 1), (0, 1)))
    assert drawn.shares == ((50, 50), (0, 100))
    path.write_text("index,name,label,prediction,p_1,p_0\n0,a,1,0,.9,.1\n")  # names that look like numbers
    drawn = confusion(path)
    assert drawn is not None
    assert drawn.counts == ((0, 1), (0, 0))
    assert confusion(tmp_path / "none.csv") is None
