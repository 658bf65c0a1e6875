"""The answer of a study in words: one honest sentence, and what must be known beside it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.compare.result import ArmResult, StudyResult
from foveate.compare.statistics import ALPHA, BETTER, UNSHOWN, WORSE
from foveate.report.figures import CONTROLS
from foveate.report.pairs import beyond_size, chains
from foveate.report.read import Study, dig, number
from foveate.report.tables import cost_of, mean_of, percent, signed
from foveate.report.words import words_for

__all__ = ["Answer", "answer", "max_time_of"]

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True)
class Answer:
    """The sentence, and findings as (what about, sentence)."""

    sentence: str
    findings: tuple[tuple[str, str], ...]


def answer(study: Study, result: StudyResult) -> Answer:
    """What may be said, and nothing more. A winner is named only where `result` gives a verdict."""
    found = (
        _resolution(result),
        _uncorrected(result),
        _seeds_differ(result),
        chains(study, result),
        _controls(result),
        beyond_size(result),
        _time(study),
        _place(study, result),
        _cost(study),
    )
    return Answer(_sentence(study, result), tuple(finding for finding in found if finding is not None))


def max_time_of(study: Study) -> float | None:
    """The seconds each run was given, or None where epochs were counted."""
    return number(dig(study.plan, "budget", "max_time_s")) or number(dig(study.plan, "config", "max_time_s"))


def _mechanisms(result: StudyResult) -> list[ArmResult]:
    return [arm for arm in result.arms if arm.arm != result.baseline and arm.arm not in CONTROLS]


def _sentence(study: Study, result: StudyResult) -> str:
    baseline = next((arm for arm in result.arms if arm.arm == result.baseline), None)
    if not any(arm.values for arm in result.arms):
        if any(run.finished for run in study.runs.values()):
            return "The finished runs could not be read together, so nothing is said; the note below has the reason."
        return "No run is finished, so nothing can be said yet."
    if baseline is None or not baseline.values:
        return f"The baseline {result.baseline} has no finished run, so no difference can be told."
    compared = [arm for arm in _mechanisms(result) if arm.difference is not None]
    if not compared:
        return f"No mechanism has a finished run to compare with {result.baseline}."
    if all(arm.p is None for arm in compared):
        if words_for(result.task).by_case:
            return "Only one case was tested: a difference between two arms cannot be told from chance."
        seeds = "One seed each" if len(study.seeds) == 1 else "Only one seed is finished"
        return f"{seeds}: a difference between two arms cannot be told from chance."
    better, worse = ([arm for arm in compared if arm.verdict == verdict] for verdict in (BETTER, WORSE))
    if not better and not worse:
        return f"No mechanism shows a difference to {result.baseline} at {_counted(result, compared)}."
    told = [f"{_listed([_difference(arm) for arm in better])} over {result.baseline}"] if better else []
    if worse:
        told.append(f"{_listed([_difference(arm) for arm in worse])} below {result.baseline}")
    rest = len(compared) - len(better) - len(worse)
    others = {0: "", 1: " The one other mechanism shows no difference."}.get(
        rest, f" The {rest} others show no difference."
    )
    return f"{'; '.join(told)}, at {_counted(result, compared)}.{others}"


def _difference(arm: ArmResult) -> str:
    told = f"{arm.arm}: {signed((arm.difference or 0) * 100)} points"
    if arm.diff_low is None or arm.diff_high is None:
        return told
    return f"{told} [{signed(arm.diff_low * 100)}, {signed(arm.diff_high * 100)}]"


def _counted(result: StudyResult, arms: Sequence[ArmResult]) -> str:
    """On how much a comparison stands: seeds, or cases and the seeds of each."""
    if not words_for(result.task).by_case:
        return _range([arm.pairs for arm in arms], "seed")
    seeds = _range([len(arm.seed_differences) for arm in arms], "seed")
    return f"{_range([arm.pairs for arm in arms], 'case')} and {seeds}"


def _range(counts: Sequence[int], unit: str) -> str:
    known = sorted({count for count in counts if count})
    if len(known) > 1:
        return f"{known[0]} to {known[-1]} {unit}s"
    return f"{known[0]} {unit}{'s' if known[0] != 1 else ''}" if known else f"no {unit}s"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _resolution(result: StudyResult) -> tuple[str, str] | None:
    """How small a difference this study could have seen."""
    reaches = [
        (arm.diff_high - arm.diff_low) / 2
        for arm in _mechanisms(result)
        if arm.diff_low is not None and arm.diff_high is not None
    ]
    if not reaches:
        return None
    reach = statistics.median(reaches) * 100
    unit = words_for(result.task).unit
    told = f"the intervals of the differences reach {PLUS_MINUS}{reach:.1f} points in the median"
    return "What it could see", f"{told}; anything smaller cannot be told from chance here. More {unit}s narrow them."


def _uncorrected(result: StudyResult) -> tuple[str, str] | None:
    """Arms whose own interval excludes zero, though not after the correction for having looked at many."""
    near = [
        arm
        for arm in _mechanisms(result)
        if arm.verdict == UNSHOWN
        and arm.diff_low is not None
        and arm.diff_high is not None
        and not arm.diff_low <= 0 <= arm.diff_high
        and arm.p_corrected is not None
        and arm.p_corrected >= ALPHA
    ]
    if not near:
        return None
    unit = words_for(result.task).unit
    told = _listed([f"{arm.arm} (corrected p {arm.p_corrected:.2f})" for arm in near])
    tests = sum(arm.p is not None for arm in result.arms)
    many = (
        f"among {tests} comparisons that may happen by chance" if tests > 1 else f"one test of so few {unit}s is weak"
    )
    return "Not enough", f"the interval of {told} excludes zero, but {many}; more {unit}s would tell."


def _seeds_differ(result: StudyResult) -> tuple[str, str] | None:
    """Arms that the cases would tell apart, though not every training does; nothing where seeds are what is paired."""
    near = [
        f"{arm.arm} ({_listed([signed(value * 100) for value in arm.seed_differences])})"
        for arm in _mechanisms(result)
        if arm.verdict == UNSHOWN and arm.p_corrected is not None and arm.p_corrected < ALPHA and arm.seed_differences
    ]
    if not near:
        return None
    told = f"over the cases {_listed(near)} would count as a difference, but not in every seed has it the same sign"
    return "Not in every training", f"{told}, so it may be owed to how one training ended; more seeds would tell."


def _controls(result: StudyResult) -> tuple[str, str] | None:
    controls = [arm for arm in result.arms if arm.arm in CONTROLS and arm.diff_low is not None]
    if not controls:
        return None
    shown = [arm for arm in controls if arm.verdict != UNSHOWN]
    if shown:
        told = _listed([_difference(arm) for arm in shown])
        return "Controls", f"{told}, without any attention: what a mechanism does beyond that is its own."
    names = _listed([arm.arm for arm in controls])
    either = " either" if all(arm.verdict == UNSHOWN for arm in _mechanisms(result)) else ""
    return "Controls", f"{names} {'shows' if len(controls) == 1 else 'show'} no difference{either}."


def _time(study: Study) -> tuple[str, str] | None:
    """With a time budget: how much of an epoch each arm had."""
    seconds = max_time_of(study)
    means = {arm: mean_of(study.finished(arm), "epochs") for arm in study.arms}
    known = {arm: value for arm, value in means.items() if value is not None}
    if seconds is None or not known:
        return None
    told = ", ".join(f"{arm} {value:.2g}" for arm, value in known.items())
    return (
        "Equal time, not equal epochs",
        f"each run had {seconds:g} s of training. Epochs seen in it, on average: {told}.",
    )


def _place(study: Study, result: StudyResult) -> tuple[str, str] | None:
    looks = {arm: mean_of(study.finished(arm), "pointing", "mechanism") for arm in study.arms}
    known = {arm: value for arm, value in looks.items() if value is not None}
    network = {arm: mean_of(study.finished(arm), "pointing", "network") for arm in study.arms}
    chances = [value for arm in study.arms if (value := mean_of(study.finished(arm), "pointing", "chance")) is not None]
    beside = f"; by chance {percent(chances[0])}" if chances else ""
    if known:
        told = ", ".join(f"{arm} {percent(value)}" for arm, value in known.items())
        return "Where they look", f"a mechanism's own map has its maximum in the true place in: {told}{beside}."
    of_baseline = network.get(result.baseline)
    if of_baseline is None:
        return None
    samples = words_for(result.task, study.runs.values()).samples
    told = f"what {result.baseline} draws on peaks in the true place in {percent(of_baseline)} of {samples}"
    return "Where they look", f"{told}{beside}."


def _cost(study: Study) -> tuple[str, str] | None:
    """The cheapest and the dearest mechanism by latency."""
    base = cost_of(study, study.baseline, "latency_ms")
    arms = [arm for arm in study.arms if arm != study.baseline and arm not in CONTROLS]
    more = {arm: value / base - 1 for arm in arms if base and (value := cost_of(study, arm, "latency_ms")) is not None}
    if len(more) < 2:
        return None
    ordered = sorted(more, key=lambda arm: more[arm])
    low, high = (f"{signed(more[arm] * 100, 0)}\N{NO-BREAK SPACE}% ({arm})" for arm in (ordered[0], ordered[-1]))
    return "Cost", f"the latency of one inference against {study.baseline} goes from {low} to {high}."
