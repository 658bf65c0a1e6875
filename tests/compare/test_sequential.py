"""Looks at a study of growing size: what each settles, what error it may spend, and what all of them cost."""

import itertools

import numpy as np
import pytest

from foveate.compare.sequential import (
    OUT_OF_REACH,
    PRECISE,
    Rule,
    differences,
    levels,
    look,
    looks,
    next_runs,
    replay,
    settled_in,
)
from foveate.compare.statistics import ALPHA, BETTER, UNSHOWN, Difference, compare_to_baseline

NARROW = 1e-9  # a precision that no interval has
TEN = Rule(10)


class Study:
    """Values (arm, seed) of a study whose runs are all there, and the looks at it."""

    def __init__(self, values, rule, precision=NARROW):
        self.arms = [f"arm{arm}" for arm in range(len(values))]
        self.values = {arm: row.tolist() for arm, row in zip(self.arms, values, strict=True)}
        self.rounds = []
        every = {arm: range(values.shape[1]) for arm in self.arms}
        while next_runs(rule, self.arms, "arm0", self.rounds):
            self.rounds.append(look(self.compare, rule, self.arms, "arm0", self.rounds, every, precision))

    def compare(self, runs, level):
        values = {arm: {seed: self.values[arm][seed] for seed in seeds} for arm, seeds in runs.items()}
        return compare_to_baseline(values, "arm0", alpha=level)

    @property
    def claims(self):
        return [arm for arm, how in settled_in(self.rounds).items() if how in ("better", "worse")]


def values(effects, studies, seeds=10, spread=0.5, heavy=False, random_seed=0):
    """Values (study, arm, seed) of a baseline and arms; effects are in standard deviations of a paired difference."""
    random = np.random.default_rng(random_seed)
    shape = (studies, len(effects) + 1, seeds)
    sd = np.exp(spread * random.standard_normal(shape[:2]))
    noise = random.standard_t(4, shape) / 2**0.5 if heavy else random.standard_normal(shape)
    found = sd[..., None] * noise + 2 * random.standard_normal((studies, 1, seeds))
    found[:, 1:] += (np.array(effects) * np.hypot(sd[:, :1], sd[:, 1:]))[..., None]
    return found


def crossings(bounds, times, count=40_000):
    """The share of random walks whose standardised value lies beyond a bound at any time."""
    steps = np.random.default_rng(0).standard_normal((count, len(times))) * np.sqrt(np.diff(times, prepend=0))
    return (np.abs(np.cumsum(steps, axis=1) / np.sqrt(times)) > bounds).any(axis=1).mean()


def claimed(low, mean, high, error=1.0):
    verdict = BETTER if low is not None and low > 0 else UNSHOWN
    return Difference(mean=mean, low=low, high=high, verdict=verdict, error=error)


def settled_by(difference, rule=TEN, precision=NARROW, seeds=5):
    """How a look at one arm settles it."""
    runs = {"none": tuple(range(seeds)), "se": tuple(range(seeds))}
    rounds = []
    for count in range(3, seeds + 1):
        now = difference if count == seeds else Difference(mean=1.0)
        told = look(lambda *_, now=now: {"se": now}, rule, ["none", "se"], "none", rounds, runs, precision)
        rounds.append(told)
    return rounds[-1].settled.get("se")


def test_looks_begin_at_three_seeds_and_end_at_the_most():
    assert looks(5) == (3, 4, 5)


def test_a_single_look_has_the_whole_error():
    assert levels(3, 4) == pytest.approx((ALPHA,))


@pytest.mark.parametrize("most", [4, 10, 20])
def test_all_looks_at_one_comparison_cross_as_often_as_the_error_says(most):
    from scipy.special import ndtri

    times = np.array(looks(most)) / most
    assert crossings(-ndtri(np.array(levels(most, 1)) / 2), times) == pytest.approx(ALPHA, abs=0.004)


def test_more_comparisons_share_less_error_among_looks():
    assert all(many < one for one, many in zip(levels(10, 1)[1:], levels(10, 11)[1:], strict=True))


def test_levels_never_exceed_the_error():
    assert all(
        0 < level <= ALPHA for most, arms in itertools.product((3, 4, 10, 30), (1, 11)) for level in levels(most, arms)
    )


@pytest.mark.parametrize(
    ("difference", "how"),
    [
        (claimed(0.1, 1.0, 1.9), "better"),
        (claimed(-0.4, 0.0, 0.4, 0.1), PRECISE),
        (claimed(-3.0, 0.0, 3.0), OUT_OF_REACH),
        (claimed(-0.5, 2.0, 4.5), None),
        (claimed(None, 1.0, None, None), None),
        (claimed(0.0, 0.0, 0.0, None), PRECISE),
    ],
    ids=["shown", "narrow", "hopeless", "may still be shown", "without an interval", "placebo"],
)
def test_a_look_settles_what_is_shown_narrow_or_out_of_reach(difference, how):
    assert settled_by(difference, precision=0.5) == how


def test_an_arm_that_can_still_become_narrow_enough_goes_on():
    assert settled_by(claimed(-3.0, 0.0, 3.0), precision=2.5) is None


def test_the_last_look_leaves_open_what_it_does_not_show():
    assert settled_by(claimed(-3.0, 0.0, 3.0), Rule(5)) is None


def test_settled_arms_get_no_more_seeds_and_the_baseline_goes_on():
    study = Study(values([8.0, 0.0], 1)[0], Rule(10))
    first, last = study.rounds[0], study.rounds[-1]
    assert first.settled == {"arm1": "better"}
    assert last.runs["arm1"] == (0, 1, 2)
    assert len(last.runs["arm0"]) == len(last.runs["arm2"]) > 3
    assert last.trainings == 3 + 2 * last.seeds
    assert last.fixed == 3 * last.seeds


def test_an_arm_keeps_the_interval_of_the_look_that_settled_it():
    study = Study(values([8.0, 0.0], 1)[0], Rule(10))
    found = differences(study.compare, study.rounds)
    assert found["arm1"] == study.compare(study.rounds[0].runs, study.rounds[0].level)["arm1"]
    assert found["arm2"] == study.compare(study.rounds[-1].runs, study.rounds[-1].level)["arm2"]


def test_the_shown_intervals_and_p_agree_with_what_was_settled():
    for each in values([3.0, 1.5, 0.0], 20):
        study = Study(each, Rule(8))
        found = differences(study.compare, study.rounds)
        assert {arm for arm, told in found.items() if told.low > 0 or told.high < 0} == set(study.claims)
        assert {arm for arm, told in found.items() if told.p < ALPHA} == set(study.claims)


def test_looks_are_the_same_when_they_are_computed_anew():
    for each in values([3.0, 0.0], 10):
        study = Study(each, Rule(8))
        assert replay(study.compare, Rule(8), study.rounds) == study.rounds


def test_arms_left_behind_are_looked_at_with_the_seeds_of_the_others_first():
    arms, compare = ["none", "se", "eca"], lambda *_: {arm: Difference(mean=1.0) for arm in ("se", "eca")}
    finished = {"none": range(3), "se": range(3), "eca": range(2)}
    rounds = [look(compare, Rule(), arms, "none", [], finished, NARROW, without={"eca"})]
    assert rounds[0].arms == ("se",)
    assert next_runs(Rule(), arms, "none", rounds) == (3, {"none": (0, 1, 2), "eca": (0, 1, 2)})
    assert next_runs(Rule(), arms, "none", rounds, without={"eca"}) == (4, {"none": (0, 1, 2, 3), "se": (0, 1, 2, 3)})


def test_without_the_baseline_there_is_no_look():
    assert next_runs(Rule(), ["none", "se"], "none", [], without={"none"}) is None
    with pytest.raises(ValueError, match="a look needs an arm that is open; every arm is settled or was left behind"):
        look(lambda *_: {}, Rule(), ["none", "se"], "none", [], {}, NARROW, without={"se"})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"most": 2}, "seeds that are added in rounds are 3 or more; got 2"),
        ({"precision": 0.0}, "precision must be more than zero; got 0.0"),
        ({"precision": float("nan")}, "precision must be more than zero; got nan"),
        ({"total_time_s": -1.0}, "total_time_s must be more than zero; got -1.0"),
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        Rule(**wrong)


def error(effects, studies, **how):
    """The share of simulated studies that claim something."""
    return sum(bool(Study(each, Rule()).claims) for each in values(effects, studies, **how)) / studies


def bound(studies, rate=0.05):
    """The rate plus three standard errors."""
    return rate + 3 * (rate * (1 - rate) / studies) ** 0.5


@pytest.mark.parametrize("arms", [2, 4])
def test_studies_without_a_difference_seldom_claim_one(arms):
    assert error([0.0] * (arms - 1), 100) <= bound(100)


def test_no_arm_out_of_reach_is_needed_to_hold_the_error(monkeypatch):
    monkeypatch.setattr("foveate.compare.sequential.LEAST_CHANCE", 0.0)
    assert error([0.0] * 3, 60) <= bound(60)


@pytest.mark.long
@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "t4"])
@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("arms", [2, 3, 5, 8, 12])
def test_the_family_wise_error_of_all_looks_is_five_percent(arms, spread, heavy, monkeypatch):
    monkeypatch.setattr("foveate.compare.sequential.LEAST_CHANCE", 0.0)  # the worst case: nobody stops early
    assert error([0.0] * (arms - 1), 400, spread=spread, heavy=heavy) <= bound(400)


@pytest.mark.long
def test_trainings_are_saved_at_the_power_of_a_fixed_number_of_seeds():
    effects = [0.0, 0.0, 0.0, 0.0, 1.5, 3.0, 3.0, 4.0, 4.0, 5.0, 6.0]
    simulated = values(effects, 200)
    studies = [Study(each, Rule()) for each in simulated]
    fixed = [
        Study(each[:, :7], Rule(7)).compare({f"arm{arm}": tuple(range(7)) for arm in range(12)}, ALPHA)
        for each in simulated
    ]
    shown = sum("arm5" in study.claims for study in studies)
    assert shown >= sum(each["arm5"].verdict == BETTER for each in fixed) - 12
    assert sum(study.rounds[-1].trainings for study in studies) <= 0.7 * 200 * 12 * 7
