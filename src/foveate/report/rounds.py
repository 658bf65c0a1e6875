"""The rounds of a study whose seeds were added until its arms were settled: a table, and a sentence."""

from foveate.compare.result import StudyResult
from foveate.compare.rounds import OUT_OF_TIME
from foveate.compare.sequential import OUT_OF_REACH, PRECISE, settled_in
from foveate.report.tables import DASH, Cell, Column, Group, Row, Table

__all__ = ["rounds_finding", "rounds_table"]


def rounds_table(result: StudyResult) -> Table | None:
    """Return a row for each look; None if the number of seeds was fixed or no look was made."""
    if not result.rounds:
        return None
    rows = []
    for each in result.rounds:
        told = ", ".join(f"{arm}: {how}" for arm, how in each.settled.items()) or DASH
        open_arms = ", ".join(arm for arm in each.arms if arm not in each.settled) or DASH
        cells = (
            Cell(str(each.seeds), each.seeds),
            Cell(told),
            Cell(open_arms),
            Cell(f"{each.level * 100:.2f}", each.level),
            Cell(str(each.trainings), each.trainings),
            Cell(str(each.fixed), each.fixed),
        )
        rows.append(Row(cells))
    columns = (
        Column("Seeds"),
        Column("Settled", numeric=False),
        Column("Open", numeric=False),
        Column("Error of this look", "%"),
        Column("Trainings"),
        Column("Fixed design", "these seeds for every arm"),
    )
    return Table("Rounds", columns, (Group("", tuple(rows)),))


def rounds_finding(result: StudyResult) -> tuple[str, str] | None:
    """Return what the rounds settled, what they left open, and how many trainings that took."""
    if result.most is None:
        return None
    if not result.rounds:
        return "Rounds", "no round is complete yet, so nothing is settled."
    last = result.rounds[-1]
    settled = settled_in(result.rounds)
    by_how = {how: [arm for arm in settled if settled[arm] == how] for how in dict.fromkeys(settled.values())}
    points = f"{last.precision * 100:.2g}"
    reach = f"within {points} point{'s' * (points != '1')} to each side"
    words = {PRECISE: f"known {reach}", OUT_OF_REACH: f"not to be shown or known {reach} by {result.most} seeds"}
    told = [f"{', '.join(arms)}: {words.get(how, how)}" for how, arms in by_how.items()]
    left = [arm.arm for arm in result.arms if arm.arm != result.baseline and arm.arm not in settled]
    if left:
        told.append(f"{', '.join(left)}: not settled {_why_open(result)}")
    most = result.most * len(last.runs)
    return "Rounds", f"{'; '.join(told)}. {last.trainings} trainings; {result.most} seeds of every arm take {most}."


def _why_open(result: StudyResult) -> str:
    if result.ended == OUT_OF_TIME:
        return f"when the total time was over, at {result.rounds[-1].seeds} seeds"
    if result.ended:
        return f"by {result.most} seeds"
    return f"at {result.rounds[-1].seeds} seeds, and the study is not finished"
