"""Chains against their first part, and gainers against a host that is merely larger: every outcome by hand."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from foveate.compare.result import ArmResult, summarise
from foveate.compare.statistics import BETTER, UNSHOWN, compare_to_baseline
from foveate.layers.catalogue import MECHANISMS
from foveate.report.answer import answer
from foveate.report.pairs import FIRST_PARTS
from foveate.report.read import read_study

MINUS = "\N{MINUS SIGN}"


def arm(name: str, *values: float, verdict: str = UNSHOWN, seeds: tuple[int, ...] = ()) -> ArmResult:
    return ArmResult(name, seeds or tuple(range(len(values))), values, math.fsum(values) / len(values), verdict=verdict)


def findings(study: Path, *arms: ArmResult) -> dict[str, str]:
    result = dataclasses.replace(summarise(study), arms=arms)
    return dict(answer(read_study(study), result).findings)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        # Differences 2, 2, 3 points: mean 7/3, s = 0.5774, t(2) = 4.3027, reach 1.1 * 1.434; t = 7 / 1.1, p = 0.0238.
        ((0.82, 0.82, 0.83), "+2.3 points [+0.8,\N{NO-BREAK SPACE}+3.9], p 0.024, at 3 seeds: gains"),
        (
            (0.78, 0.78, 0.77),
            f"{MINUS}2.3 points [{MINUS}3.9,\N{NO-BREAK SPACE}{MINUS}0.8], p 0.024, at 3 seeds: loses",
        ),
        # Differences -1, 1, 3: mean 1, s = 2, reach 1.1 * 4.968; t = 0.866 / 1.1, p = 0.514.
        (
            (0.79, 0.81, 0.83),
            f"+1.0 points [{MINUS}4.5,\N{NO-BREAK SPACE}+6.5], p 0.51, at 3 seeds: no difference shown",
        ),
        (
            (0.81, 0.81, 0.81),
            "+1.0 points at 3 seeds, which cannot be told from chance (equal differences: no spread to judge by)",
        ),
        ((0.82,), "+2.0 points at one seed, which cannot be told from chance"),
    ],
)
def test_a_chain_is_compared_with_its_first_part(study: Path, values: tuple[float, ...], told: str) -> None:
    found = findings(study, arm("none", 0.8), arm("eca", 0.8, 0.8, 0.8), arm("eca-spatial", *values))
    assert found["What the chain adds"] == f"eca-spatial over eca: {told}."


def test_seeds_not_in_common_are_not_compared(study: Path) -> None:
    found = findings(study, arm("none", 0.8), arm("eca", 0.8), arm("eca-spatial", 0.9, seeds=(2,)))
    assert found["What the chain adds"] == "eca-spatial over eca: no seed in common with eca, so nothing can be told."


def test_a_chain_without_its_first_part_is_not_compared(study: Path) -> None:
    assert "What the chain adds" not in findings(study, arm("none", 0.8), arm("eca-spatial", 0.9, 0.9))
    empty = ArmResult("eca", (), ())
    assert "What the chain adds" not in findings(study, arm("none", 0.8), empty, arm("eca-spatial", 0.9, 0.9))


def test_a_pair_with_the_baseline_is_left_to_the_table(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | {"baseline": "eca"}))
    assert "What the chain adds" not in findings(study, arm("eca", 0.8, 0.8), arm("eca-spatial", 0.9, 0.8))


def test_several_chains_are_corrected_for_their_number(study: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    next(entry for entry in plan["arms"] if entry["arm"] == "bam").update(mechanism="eca+se")
    (study / "study.json").write_text(json.dumps(plan))
    chained = arm("eca-spatial", 0.82, 0.82, 0.83), arm("bam", 0.78, 0.78, 0.77)
    told = findings(study, arm("none", 0.8), arm("eca", 0.8, 0.8, 0.8), *chained)["What the chain adds"]
    assert told.startswith("eca-spatial over eca: +2.3 points")
    assert "; bam over eca: " in told
    assert told.count("corrected p 0.038, at 3 seeds") == 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0.82, 0.82, 0.83), ", p 0.024, at 3 seeds: gains beyond size."),
        ((0.78, 0.78, 0.77), ", p 0.024, at 3 seeds: loses to size alone."),
        ((0.79, 0.81, 0.83), ", p 0.51, at 3 seeds: no difference shown, so the gain may be owed to size."),
    ],
)
def test_an_arm_that_gains_is_compared_with_the_widened_host(study: Path, values: tuple[float, ...], told: str) -> None:
    arms = arm("none", 0.7, 0.7, 0.7), arm("cbam", *values, verdict=BETTER), arm("placebo", 0.9, 0.9, 0.9)
    found = findings(study, *arms, arm("wider", 0.8, 0.8, 0.8, verdict=BETTER))
    assert found["More than size"].startswith("cbam over wider: ")
    assert found["More than size"].endswith(told)
    assert "More than size" not in findings(study, *arms)


def test_a_gain_is_corrected_for_every_mechanism_that_could_have_gained(study: Path) -> None:
    gained = arm("cbam", 0.80, 0.83, 0.83, verdict=BETTER)
    wider, none = arm("wider", 0.79, 0.80, 0.81), arm("none", 0.7, 0.7)
    others = [arm(name, 0.79 + shift, 0.8, 0.81) for name, shift in (("se", 0.01), ("eca", -0.01))]
    alone = findings(study, none, gained, wider)["More than size"]
    told = findings(study, none, gained, *others, wider)["More than size"]
    assert ", p 0." in alone
    compared = {each.arm: dict(enumerate(each.values)) for each in (gained, *others, wider)}
    expected = compare_to_baseline(compared, "wider")["cbam"].p
    assert "cbam over wider: +2.0 points [" in told
    assert f", corrected p {expected:.3f}, at 3 seeds" in told
    assert "se over" not in told


def test_the_named_chains_are_those_of_the_catalogue() -> None:
    assert {name: entry.parts[0] for name, entry in MECHANISMS.items() if entry.parts} == FIRST_PARTS
