"""The answer of a study in words: one honest sentence, and what must be known beside it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.compare.result import ArmResult, StudyResult
from foveate.compare.statistics import BETTER, UNSHOWN, WORSE
from foveate.report.effects import effects_finding
from foveate.report.figures import CONTROLS
from foveate.report.pairs import beyond_size, chains
from foveate.report.read import Study, dig, number
from foveate.report.rising import still_rising
from foveate.report.rounds import rounds_finding
from foveate.report.tables import cost_of, mean_of, percent, signed
from foveate.report.words import words_for

__all__ = ["Answer", "answer", "max_time_of"]


@dataclass(frozen=True)
class Answer:
    """The sentence, findings as (what about, sentence), and a warning to read before both; empty if there is none."""

    sentence: str
    findings: tuple[tuple[str, str], ...]
    warning: str = ""


def answer(study: Study, result: StudyResult) -> Answer:
    """What may be said, and nothing more. A winner is named only where `result` gives a verdict."""
    found = (
        _ruled_out(result),
        _detectable(result),
        _two_seeds(result),
        effects_finding(study),
        rounds_finding(result),
        chains(study, result),
        _controls(result),
        beyond_size(result),
        _time(study),
        _place(study, result),
        _cost(study),
    )
    findings = tuple(finding for finding in found if finding is not None)
    return Answer(_sentence(study, result), findings, _warning(study))


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
    if all(arm.p_corrected is None for arm in compared):
        return f"{_why_silent(study, result, compared)}: a difference between two arms cannot be told from chance."
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


def _why_silent(study: Study, result: StudyResult, compared: Sequence[ArmResult]) -> str:
    """Return why no arm has an interval."""
    if words_for(result.task).by_case and all(arm.pairs == 1 for arm in compared):
        return "Only one case was tested"
    if any(len(arm.seed_differences) > 1 for arm in compared):
        return "Equal differences in every seed, without any spread"
    return "One seed each" if len(study.seeds) == 1 else "Only one seed is finished"


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


def _warning(study: Study) -> str:
    """Return a warning if training ended while the validation curves were rising."""
    rising = still_rising(study.runs.values())
    if rising is None:
        return ""
    measure = words_for(study.plan.get("task")).names[rising.measure]
    measure = f"{measure[0].lower()}{measure[1:]}"
    return (
        f"Training ended too early: {measure} rose by {rising.gain * 100:.1f} points from the third"
        f" to the last quarter of training (mean of {rising.runs} runs). Short runs compare the speed of learning, not"
        " quality: with more epochs the differences may shrink, vanish or turn."
    )


def _bounded(result: StudyResult) -> list[tuple[ArmResult, float, float]]:
    """Return each mechanism with its simultaneous interval in points; one that equals the baseline has none."""
    return [
        (arm, arm.diff_low * 100, arm.diff_high * 100)
        for arm in _mechanisms(result)
        if arm.diff_low is not None and arm.diff_high is not None and arm.diff_low < arm.diff_high
    ]


def _ruled_out(result: StudyResult) -> tuple[str, str] | None:
    """Return the largest gain and the largest loss that the intervals allow, and the smallest ones of shown arms."""
    bounded = _bounded(result)
    if not bounded:
        return None
    told = [
        f"{arm.arm} {'gains' if arm.verdict == BETTER else 'costs'} at least {min(abs(low), abs(high)):.1f} points here"
        for arm, low, high in bounded
        if arm.verdict != UNSHOWN
    ]
    most = max(high for _, _, high in bounded)
    least = min(low for _, low, _ in bounded)
    if most > 0:
        told.append(f"no arm can help by more than {signed(most)} points")
    if least < 0:
        told.append(f"no arm can cost more than {-least:.1f} points")
    return "What is ruled out", f"{'; '.join(told)} (95 % for all of these together)."


def _detectable(result: StudyResult) -> tuple[str, str] | None:
    """Return the smallest difference that this study could have shown."""
    known = [arm.detectable for arm in _mechanisms(result) if arm.detectable is not None]
    if not known:
        return None
    told = f"a true difference of {statistics.median(known) * 100:.1f} points is shown by four in five such studies"
    return (
        "What it could see",
        f"{told} (median over the arms); smaller ones are mostly missed. More seeds narrow this.",
    )


def _two_seeds(result: StudyResult) -> tuple[str, str] | None:
    """Return a warning about arms that were trained twice only."""
    arms = [arm.arm for arm in _mechanisms(result) if len(arm.seed_differences) == 2 and arm.diff_low is not None]
    if not arms:
        return None
    told = f"with two seeds in common with {result.baseline} the intervals of {_listed(arms)} are widened once more"
    return "Two seeds", f"{told}, and only a large difference can be shown; a third seed narrows them most."


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
