"""The table of results, and what all tables are made of. Cells hold text to read and a value to sort by."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from foveate.compare.result import ArmResult, StudyResult
from foveate.compare.statistics import BETTER, WORSE
from foveate.report.figures import CONTROLS
from foveate.report.read import Run, Study, dig, listed, mapping, number
from foveate.report.words import Words, words_for

__all__ = ["DASH", "MINUS", "NOTHING", "Cell", "Column", "Group", "Row", "Table", "bracketed", "clipped", "cost_of"]
__all__ += ["counted", "mean_of", "measures_table", "percent", "points", "results_table", "signed"]

UNBOUNDED = ("loss", "_ml", "_mm")  # the ends of the names of metrics that are no shares
MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Cell:
    """One cell. `interval` draws (low, mean, high, zero), each in 0..1 of the column's range."""

    text: str
    sort: float | str | None = None
    sub: str = ""
    mark: str = ""  # a class: "warn" or "good"
    interval: tuple[float, float, float, float] | None = None
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column's heading; `note` explains it under the heading."""

    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """The first cell names the row."""

    cells: tuple[Cell, ...]
    arm: str = ""


@dataclass(frozen=True)
class Group:
    """Rows that are sorted among themselves."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table as the page and the terminal show it."""

    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]


NOTHING = Cell(DASH)


def counted(value: float | None) -> str:
    """A count in three digits or so: 176,890, then 21.4 M."""
    if value is None:
        return DASH
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:,.0f}"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, also if it is plus; zero has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def points(value: float, factor: float = 100, digits: int = 1) -> str:
    """A share as a plain number of points."""
    return f"{value * factor:.{digits}f}".replace("-", MINUS)


def bracketed(low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    """An interval as [low, high]; empty where there is none."""
    return "" if low is None or high is None else f"[{form(low)},{SPACE}{form(high)}]"


def clipped(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """An interval of a share, no further than shares go; t intervals know no bounds."""
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 1.0))


def percent(share: float) -> str:
    """A share as a whole number of percent."""
    return f"{share * 100:.0f}{SPACE}%"


def _mib(value: float | None) -> str:
    """Memory in MiB, in three digits."""
    return DASH if value is None else _three_digits(value)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cost_of(study: Study, arm: str, name: str) -> float | None:
    """A cost of an arm from costs.json, or else from the first run that knows it."""
    known = number(dig(study.costs, arm, name))
    if known is not None:
        return known
    return next((value for run in study.finished(arm) if (value := number(run.summary.get(name))) is not None), None)


def mean_of(runs: Iterable[Run], *keys: str) -> float | None:
    """The mean over runs of a number in their summaries."""
    values = [value for run in runs if (value := number(dig(run.summary, *keys))) is not None]
    return sum(values) / len(values) if values else None


def results_table(study: Study, result: StudyResult) -> Table:
    """The main table: a row an arm; the controls are a group of their own."""
    words = words_for(result.task, study.runs.values())
    timed = number(dig(study.plan, "budget", "max_time_s")) is not None
    chance = next(
        (value for arm in study.arms if (value := mean_of(study.finished(arm), "pointing", "chance")) is not None), None
    )
    batch = cost_of(study, study.baseline, "step_batch")
    inputs = "" if batch is None else f", {batch:.0f} {words.one if batch == 1 else words.many}"
    judged = [Column("p", "corrected"), Column("Verdict", numeric=False)]
    if words.by_case:
        judged = [Column("In each seed", "points"), Column("Verdict", "corrected p", numeric=False)]
    columns = [
        Column("Arm", numeric=False),
        Column("Sites"),
        Column(words.quality, "%"),
        Column(f"Difference to {study.baseline}", f"points, paired by {'seed and case' if words.by_case else 'seed'}"),
        *judged,
        *(Column(title, note) for _, title, note in words.beside),
        Column("Parameters"),
        Column("MACs", f"a {words.one}"),
        Column("Latency", "ms"),
        Column("Training step", f"ms{inputs}"),
        Column("Memory", "MiB"),
    ]
    if not words.by_case:
        columns.append(Column("Pointing", "%" if chance is None else f"%, chance {chance * 100:.0f}"))
    if timed:
        columns.insert(2, Column("Epochs", "in the time given"))
    ends = [end for arm in result.arms for end in (arm.diff_low, arm.diff_high) if end is not None]
    span = (min([0.0, *ends]), max([0.0, *ends]))
    groups: dict[bool, list[Row]] = {False: [], True: []}
    for arm in result.arms:
        cells = _result_cells(study, result, arm, span)
        if timed:
            cells.insert(2, _epochs_cell(study.finished(arm.arm)))
        groups[arm.arm in CONTROLS].append(Row(tuple(cells), arm.arm))
    purposes = "; ".join(f"{row.arm}: {CONTROLS[row.arm]}" for row in groups[True])
    titled = [Group("", tuple(groups[False])), Group("Controls", tuple(groups[True]), purposes)]
    return Table("Results of each arm", tuple(columns), tuple(group for group in titled if group.rows))


def _result_cells(study: Study, result: StudyResult, arm: ArmResult, span: tuple[float, float]) -> list[Cell]:
    runs, words = study.finished(arm.arm), words_for(result.task)
    p, verdict = _probability_cell(arm), _verdict_cell(arm)
    judged = [p, verdict]
    if words.by_case:
        told = "" if p is NOTHING else f"p{SPACE}{p.text}"
        judged = [_seeds_cell(arm), dataclasses.replace(verdict, sub=told)]
    cells = [
        _arm_cell(study, arm.arm, runs),
        _sites_cell(runs),
        _quality_cell(arm, words),
        _difference_cell(arm, span),
        *judged,
        *(_beside_cell(result, arm.arm, name) for name, _, _ in words.beside),
        _cost_cell(study, arm.arm, "parameters"),
        _cost_cell(study, arm.arm, "macs"),
        _time_cell(study, arm.arm, "latency_ms", "latency_p95_ms"),
        _time_cell(study, arm.arm, "step_ms", "step_p95_ms"),
        _memory_cell(study, arm.arm),
    ]
    return cells if words.by_case else [*cells, _pointing_cell(runs)]


def _arm_cell(study: Study, arm: str, runs: Sequence[Run]) -> Cell:
    if arm == study.baseline:
        return Cell(arm, arm, "the baseline")
    wanted = len(study.seeds_of(arm))
    unfinished = wanted - len(runs)
    if unfinished > 0:
        return Cell(arm, arm, f"{unfinished} of {wanted} runs not finished", "warn")
    if arm in CONTROLS:
        return Cell(arm, arm)
    health = [entry for run in runs for entry in mapping(run.summary, "gate_health").values()]
    dead = sum(dig(entry, "alive") is False for entry in health)
    return Cell(arm, arm, f"{dead} of {len(health)} gates dead", "warn") if dead else Cell(arm, arm)


def _sites_cell(runs: Sequence[Run]) -> Cell:
    if not runs:
        return NOTHING
    count = max(len(listed(dig(run.summary, "sites"))) for run in runs)
    return Cell(str(count), count)


def _quality_cell(arm: ArmResult, words: Words) -> Cell:
    if arm.mean is None:
        return NOTHING
    interval = bracketed(*clipped(arm.low, arm.high), points) or f"one {words.unit}: no interval"
    return Cell(points(arm.mean), arm.mean, interval)


def _difference_cell(arm: ArmResult, span: tuple[float, float]) -> Cell:
    if arm.difference is None:
        return Cell(DASH, sub=arm.remark)
    if arm.diff_low is None or arm.diff_high is None:
        return Cell(signed(arm.difference * 100), arm.difference, arm.remark)
    width = (span[1] - span[0]) or 1.0
    low, mean, high, zero = ((value - span[0]) / width for value in (arm.diff_low, arm.difference, arm.diff_high, 0.0))
    interval = bracketed(arm.diff_low, arm.diff_high, lambda value: signed(value * 100))
    return Cell(signed(arm.difference * 100), arm.difference, interval, interval=(low, mean, high, zero))


def _seeds_cell(arm: ArmResult) -> Cell:
    """The mean difference over the cases in each seed."""
    if not arm.seed_differences:
        return NOTHING
    told = "; ".join(signed(value * 100) for value in arm.seed_differences)
    return Cell(told, arm.difference, "trained once" if len(arm.seed_differences) == 1 else "")


def _beside_cell(result: StudyResult, arm: str, metric: str) -> Cell:
    """The mean of another metric over the cases, and its difference to the baseline with its interval; no verdict."""
    found = next((each for each in result.metrics.get(metric, ()) if each.arm == arm), None)
    if found is None or found.mean is None:
        return NOTHING
    if found.difference is None:
        return Cell(f"{found.mean:.3g}", found.mean)
    interval = bracketed(found.diff_low, found.diff_high, lambda value: signed(value, 2))
    return Cell(f"{found.mean:.3g}", found.mean, f"{signed(found.difference, 2)} {interval}".rstrip())


def _verdict_cell(arm: ArmResult) -> Cell:
    if arm.difference is None:
        return NOTHING
    if arm.diff_low is None:
        return Cell("cannot be told", "")
    return Cell(arm.verdict, arm.verdict, mark="told" if arm.verdict in (BETTER, WORSE) else "")


def _probability_cell(arm: ArmResult) -> Cell:
    p = arm.p_corrected
    if p is None:
        return NOTHING
    return Cell("<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}", p)


def _cost_cell(study: Study, arm: str, name: str) -> Cell:
    value, of_baseline = cost_of(study, arm, name), cost_of(study, study.baseline, name)
    if value is None:
        return NOTHING
    if arm == study.baseline or not of_baseline:
        return Cell(counted(value), value)
    more = (value / of_baseline - 1) * 100
    return Cell(counted(value), value, f"{signed(more, 2 if abs(more) < 0.95 else 1)}{SPACE}%")


def _time_cell(study: Study, arm: str, median: str, p95: str) -> Cell:
    value, slow = cost_of(study, arm, median), cost_of(study, arm, p95)
    if value is None:
        return NOTHING
    return Cell(_three_digits(value), value, "" if slow is None else f"p95{SPACE}{_three_digits(slow)}")


def _memory_cell(study: Study, arm: str) -> Cell:
    inference, training = cost_of(study, arm, "memory_mib"), cost_of(study, arm, "step_memory_mib")
    if inference is None and training is None:
        return NOTHING
    return Cell(_mib(inference), inference, "" if training is None else f"training{SPACE}{_mib(training)}")


def _pointing_cell(runs: Sequence[Run]) -> Cell:
    network, mechanism = mean_of(runs, "pointing", "network"), mean_of(runs, "pointing", "mechanism")
    if network is None and mechanism is None:
        return NOTHING
    own = "" if mechanism is None else f"mechanism{SPACE}{mechanism * 100:.0f}"
    return Cell(DASH if network is None else f"{network * 100:.0f}", network, own)


def _epochs_cell(runs: Sequence[Run]) -> Cell:
    seen = [value for run in runs if (value := number(run.summary.get("epochs"))) is not None]
    if not seen:
        return NOTHING
    spread = "" if min(seen) == max(seen) else f"{min(seen):.2g} to {max(seen):.2g}"
    return Cell(f"{sum(seen) / len(seen):.2g}", sum(seen) / len(seen), spread)


def measures_table(result: StudyResult, names: dict[str, str]) -> Table:
    """Every arm by every metric: the mean and its interval. No verdicts: p is not corrected over measures."""
    kept = {name: arms for name, arms in result.metrics.items() if any(arm.values for arm in arms)}
    columns = (Column("Arm", numeric=False), *(Column(names.get(name, name)) for name in kept))
    rows = []
    for i, arm in enumerate(result.arms):
        cells = [_measure_cell(arms[i], name) for name, arms in kept.items()]
        rows.append(Row((Cell(arm.arm, arm.arm), *cells), arm.arm))
    return Table("By other measures", columns, (Group("", tuple(rows)),))


def _measure_cell(arm: ArmResult, name: str) -> Cell:
    if arm.mean is None:
        return NOTHING
    low, high = (arm.low, arm.high) if name.endswith(UNBOUNDED) else clipped(arm.low, arm.high)
    return Cell(f"{arm.mean:.3f}", arm.mean, bracketed(low, high, lambda value: points(value, 1, 3)))
