"""Moderated variances worked out by hand, and unbiased where arms and seeds are missing."""

import numpy as np
import pytest

from foveate.compare.moderated import Variance, fit_balanced_variances, fit_variances, satterthwaite


def test_two_arms_share_the_variance_of_their_paired_difference():
    # differences 1, 2, 3 have variance 1, half of it each; two degrees of freedom in all
    found = fit_variances({"none": {0: 2.0, 1: 3.0, 2: 4.0}, "se": {0: 3.0, 1: 5.0, 2: 7.0}})
    assert found.by_arm["none"].value == pytest.approx(0.5)
    assert found.of_difference("se", "none", 3).value == pytest.approx(1 / 3)
    assert found.of_difference("se", "none", 3).df == pytest.approx(2)


def test_the_seeds_effect_does_not_count():
    values = {"a": {0: 0.1, 1: 0.4, 2: 0.2}, "b": {0: 0.3, 1: 0.3, 2: 0.1}, "c": {0: 0.2, 1: 0.6, 2: 0.7}}
    shifted = {arm: {seed: value + 10 * seed for seed, value in row.items()} for arm, row in values.items()}
    for arm, variance in fit_variances(values).by_arm.items():
        assert fit_variances(shifted).by_arm[arm].value == pytest.approx(variance.value)


def test_a_balanced_table_is_fitted_as_any_other():
    table = np.random.default_rng(0).normal(size=(4, 5))
    values = {arm: dict(enumerate(row)) for arm, row in zip("abcd", table.tolist(), strict=True)}
    one, other = fit_variances(values), fit_balanced_variances("abcd", table)
    assert one.df == pytest.approx(other.df)
    for arm in "abcd":
        assert one.by_arm[arm].value == pytest.approx(other.by_arm[arm].value)
        assert one.by_arm[arm].df == pytest.approx(other.by_arm[arm].df)


def test_an_arm_is_drawn_towards_the_others():
    random = np.random.default_rng(1)
    table = random.normal(size=(6, 4)) * np.array([[0.01], [1], [1], [1], [1], [5]])
    found = fit_balanced_variances("abcdef", table)
    variances = [found.by_arm[arm].value for arm in "abcdef"]
    assert variances[0] > 0.01**2 * 10
    assert variances[5] == max(variances)


@pytest.mark.parametrize("missing", [[], [(1, 0), (2, 3), (2, 1)]])
def test_equal_variances_are_found_on_average(missing):
    random = np.random.default_rng(2)
    sums = np.zeros(4)
    for _ in range(400):
        values = {arm: dict(enumerate(random.normal(scale=2.0, size=4).tolist())) for arm in range(4)}
        for arm, seed in missing:
            del values[arm][seed]
        named = {str(arm): row for arm, row in values.items()}
        sums += [variance.value for variance in fit_variances(named).by_arm.values()]
    assert sums / 400 == pytest.approx([4.0] * 4, rel=0.12)


def test_the_noise_of_one_arm_is_not_put_down_to_the_others():
    table = np.random.default_rng(3).normal(size=(3, 400)) * np.array([[1.0], [1.0], [3.0]])
    found = fit_balanced_variances("abc", table)
    assert [found.by_arm[arm].value for arm in "abc"] == pytest.approx([1.0, 1.0, 9.0], abs=0.5)


def test_degrees_of_freedom_of_a_sum_are_satterthwaites():
    found = satterthwaite([Variance(1.0, 4.0), Variance(1.0, 4.0)])
    assert (found.value, found.df) == (2.0, 8.0)
    assert satterthwaite([Variance(3.0, 4.0), Variance(0.0, 9.0)]) == Variance(3.0, 4.0)
    assert satterthwaite([Variance(0.0, 4.0), Variance(0.0, 9.0)]) == Variance(0.0, 4.0)
