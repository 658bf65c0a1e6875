"""The answer of the statistical core in each situation, and hand-worked numbers where other arms play no part."""

import math

import pytest
from scipy import stats

from foveate.compare.statistics import (
    BETTER,
    UNSHOWN,
    WORSE,
    Difference,
    compare_pairs,
    compare_to_baseline,
    compare_to_baseline_by_case,
    mean_interval,
)

NONE = {0: 0.80, 1: 0.82, 2: 0.81, 3: 0.83}
SE = {0: 0.85, 1: 0.86, 2: 0.87, 3: 0.88}
ECA = {0: 0.80, 1: 0.83, 2: 0.80, 3: 0.83}


def cases(table):
    """Values by arm, seed and case from rows of numbers."""
    return {
        arm: {seed: {f"case{i}": value for i, value in enumerate(row)} for seed, row in rows.items()}
        for arm, rows in table.items()
    }


def test_the_interval_of_three_values_is_the_one_worked_out_by_hand():
    # mean 2, s = 1, s / sqrt(3) = 0.57735, t(0.975; 2) = 4.30265
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2 - 4.3026527 * 0.5773503, abs=1e-6)
    assert interval.high == pytest.approx(2 + 4.3026527 * 0.5773503, abs=1e-6)


@pytest.mark.parametrize("values", [[0.7, 0.9], [0.91, 0.87, 0.93, 0.9], [5.0, 3.0, 2.0, 7.0, 11.0, 13.0, 1.5]])
def test_the_interval_is_that_of_scipy(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)


def test_one_value_has_a_mean_and_no_interval():
    interval = mean_interval([0.8])
    assert (interval.mean, interval.low, interval.high) == (0.8, None, None)


def test_no_value_has_no_interval():
    with pytest.raises(ValueError, match="an interval takes one value or more; got none"):
        mean_interval([])


def test_two_arms_have_the_paired_t_interval_widened():
    # differences 1, 2, 3: t = 2 / 0.57735 = 3.4641 of two degrees of freedom, divided by 1 + 0.2 / 2 arms
    found = compare_to_baseline({"none": {0: 2.0, 1: 3.0, 2: 4.0}, "se": {0: 3.0, 1: 5.0, 2: 7.0}}, "none")["se"]
    t = 2 * math.sqrt(3) / 1.1
    assert (found.mean, found.by_seed, found.seeds, found.trainings) == (2.0, (1.0, 2.0, 3.0), 3, 6)
    assert found.p == pytest.approx(1 - t / math.sqrt(t**2 + 2), abs=1e-9)
    assert found.low == pytest.approx(2 - 1.1 * 4.3026527 * 0.5773503, abs=1e-6)


def test_an_arm_is_better_exactly_where_its_interval_excludes_zero():
    found = compare_to_baseline({"none": NONE, "se": SE, "eca": ECA}, "none")
    assert list(found) == ["se", "eca"]
    assert found["se"].low > 0
    assert found["se"].p < 0.05
    assert found["se"].verdict == BETTER
    assert found["eca"].low < 0 < found["eca"].high
    assert found["eca"].p > 0.05
    assert found["eca"].verdict == UNSHOWN


def test_where_lower_is_better_the_same_numbers_are_worse():
    found = compare_to_baseline({"none": NONE, "se": SE}, "none", higher_is_better=False)
    assert found["se"].verdict == WORSE
    assert compare_to_baseline({"none": SE, "se": NONE}, "none", higher_is_better=False)["se"].verdict == BETTER


def test_a_lower_value_is_worse():
    assert compare_to_baseline({"none": SE, "se": NONE}, "none")["se"].verdict == WORSE


def test_an_interval_grows_with_the_number_of_arms():
    alone = compare_to_baseline({"none": NONE, "se": SE, "a": ECA}, "none")["se"]
    many = compare_to_baseline({"none": NONE, "se": SE, **dict.fromkeys("abcdefgh", ECA)}, "none")["se"]
    assert many.mean == alone.mean
    assert many.p > alone.p


def test_a_study_could_have_seen_more_than_the_reach_of_its_interval():
    found = compare_to_baseline({"none": NONE, "se": SE, "eca": ECA}, "none")["eca"]
    assert (found.high - found.low) / 2 < found.detectable < found.high - found.low


def test_only_seeds_that_both_have_are_paired():
    found = compare_to_baseline({"none": NONE, "se": {0: 0.85, 2: 0.87, 3: 0.89, 9: 0.1}, "eca": ECA}, "none")["se"]
    assert (found.by_seed, found.trainings) == (pytest.approx((0.05, 0.06, 0.06)), 6)
    assert found.remark == "3 of 5 seeds in common with none"
    assert found.verdict == BETTER


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -1e300])
def test_a_value_that_is_no_number_is_a_run_that_is_not_there(missing):
    arms = {"none": NONE, "se": {**SE, 3: missing}, "eca": ECA}
    without = {"none": NONE, "se": {seed: SE[seed] for seed in (0, 1, 2)}, "eca": ECA}
    assert compare_to_baseline(arms, "none") == compare_to_baseline(without, "none")


def test_one_seed_has_a_difference_and_nothing_else():
    found = compare_to_baseline({"none": NONE, "se": {1: 0.9}, "eca": ECA}, "none")
    assert found["se"].mean == pytest.approx(0.08)
    assert (found["se"].low, found["se"].high, found["se"].p, found["se"].verdict) == (None, None, None, UNSHOWN)
    assert found["se"].remark == "1 of 4 seeds in common with none; one seed: no interval"
    assert found["eca"].low is not None


def test_an_arm_without_a_common_seed_has_no_difference():
    found = compare_to_baseline({"none": NONE, "se": {7: 0.9, 8: 0.9}, "eca": ECA}, "none")
    assert found["se"] == Difference(remark="no seed in common with none")
    assert found["eca"].low is not None


def test_a_metric_that_no_run_has_is_not_measured():
    assert compare_to_baseline({"none": {}, "se": {0: None}}, "none") == {"se": Difference(remark="not measured")}


def test_two_seeds_are_widened_and_this_is_said():
    found = compare_to_baseline({"none": {0: 0.5, 1: 0.6}, "se": {0: 0.6, 1: 0.8}}, "none")["se"]
    assert found.remark == "two seeds: a wider interval"
    assert found.high - found.mean == pytest.approx(1.2 * stats.t.ppf(0.975, 1) * 0.05)


def test_a_baseline_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match='the baseline must be one of the arms se, eca; got "none"'):
        compare_to_baseline({"se": SE, "eca": ECA}, "none")
    with pytest.raises(ValueError, match='the baseline must be one of the arms se; got "none"'):
        compare_to_baseline_by_case({"se": {}}, "none")


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_a_placebo_differs_by_exactly_nothing(seeds):
    same = {seed: 0.1 * seed + 0.3 for seed in range(seeds)}
    found = compare_to_baseline({"none": same, "placebo": dict(same)}, "none")["placebo"]
    assert (found.mean, found.low, found.high, found.p, found.verdict) == (0.0, 0.0, 0.0, 1.0, UNSHOWN)
    assert found.remark == "equal to none in every seed"


def test_a_placebo_does_not_change_what_is_said_of_the_others():
    alone = compare_to_baseline({"none": NONE, "se": SE, "eca": ECA}, "none")
    beside = compare_to_baseline({"none": NONE, "placebo": dict(NONE), "se": SE, "eca": ECA}, "none")
    assert {arm: beside[arm] for arm in alone} == alone
    rows = {"none": {0: [0.5, 0.6], 1: [0.52, 0.61]}, "se": {0: [0.6, 0.71], 1: [0.6, 0.7]}}
    alone = compare_to_baseline_by_case(cases(rows), "none")
    assert compare_to_baseline_by_case(cases({**rows, "placebo": rows["none"]}), "none")["se"] == alone["se"]


def test_pairs_with_a_placebo_have_the_variances_of_its_baseline():
    arms = {"none": NONE, "placebo": dict(NONE), "se": SE, "eca": ECA}
    first, second = compare_pairs(arms, [("se", "placebo"), ("se", "none")])
    assert (first.low, first.high) == (second.low, second.high)


def test_differences_of_rounding_alone_are_none():
    found = compare_to_baseline({"none": {0: 0.1 + 0.2, 1: 0.3}, "placebo": {0: 0.3, 1: 0.1 + 0.2}}, "none")["placebo"]
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_equal_differences_are_no_proof_by_their_missing_variance(seeds):
    # 0.3 - 0.2 and 0.4 - 0.3 differ in the last bits: a t test of them would have p = 1e-15
    baseline = {seed: (2 + seed) / 10 for seed in range(seeds)}
    arm = {seed: (3 + seed) / 10 for seed in range(seeds)}
    assert len({arm[seed] - baseline[seed] for seed in range(seeds)}) > 1
    found = compare_to_baseline({"none": baseline, "se": arm}, "none")["se"]
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high, found.p, found.verdict) == (None, None, None, UNSHOWN)
    assert found.remark == "equal differences: no spread to judge by"


def test_equal_differences_of_one_arm_are_judged_by_the_spread_of_the_others():
    noisy = {0: 0.80, 1: 0.90, 2: 0.75, 3: 0.88}
    equal = {seed: value + 0.01 for seed, value in NONE.items()}
    found = compare_to_baseline({"none": NONE, "se": equal, "a": noisy, "b": dict(zip(noisy, SE, strict=True))}, "none")
    assert found["se"].low < 0 < found["se"].high


def test_small_values_are_not_taken_for_rounding():
    found = compare_to_baseline(
        {"none": dict.fromkeys(range(3), 1.0e-7), "se": {0: 1.1e-7, 1: 1.3e-7, 2: 1.2e-7}}, "none"
    )
    assert found["se"].p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3) / 1.1, 2), rel=1e-6)


def test_pairs_are_compared_with_the_variances_of_all_arms():
    arms = {"none": NONE, "eca": ECA, "se": SE, "se+spatial": {seed: value + 0.05 for seed, value in ECA.items()}}
    first, second = compare_pairs(arms, [("se+spatial", "se"), ("se", "eca")])
    assert first.mean == pytest.approx(0.0)
    assert second.verdict == BETTER
    assert second.low > compare_pairs(arms, [("se", "eca")] * 9)[0].low


def test_pairs_are_bounded_more_widely_than_arms_with_a_shared_baseline():
    arms = {"none": NONE, "se": SE, "eca": ECA, "a": {seed: value + 0.001 * seed for seed, value in SE.items()}}
    shared = compare_to_baseline(arms, "none")
    for arm, pair in zip(shared, compare_pairs(arms, [(arm, "none") for arm in shared]), strict=True):
        assert pair.high - pair.low > shared[arm].high - shared[arm].low


def test_cases_with_no_spread_over_trainings_still_vary_by_case():
    # Each training repeats: differences 0.1, 0.2, 0.3, 0.4 of the cases in both seeds, whose t interval decides.
    arms = cases({"none": {0: [0.1] * 4, 1: [0.2] * 4}, "se": {0: [0.2, 0.3, 0.4, 0.5], 1: [0.3, 0.4, 0.5, 0.6]}})
    found = compare_to_baseline_by_case(arms, "none")["se"]
    assert (found.mean, found.by_seed, found.cases) == (pytest.approx(0.25), pytest.approx((0.25, 0.25)), 4)
    reach = 1.2 * stats.t.ppf(0.975, 3) * stats.sem([0.1, 0.2, 0.3, 0.4])
    assert (found.low, found.high) == pytest.approx((0.25 - reach, 0.25 + reach), rel=1e-6)


def test_cases_that_agree_still_vary_by_training():
    # The case means differ by 0.01 and 0.05: the paired t interval over the seeds.
    arms = cases({"none": {0: [0.5, 0.6], 1: [0.5, 0.6], 2: [0.5, 0.6]},
                  "se": {0: [0.51, 0.61], 1: [0.55, 0.65], 2: [0.53, 0.63]}})  # fmt: skip
    found = compare_to_baseline_by_case(arms, "none")["se"]
    reach = 1.1 * stats.t.ppf(0.975, 2) * stats.sem([0.01, 0.05, 0.03])
    assert (found.low, found.high) == pytest.approx((0.03 - reach, 0.03 + reach), rel=1e-6)


def test_many_cases_of_one_training_claim_nothing():
    arms = cases({"none": {0: [0.5 + i / 1000 for i in range(60)]}, "se": {0: [0.9 - i / 900 for i in range(60)]}})
    found = compare_to_baseline_by_case(arms, "none")["se"]
    assert (found.low, found.p, found.verdict, found.remark) == (None, None, UNSHOWN, "one seed: no interval")


def test_a_case_that_a_run_lacks_is_left_out_of_all_runs():
    arms = cases({"none": {0: [0.5, 0.6, 0.7], 1: [0.52, 0.61, 0.73]}, "se": {0: [0.6, 0.71, 0.8], 1: [0.6, 0.7, 0.9]}})
    arms["se"][1]["case2"] = math.nan
    found = compare_to_baseline_by_case(arms, "none")["se"]
    assert found.cases == 2
    assert found.by_seed == pytest.approx((0.105, 0.085))
    assert found.remark == "2 of 3 cases are in every run; two seeds: a wider interval"


def test_one_case_has_no_interval():
    arms = cases({"none": {0: [0.5], 1: [0.6]}, "se": {0: [0.6], 1: [0.8]}})
    found = compare_to_baseline_by_case(arms, "none")["se"]
    assert (found.mean, found.low, found.remark) == (pytest.approx(0.15), None, "one case: no interval")


def test_runs_without_a_common_case_have_no_difference():
    arms = {"none": {0: {"a": 0.5}, 1: {"a": 0.6}}, "se": {0: {"b": 0.5}, 1: {"b": 0.6}}}
    assert compare_to_baseline_by_case(arms, "none")["se"] == Difference(remark="no case that every run has")


def test_a_run_without_any_case_is_a_run_that_is_not_there():
    arms = cases({"none": {0: [0.5, 0.6], 1: [0.52, 0.61]}, "se": {0: [0.6, 0.71], 1: [None, None]}})
    found = compare_to_baseline_by_case(arms, "none")["se"]
    assert (found.seeds, found.cases) == (1, 2)
    assert found.remark == "1 of 2 seeds in common with none; one seed: no interval"


def test_a_placebo_differs_by_nothing_in_every_case():
    arms = cases({arm: {0: [0.5, 0.6], 1: [0.52, 0.61]} for arm in ("none", "placebo")})
    found = compare_to_baseline_by_case(arms, "none")["placebo"]
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)


def test_no_arm_but_the_baseline_is_nothing_to_compare():
    assert compare_to_baseline({"none": NONE}, "none") == {}
    assert compare_to_baseline_by_case(cases({"none": {0: [0.5, 0.6]}}), "none") == {}
