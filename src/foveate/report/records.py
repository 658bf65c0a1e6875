"""Tables of what was recorded: every run, the health of every gate, and where the predictions of one run went."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from foveate.escaping import plain_cell
from foveate.report.figures import CONTROLS
from foveate.report.read import Run, Study, dig, mapping, number
from foveate.report.tables import DASH, MINUS, NOTHING, Cell, Column, Group, Row, Table, mean_of

__all__ = ["Confusion", "confusion", "health_tables", "metric_text", "plain_metrics", "runs_table"]

LARGEST_CONFUSION = 30


@dataclass(frozen=True)
class Confusion:
    """How often each true class (row) was taken for each class (column); `shares` are of the row, in percent."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[int, ...], ...]


def confusion(path: Path) -> Confusion | None:
    """The confusion matrix of predictions.csv; None where it cannot be read or has too many classes to be drawn."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            pairs = Counter((_named(row.get("label")), _named(row.get("prediction"))) for row in reader)
            named = [name.removeprefix("p_") for name in reader.fieldnames or () if name.startswith("p_")]
    except (OSError, ValueError, csv.Error):
        return None
    if not named or len(named) > LARGEST_CONFUSION:
        return None
    written = {key for pair in pairs for key in pair}
    keys = named if written <= set(named) else [str(i) for i in range(len(named))]  # classes by name, or by number
    counts = tuple(tuple(pairs[label, guess] for guess in keys) for label in keys)
    shares = tuple(tuple(round(100 * count / (sum(row) or 1)) for count in row) for row in counts)
    return Confusion(tuple(named), counts, shares)


def _named(cell: str | None) -> str | None:
    return None if cell is None else plain_cell(cell)


def plain_metrics(run: Run) -> dict[str, float]:
    """The metrics of a run without the ends of their intervals and without those of single classes."""
    found = {name: value for name, value in mapping(run.summary, "metrics").items() if number(value) is not None}
    return {name: value for name, value in found.items() if "." not in name and not name.endswith(("_low", "_high"))}


def metric_text(value: float) -> str:
    """A count as it is, anything else to four digits."""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def runs_table(study: Study, names: dict[str, str]) -> Table:
    """Every run that was asked for, with its numbers or with what it lacks."""
    metrics = list(dict.fromkeys(name for run in study.runs.values() for name in plain_metrics(run)))
    columns = [Column("Arm", numeric=False), Column("Seed")]
    columns += [Column(names.get(name, str(name))) for name in metrics]
    columns += [
        Column("Epochs"),
        Column("Steps"),
        Column("Training, s"),
        Column("Ended by", numeric=False),
        Column("Folder", numeric=False),
    ]
    rows = []
    for arm, seed in study.wanted:
        run = study.runs.get((arm, seed))
        rows.append(Row(tuple(_run_cells(study, arm, seed, run, metrics)), arm))
    return Table("Every run", tuple(columns), (Group("", tuple(rows)),))


def _run_cells(study: Study, arm: str, seed: int, run: Run | None, metrics: Sequence[str]) -> list[Cell]:
    cells = [Cell(arm, arm), Cell(str(seed), seed)]
    for name in metrics:
        value = plain_metrics(run).get(name) if run else None
        cells.append(
            NOTHING if value is None else Cell(str(value) if isinstance(value, int) else f"{value:.4f}", value)
        )
    for name, form in (("epochs", "{:.4g}"), ("steps", "{:,.0f}"), ("training_seconds", "{:,.1f}")):
        value = number(run.summary.get(name)) if run else None
        cells.append(NOTHING if value is None else Cell(form.format(value), value))
    cells.append(_ended_cell(study, arm, seed, run))
    if run is None:
        return [*cells, NOTHING]
    relative = run.path.relative_to(study.path).as_posix()
    return [*cells, Cell("open", relative, link=quote(relative) + "/")]


def _ended_cell(study: Study, arm: str, seed: int, run: Run | None) -> Cell:
    if run is not None and run.finished:
        resumed = number(run.summary.get("resumed")) or 0
        again = f"resumed {resumed:.0f}\N{MULTIPLICATION SIGN}" if resumed else ""
        return Cell(
            str(run.summary.get("stopped_by") or DASH).replace("_", " "), str(run.summary.get("stopped_by")), again
        )
    failed = any((name, number) == (arm, seed) for name, number, _ in study.failures)
    text = "failed" if failed else "not begun" if run is None else "not finished"
    return Cell(text, text, mark="warn")


def health_tables(study_runs: dict[str, list[Run]]) -> list[tuple[str, str, bool, Table]]:
    """For each arm with gates: its name, a sentence, whether all gates live, and the table of its taps."""
    columns = (
        Column("Tap", numeric=False),
        Column("Axes", numeric=False),
        Column("Mean"),
        Column("Spread", "standard deviation"),
        Column("Entropy", "0 decided, 1 undecided"),
        Column("Saturation", "share at the ends"),
        Column("Variation", "over inputs"),
        Column("Alive", "runs", numeric=False),
    )
    told = []
    for arm, runs in study_runs.items():
        taps = list(dict.fromkeys(tap for run in runs for tap in mapping(run.summary, "gate_health")))
        if not taps:
            continue
        rows = tuple(_health_row(arm, tap, runs) for tap in taps)
        dead = 0 if arm in CONTROLS else sum(row.cells[-1].mark == "warn" for row in rows)
        count = "1 map" if len(taps) == 1 else f"{len(taps)} maps"
        state = f"{dead} dead" if dead else "alive" if len(taps) == 1 else "all alive"
        sentence = f"{count}, {'held at one, as a control' if arm in CONTROLS else state}"
        told.append((arm, sentence, not dead, Table(f"Gate health of {arm}", columns, (Group("", rows),))))
    return told


def _health_row(arm: str, tap: str, runs: Sequence[Run]) -> Row:
    entries = [entry for run in runs if isinstance(entry := dig(run.summary, "gate_health", tap), dict)]
    cells = [Cell(tap, tap), Cell(str(entries[0].get("axes") or DASH) if entries else DASH)]
    for name in ("mean", "std", "entropy", "saturation", "variation"):
        value = mean_of(runs, "gate_health", tap, name)
        cells.append(NOTHING if value is None else Cell(f"{value:.3g}".replace("-", MINUS), value))
    alive = sum(entry.get("alive") is True for entry in entries)
    text = ("yes" if alive else "dead") if len(entries) == 1 else f"{alive} of {len(entries)}"
    dead = alive < len(entries) and arm not in CONTROLS
    return Row((*cells, Cell(text, alive, mark="warn" if dead else "")), arm)
