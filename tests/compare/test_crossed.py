"""The variance over seeds and cases, worked out by hand."""

import numpy as np
import pytest

from foveate.compare.crossed import crossed_variance
from foveate.compare.moderated import Variance

# Residuals of -1 and 1 around a mean of 0.5: a residual mean square of 4 with one degree of freedom, 1 of each mean.
TABLE = np.array([[1.5, -0.5], [-0.5, 1.5]])


def test_the_residual_that_both_parts_hold_is_subtracted_once():
    found = crossed_variance(TABLE, Variance(3.0, 2.0), Variance(2.5, 4.0))
    assert found.value == pytest.approx(3.0 + (2.5 - 1.0))
    assert found.df == pytest.approx(4.5**2 / (3.0**2 / 2 + 1.5**2 / 4))


def test_seeds_that_lie_close_by_chance_vary_by_the_residual_at_least():
    assert crossed_variance(TABLE, Variance(0.1, 2.0), Variance(1.0, 4.0)) == Variance(1.0, 2.0)


def test_cases_add_nothing_below_the_residual():
    assert crossed_variance(TABLE, Variance(3.0, 2.0), Variance(0.2, 4.0)) == Variance(3.0, 2.0)
