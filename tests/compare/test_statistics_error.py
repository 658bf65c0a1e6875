"""Error rates, coverage and power of the statistical core in simulated studies with fixed seeds.

A study's values are arm + seed's effect + noise whose standard deviation differs by arm, lognormally with `spread`. The
bounds are the promised rates plus three standard errors of the simulation.
"""

import numpy as np
import pytest

from foveate.compare.statistics import UNSHOWN, compare_pairs, compare_to_baseline, compare_to_baseline_by_case


def noise(random, shape, heavy):
    """Standard normal noise, or of Student's t with four degrees of freedom, scaled to a variance of one."""
    return random.standard_t(4, shape) / 2**0.5 if heavy else random.standard_normal(shape)


def studies(count, arms, seeds, spread=0.5, heavy=False, wide_baseline=1.0, random_seed=0):
    """Values (study, arm, seed) without any true difference, and the standard deviations (study, arm)."""
    random = np.random.default_rng(random_seed)
    sd = np.exp(spread * random.standard_normal((count, arms)))
    sd[:, 0] *= wide_baseline
    values = sd[..., None] * noise(random, (count, arms, seeds), heavy) + 2 * random.standard_normal((count, 1, seeds))
    return values, sd


def by_seed(values):
    """The mapping that `compare_to_baseline` takes."""
    return {f"arm{arm}": dict(enumerate(row)) for arm, row in enumerate(values.tolist())}


def error(values):
    """The share of studies in which an arm is called better or worse."""
    claims = [compare_to_baseline(by_seed(study), "arm0").values() for study in values]
    return sum(any(each.verdict != UNSHOWN for each in study) for study in claims) / len(values)


def power(arms, seeds, effect, count=400):
    """The share of studies that call an arm whose effect is in standard deviations of its paired difference."""
    values, sd = studies(count, arms, seeds)
    values[:, 1] += (effect * np.hypot(sd[:, 0], sd[:, 1]))[:, None]
    found = [compare_to_baseline(by_seed(study), "arm0")["arm1"].verdict for study in values]
    return sum(verdict == "better" for verdict in found) / count


def segmented(random, arms, seeds, cases, training=0.005, persisting=0.0, spread=0.0):
    """Dice by arm, seed and case without any true difference.

    Args:
        random: The generator.
        arms: Number of arms.
        seeds: Number of trainings of each.
        cases: Number of test cases.
        training: Standard deviation between trainings.
        persisting: Standard deviation of what an arm does on a case in every training.
        spread: Of the standard deviations of the arms, lognormally.
    """
    sd = np.exp(spread * random.standard_normal((arms, 1, 1)))
    dice = 0.8 + 0.1 * random.standard_normal((1, 1, cases)) + 0.01 * random.standard_normal((1, seeds, 1))
    dice = dice + training * sd * random.standard_normal((arms, seeds, 1))
    dice = dice + persisting * random.standard_normal((arms, 1, cases))
    return dice + 0.03 * sd * random.standard_normal((arms, seeds, cases))


def by_case(dice):
    """The mapping that `compare_to_baseline_by_case` takes."""
    names = [f"case{case}" for case in range(dice.shape[2])]
    return {
        f"arm{arm}": {seed: dict(zip(names, row, strict=True)) for seed, row in enumerate(rows)}
        for arm, rows in enumerate(dice.tolist())
    }


def error_by_case(count, *shape, random_seed=0, **scenario):
    random = np.random.default_rng(random_seed)
    claims = 0
    for _ in range(count):
        found = compare_to_baseline_by_case(by_case(segmented(random, *shape, **scenario)), "arm0")
        claims += any(each.verdict != UNSHOWN for each in found.values())
    return claims / count


def bound(rate, count):
    """The rate plus three standard errors."""
    return rate + 3 * (rate * (1 - rate) / count) ** 0.5


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (4, 3), (8, 3), (12, 2)])
def test_studies_without_a_difference_seldom_claim_one(arms, seeds):
    assert error(studies(400, arms, seeds)[0]) <= bound(0.05, 400)


def test_accuracies_in_steps_of_one_image_seldom_claim_anything():
    values = np.round(studies(400, 4, 3, spread=0.0)[0] * 1.5) / 1.5
    assert error(values) <= bound(0.05, 400)


def test_missing_runs_do_not_raise_the_error():
    random = np.random.default_rng(3)
    claims = 0
    for study in studies(300, 6, 4)[0]:
        arms = by_seed(study)
        for arm in random.choice(6, 3):
            arms[f"arm{arm}"].pop(int(random.integers(4)), None)
        claims += any(each.verdict != UNSHOWN for each in compare_to_baseline(arms, "arm0").values())
    assert claims / 300 <= bound(0.05, 300)


def test_pairs_that_share_no_arm_seldom_claim_anything():
    claims = 0
    for study in studies(300, 7, 3)[0]:
        found = compare_pairs(by_seed(study), [("arm1", "arm2"), ("arm3", "arm4"), ("arm5", "arm6")])
        claims += any(each.verdict != UNSHOWN for each in found)
    assert claims / 300 <= bound(0.05, 300)


@pytest.mark.parametrize(
    ("seeds", "effect", "least"), [(3, 4, 0.80), (3, 2, 0.33), (5, 2, 0.60)], ids=["3-4", "3-2", "5-2"]
)
def test_three_seeds_of_eight_arms_see_what_was_promised(seeds, effect, least):
    assert power(8, seeds, effect) >= least - 2 * (least * (1 - least) / 400) ** 0.5


@pytest.mark.parametrize("training", [0.002, 0.01])
def test_many_cases_of_three_trainings_seldom_claim_a_difference(training):
    assert error_by_case(200, 3, 3, 52, training=training) <= bound(0.05, 200)


def test_what_an_arm_does_on_single_cases_in_every_training_is_no_difference():
    assert error_by_case(200, 4, 3, 30, training=0.001, persisting=0.05) <= bound(0.05, 200)


@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "rate"),
    [
        ({"spread": 0.0}, 0.05),
        ({"spread": 0.0, "heavy": True}, 0.05),
        ({"spread": 0.5}, 0.05),
        ({"spread": 0.5, "heavy": True}, 0.05),
        ({"spread": 0.0, "wide_baseline": np.exp(0.5)}, 0.07),
        ({"spread": 0.8}, 0.10),
        ({"spread": 0.8, "heavy": True}, 0.10),
        ({"spread": 0.0, "wide_baseline": np.exp(0.8)}, 0.10),
    ],
    ids=["equal", "equal-t4", "0.5", "0.5-t4", "baseline-0.5", "0.8", "0.8-t4", "baseline-0.8"],
)
@pytest.mark.parametrize(
    ("arms", "seeds"), [(2, 3), (3, 3), (5, 3), (8, 3), (12, 3), (4, 5), (12, 5), (3, 10), (12, 10)]
)
def test_simultaneous_intervals_cover_what_was_promised(arms, seeds, scenario, rate):
    assert error(studies(1500, arms, seeds, random_seed=arms * seeds, **scenario)[0]) <= bound(rate, 1500)


@pytest.mark.long
@pytest.mark.parametrize(
    "scenario",
    [
        {"training": 0.002},
        {"training": 0.01},
        {"persisting": 0.02},
        {"training": 0.0, "persisting": 0.05},
        {"spread": 0.5},
    ],
    ids=lambda scenario: "-".join(scenario),
)
@pytest.mark.parametrize(
    "shape", [(2, 3, 52), (3, 3, 52), (8, 3, 52), (12, 3, 10), (4, 3, 200), (8, 5, 52), (4, 2, 52)]
)
def test_intervals_over_seeds_and_cases_cover_what_was_promised(shape, scenario):
    assert error_by_case(600, *shape, **scenario) <= bound(0.05, 600)
