"""Comparisons between two arms of which neither is the baseline: a chain and its first part, a gainer and `wider`.

Each family has simultaneous intervals of its own, and the table's correction does not count it. Chains are pairs of
arms, bounded by Sidak; comparisons with `wider` are a study of its own with `wider` as the baseline. That study holds
every mechanism, also those that are not shown: only arms that beat the plain host are told, and to correct for these
alone would forget that they were chosen. No torch here: what the catalogue's one named chain is made of is repeated
below, and a test holds it to the catalogue.
"""

from foveate.compare.result import StudyResult, differences_between, differences_to
from foveate.compare.statistics import BETTER, UNSHOWN, WORSE, Difference
from foveate.report.figures import CONTROLS
from foveate.report.read import Study, dig, listed
from foveate.report.tables import bracketed, signed

__all__ = ["FIRST_PARTS", "beyond_size", "chains"]

FIRST_PARTS = {"eca-spatial": "eca"}  # named chains of the catalogue; others are written as "eca+spatial"
WIDER = "wider"


def chains(study: Study, result: StudyResult) -> tuple[str, str] | None:
    """Return what each chain does over its first part alone, if the study has both."""
    trained = {arm.arm for arm in result.arms if arm.values} - {result.baseline}
    pairs = [(chain, part) for chain, part in _chain_pairs(study) if {chain, part} <= trained]
    if not pairs:
        return None
    words = {BETTER: "gains", WORSE: "loses"}
    told = [
        f"{chain} over {part}: {_measured(difference, len(pairs), words, UNSHOWN)}"
        for (chain, part), difference in zip(pairs, differences_between(result, pairs), strict=True)
    ]
    return "What the chain adds", f"{'; '.join(told)}."


def beyond_size(result: StudyResult) -> tuple[str, str] | None:
    """Return whether each arm that is better than the baseline also beats a host that is merely larger."""
    trained = [arm for arm in result.arms if arm.values]
    mechanisms = [arm.arm for arm in trained if arm.arm != result.baseline and arm.arm not in CONTROLS]
    better = [arm.arm for arm in trained if arm.verdict == BETTER and arm.arm in mechanisms]
    if not better or WIDER not in {arm.arm for arm in trained}:
        return None
    words = {BETTER: "gains beyond size", WORSE: "loses to size alone"}
    unshown = f"{UNSHOWN}, so the gain may be owed to size"
    differences = differences_to(result, mechanisms, WIDER)
    told = [f"{arm} over {WIDER}: {_measured(differences[arm], len(mechanisms), words, unshown)}" for arm in better]
    return "More than size", f"{'; '.join(told)}."


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


def _measured(difference: Difference, comparisons: int, words: dict[str, str], unshown: str) -> str:
    """Return a difference with its interval, p and verdict in words."""
    if difference.mean is None:
        return f"{difference.remark}, so nothing can be told"
    points = f"{signed(difference.mean * 100)} points"
    seeds = "one seed" if difference.seeds == 1 else f"{difference.seeds} seeds"
    if difference.cases:
        seeds = f"{difference.cases} cases and {seeds}"
    if difference.p is None:
        reason = "" if difference.seeds == 1 else f" ({difference.remark})"
        return f"{points} at {seeds}, which cannot be told from chance{reason}"
    interval = bracketed(difference.low, difference.high, lambda value: signed(value * 100))
    shown = (
        "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}" if difference.p < 0.1 else f"{difference.p:.2f}"
    )
    found = words.get(difference.verdict, unshown)
    return f"{points} {interval}, {'corrected p' if comparisons > 1 else 'p'} {shown}, at {seeds}: {found}"
