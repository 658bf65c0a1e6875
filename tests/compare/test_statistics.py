"""Numbers worked out by hand, the same from scipy.stats, and the cases where little can be said."""

import math

import pytest
from scipy import stats

from foveate.compare.statistics import (
    BETTER,
    UNSHOWN,
    WORSE,
    Difference,
    holm,
    mean_interval,
    paired_difference,
    verdict,
)


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


def test_the_paired_difference_is_the_one_worked_out_by_hand():
    # differences 1, 2, 3: t = 2 / 0.57735 = 3.4641, and for two degrees of freedom p = 1 - t / sqrt(t ** 2 + 2)
    difference = paired_difference({0: 3.0, 1: 5.0, 2: 7.0}, {0: 2.0, 1: 3.0, 2: 4.0})
    t = 2 * math.sqrt(3)
    assert (difference.pairs, difference.mean) == (3, 2.0)
    assert difference.p == pytest.approx(1 - t / math.sqrt(t**2 + 2), abs=1e-12)
    assert difference.low == pytest.approx(2 - 4.3026527 * 0.5773503, abs=1e-6)


def test_the_paired_difference_is_that_of_scipy():
    arm, baseline = [0.91, 0.9, 0.95, 0.92, 0.89], [0.9, 0.87, 0.93, 0.93, 0.85]
    expected = stats.ttest_rel(arm, baseline)
    low, high = expected.confidence_interval(0.95)
    difference = paired_difference(dict(enumerate(arm)), dict(enumerate(baseline)))
    assert difference.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (difference.low, difference.high) == pytest.approx((low, high), rel=1e-9)


def test_only_seeds_that_both_have_are_paired():
    difference = paired_difference({0: 2.0, 1: 9.0, 2: 3.0, 3: 5.0}, {3: 2.0, 0: 1.0, 2: 1.0, 7: 0.0})
    assert difference.pairs == 3
    assert difference.mean == pytest.approx((1 + 2 + 3) / 3)


def test_arms_without_a_common_seed_have_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) == Difference(0, None, None, None, None)


def test_one_common_seed_gives_a_difference_and_nothing_else():
    assert paired_difference({0: 3.0, 1: 4.0}, {1: 3.5}) == Difference(1, 0.5, None, None, None)


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_a_placebo_differs_by_exactly_nothing(seeds):
    same = {seed: 0.1 * seed + 0.3 for seed in range(seeds)}
    difference = paired_difference(same, dict(same))
    assert difference == Difference(seeds, 0.0, 0.0, 0.0, 1.0)
    assert verdict(difference, 1.0, higher_is_better=True) == UNSHOWN


@pytest.mark.parametrize(("seeds", "p"), [(2, 0.5), (3, 0.25), (5, 0.0625)])
def test_equal_differences_over_few_seeds_claim_nothing(seeds, p):
    # 0.3 - 0.2 and 0.4 - 0.3 differ in the last bits: a t test of them would have p = 1e-15
    baseline = {seed: (2 + seed) / 10 for seed in range(seeds)}
    arm = {seed: (3 + seed) / 10 for seed in range(seeds)}
    assert len({arm[seed] - baseline[seed] for seed in range(seeds)}) > 1
    difference = paired_difference(arm, baseline)
    assert difference.mean == pytest.approx(0.1)
    assert (difference.low, difference.high, difference.p) == (None, None, p)
    assert verdict(difference, p, higher_is_better=True) == UNSHOWN


def test_equal_differences_over_many_seeds_are_evidence():
    difference = paired_difference(dict.fromkeys(range(7), 0.6), dict.fromkeys(range(7), 0.5))
    assert (difference.low, difference.high, difference.p) == (None, None, 2.0**-6)
    assert verdict(difference, difference.p, higher_is_better=True) == BETTER
    assert verdict(difference, difference.p, higher_is_better=False) == WORSE


def test_small_values_are_not_taken_for_rounding():
    difference = paired_difference({0: 1.1e-7, 1: 1.3e-7, 2: 1.2e-7}, {0: 1.0e-7, 1: 1.0e-7, 2: 1.0e-7})
    assert difference.p == pytest.approx(stats.ttest_1samp([0.1, 0.3, 0.2], 0).pvalue, rel=1e-6)


def test_holm_is_the_correction_worked_out_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04, and never below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stays_a_probability_and_passes_over_tests_not_made():
    assert holm([0.9, None, 0.4]) == [0.9, None, 0.8]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None]) == [None]


@pytest.mark.parametrize(
    ("low", "high", "p", "higher", "expected"),
    [
        (0.01, 0.05, 0.01, True, BETTER),
        (0.01, 0.05, 0.01, False, WORSE),
        (-0.05, -0.01, 0.01, True, WORSE),
        (-0.05, -0.01, 0.01, False, BETTER),
        (0.01, 0.05, 0.05, True, UNSHOWN),  # the interval alone excludes zero: not after the correction
        (0.0, 0.05, 0.01, True, UNSHOWN),  # an interval that holds zero at its end
        (-0.01, 0.05, 0.01, True, UNSHOWN),
        (None, None, 0.01, True, BETTER),  # equal differences: p alone
        (None, None, 0.06, True, UNSHOWN),
        (0.01, 0.05, None, True, UNSHOWN),
    ],
)
def test_a_claim_takes_both_the_interval_and_the_corrected_p(low, high, p, higher, expected):
    mean = -0.03 if low is not None and low < -0.01 else 0.03
    assert verdict(Difference(3, mean, low, high, p), p, higher_is_better=higher) == expected
