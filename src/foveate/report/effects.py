"""Tables and a sentence on how strongly each mechanism acts: its strength, and its change of the features."""

from collections.abc import Sequence

from foveate.report.figures import CONTROLS
from foveate.report.read import Run, Study, listed, number
from foveate.report.tables import NOTHING, SPACE, Cell, Column, Group, Row, Table

__all__ = ["effects_finding", "effects_tables"]

LEAST_CHANGE = 0.001  # a mechanism that changes its features by less hardly acts


def effects_tables(study_runs: dict[str, list[Run]]) -> list[tuple[str, str, bool, Table]]:
    """For each arm with a mechanism: its name, a sentence, whether every mechanism acts, and the table of its sites."""
    columns = (
        Column("Site", numeric=False),
        Column("Channels"),
        Column("Strength", "0 plain host, 1 full"),
        Column("Change of features"),
        Column("Acts", "runs", numeric=False),
    )
    tables = []
    for arm, runs in study_runs.items():
        rows = [_row(arm, name, runs) for name in _names(runs)]
        if rows:
            idle = sum(row.cells[-1].mark == "warn" for row in rows)
            sites = "1 site" if len(rows) == 1 else f"{len(rows)} sites"
            sentence = f"{sites}, {f'{idle} without effect' if idle else 'each with an effect'}"
            sentence = f"{sites}, held at the identity as a control" if arm in CONTROLS else sentence
            tables.append((arm, sentence, not idle, Table(f"Strength of {arm}", columns, (Group("", tuple(rows)),))))
    return tables


def effects_finding(study: Study) -> tuple[str, str] | None:
    """At which strength the arms ended whose mechanisms began as the identity; a warning where it was too little."""
    endings, short = [], []
    for arm in study.arms:
        runs = study.finished(arm)
        strengths, ramps, changes = (_values(runs, key) for key in ("strength", "ramp", "change"))
        if arm in CONTROLS or not changes or (not strengths and study.plan.get("start") != "identity"):
            continue
        change = f"features change by {percent(sum(changes) / len(changes))}"
        endings.append(f"{arm} {_range(strengths)} ({change})" if strengths else f"{arm} without a ramp ({change})")
        if min(ramps, default=1.0) < 1 or max(changes) < LEAST_CHANGE:
            short.append(arm)
    if not endings:
        return None
    sentence = f"mechanisms began as the identity and ended at strength {', '.join(endings)}."
    if short:
        sentence += (
            f" The training of {', '.join(short)} was too short for the mechanism to act: its ramp takes 50 optimizer "
            f"steps, and a mechanism that acts changes its features by {percent(LEAST_CHANGE)} or more."
        )
    return "How strongly they act", sentence


def _range(values: Sequence[float]) -> str:
    """Return the least and the largest value, or one number if they look alike."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def percent(share: float) -> str:
    """Return a fraction in percent, to two digits."""
    return f"{float(f'{100 * share:.2g}'):g}{SPACE}%"


def _names(runs: Sequence[Run]) -> list[str]:
    """The sites whose effect was measured."""
    sites = [site for run in runs for site in listed(run.summary.get("sites")) if isinstance(site, dict)]
    return list(dict.fromkeys(str(site.get("name")) for site in sites if number(site.get("change")) is not None))


def _values(runs: Sequence[Run], key: str, name: str | None = None) -> list[float]:
    """The numbers of one kind at all sites of some runs, or at one."""
    sites = [site for run in runs for site in listed(run.summary.get("sites")) if isinstance(site, dict)]
    chosen = [site for site in sites if name is None or site.get("name") == name]
    return [value for site in chosen if (value := number(site.get(key))) is not None]


def _row(arm: str, name: str, runs: Sequence[Run]) -> Row:
    strengths, changes = _values(runs, "strength", name), _values(runs, "change", name)
    channels, change = _values(runs, "channels", name), sum(changes) / len(changes)
    strength = sum(strengths) / len(strengths) if strengths else None
    acts = sum(value >= LEAST_CHANGE for value in changes)
    idle = acts < len(changes) and arm not in CONTROLS
    text = ("yes" if acts else "no") if len(changes) == 1 else f"{acts} of {len(changes)}"
    return Row(
        (
            Cell(name, name),
            Cell(f"{channels[0]:.0f}", channels[0]) if channels else NOTHING,
            NOTHING if strength is None else Cell(f"{strength:.2f}", strength),
            Cell(percent(change), change),
            Cell(text, acts, mark="warn" if idle else ""),
        ),
        arm,
    )
