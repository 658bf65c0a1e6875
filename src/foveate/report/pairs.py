"""Comparisons between two arms of which neither is the baseline: a chain and its first part, a gainer and `wider`.

Each family is corrected on its own (Holm), and the table's correction does not count it. No torch here: what the
catalogue's one named chain is made of is repeated below, and a test holds it to the catalogue.
"""

from collections.abc import Sequence

from foveate.compare.result import StudyResult, difference_between
from foveate.compare.statistics import ALPHA, BETTER, WORSE, Difference, holm, verdict
from foveate.report.figures import CONTROLS
from foveate.report.read import Study, dig, listed
from foveate.report.tables import bracketed, signed
from foveate.report.words import words_for

__all__ = ["FIRST_PARTS", "beyond_size", "chains"]

FIRST_PARTS = {"eca-spatial": "eca"}  # named chains of the catalogue; others are written as "eca+spatial"
WIDER = "wider"


def chains(study: Study, result: StudyResult) -> tuple[str, str] | None:
    """What each chain does over its first part alone, where the study has both."""
    told = _compared(result, _chain_pairs(study), {BETTER: "gains", WORSE: "loses"})
    return ("What the chain adds", f"{told}.") if told else None


def beyond_size(result: StudyResult) -> tuple[str, str] | None:
    """Whether each arm that is better than the baseline also beats a host that is merely larger."""
    better = [arm.arm for arm in result.arms if arm.verdict == BETTER and arm.arm not in CONTROLS]
    words = {BETTER: "gains beyond size", WORSE: "loses to size alone"}
    unshown = "no difference shown, so the gain may be owed to size"
    told = _compared(result, [(arm, WIDER) for arm in better], words, unshown)
    return ("More than size", f"{told}.") if told else None


def _chain_pairs(study: Study) -> list[tuple[str, str]]:
    """(chain, the arm of its first part), as the plan names their mechanisms."""
    mechanisms = {
        str(dig(entry, "arm")): str(dig(entry, "mechanism") or dig(entry, "arm"))
        for entry in listed(study.plan.get("arms"))
        if dig(entry, "arm") not in CONTROLS
    }
    pairs = []
    for arm, mechanism in mechanisms.items():
        part = mechanism.split("+")[0] if "+" in mechanism else FIRST_PARTS.get(mechanism)
        first = next((other for other, name in mechanisms.items() if name == part), None)
        if first is not None:
            pairs.append((arm, first))
    return pairs


def _compared(
    result: StudyResult,
    pairs: Sequence[tuple[str, str]],
    words: dict[str, str],
    unshown: str = "no difference shown",
) -> str:
    """Each pair's difference with its verdict in words; empty where no pair has a value on both sides.

    They are paired as the arms of the table are; a pair with the baseline is left to the table.
    """
    pairs = [(arm, other) for arm, other in pairs if other != result.baseline]
    arms = {arm.arm: arm for arm in result.arms}
    known = [(a, b) for a, b in pairs if a in arms and b in arms and arms[a].values and arms[b].values]
    differences = [difference_between(result, a, b) for a, b in known]
    corrected = holm([difference.p for difference in differences])
    many = sum(p is not None for p in corrected) > 1
    told = []
    for (arm, other), difference, p in zip(known, differences, corrected, strict=True):
        found = words.get(verdict(difference, p, higher_is_better=True), unshown)
        if p is not None and p < ALPHA and not difference.one_sign:
            found = f"not of one sign in every seed, so {unshown}"
        told.append(f"{arm} over {other}: {_measured(difference, p, many, found, words_for(result.task).unit)}")
    return "; ".join(told)


def _measured(difference: Difference, p: float | None, many: bool, found: str, unit: str) -> str:
    if difference.mean is None:
        return "no seed in common, so nothing can be told"
    points = f"{signed(difference.mean * 100)} points"
    if p is None:
        return f"{points} at one {unit}, which cannot be told from chance"
    interval = bracketed(difference.low, difference.high, lambda value: signed(value * 100)) or "(no interval)"
    shown = "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"{points} {interval}, {'corrected p' if many else 'p'} {shown}, at {difference.pairs} {unit}s: {found}"
