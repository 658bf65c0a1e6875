"""Critical values of the published tables, and of scipy where one comparison is made."""

import numpy as np
import pytest
from scipy import stats

from foveate.compare.dunnett import adjusted_p, critical_value


@pytest.mark.parametrize(
    ("comparisons", "df", "expected"), [(2, 10, 2.57), (3, 10, 2.76), (9, 10, 3.24), (2, 5, 3.03), (9, 5, 3.97)]
)
def test_critical_values_are_those_of_dunnetts_table(comparisons, df, expected):
    assert critical_value(comparisons, float(df), 0.5) == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("df", [1.0, 2.5, 30.0])
def test_one_comparison_is_a_t_test(df):
    assert critical_value(1, df, 0.5) == pytest.approx(stats.t.ppf(0.975, df))
    assert adjusted_p(-2.5, 1, df, 0.5) == pytest.approx(2 * stats.t.sf(2.5, df))


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_p_at_the_critical_value_is_alpha(correlation):
    assert adjusted_p(critical_value(7, 3.3, correlation), 7, 3.3, correlation) == pytest.approx(0.05, abs=1e-8)
    assert adjusted_p(critical_value(7, 3.3, correlation, 0.2), 7, 3.3, correlation) == pytest.approx(0.2, abs=1e-8)


def test_independent_comparisons_of_many_degrees_of_freedom_are_those_of_sidak():
    expected = stats.norm.ppf(1 - (1 - 0.95 ** (1 / 6)) / 2)
    assert critical_value(6, 1e6, 0.0) == pytest.approx(expected, abs=1e-4)


def test_p_is_the_simulated_probability():
    random = np.random.default_rng(0)
    shared, own = random.standard_normal((40_000, 1)), random.standard_normal((40_000, 5))
    largest = np.abs(own - shared).max(axis=1) / np.sqrt(2) / np.sqrt(random.chisquare(4, 40_000) / 4)
    assert adjusted_p(3.0, 5, 4.0, 0.5) == pytest.approx((largest > 3).mean(), abs=0.005)
    assert adjusted_p(0.0, 5, 4.0, 0.5) == pytest.approx(1.0)
