"""Critical values and adjusted p values for several comparisons at once.

Dunnett, "A multiple comparison procedure for comparing several treatments with a control", JASA 1955,
https://doi.org/10.1080/01621459.1955.10501294: differences to one shared baseline have correlation 0.5.
Sidak, "Rectangular confidence regions for the means of multivariate normal distributions", JASA 1967,
https://doi.org/10.1080/01621459.1967.10482935: correlation 0 bounds the error of any other set of differences.

Both need the distribution of the largest of k t statistics with one scale in common, a double integral over the
shared normal variable and over the scale. The quadrature is fixed, so the same study always gives the same numbers.
"""

import functools
import math

import numpy as np
from scipy import optimize, special

__all__ = ["adjusted_p", "critical_value"]

NORMAL_NODES, NORMAL_WEIGHTS = np.polynomial.hermite_e.hermegauss(48)
NORMAL_WEIGHTS = NORMAL_WEIGHTS / NORMAL_WEIGHTS.sum()
SCALE_NODES, SCALE_WEIGHTS = np.polynomial.legendre.leggauss(64)
SCALE_NODES, SCALE_WEIGHTS = (SCALE_NODES + 1) / 2, SCALE_WEIGHTS / 2
LARGEST = 1e4  # beyond every critical value; df is 1 or more


def adjusted_p(t: float, comparisons: int, df: float, correlation: float) -> float:
    """Return the probability that the largest of `comparisons` absolute t statistics exceeds abs(t) by chance.

    Args:
        t: The t statistic of one comparison.
        comparisons: The number of comparisons that are made together.
        df: Degrees of freedom, 1 or more.
        correlation: The correlation of the statistics: 0.5 with a shared baseline, 0 for a bound that always holds.
    """
    if comparisons == 1:
        return float(2 * special.stdtr(df, -abs(t)))
    scale = _scales(df)[:, None]
    shift = math.sqrt(correlation / (1 - correlation)) * NORMAL_NODES
    reach = abs(t) * scale / math.sqrt(1 - correlation)
    below = (special.ndtr(shift + reach) - special.ndtr(shift - reach)) ** comparisons
    return min(1.0, max(0.0, 1.0 - float(SCALE_WEIGHTS @ below @ NORMAL_WEIGHTS)))


@functools.lru_cache(maxsize=4096)
def critical_value(comparisons: int, df: float, correlation: float, alpha: float = 0.05) -> float:
    """Return the t whose adjusted p is alpha.

    Args:
        comparisons: As in `adjusted_p`.
        df: Likewise.
        correlation: Likewise.
        alpha: The probability of one false claim or more.
    """
    found = optimize.root_scalar(
        lambda t: adjusted_p(t, comparisons, df, correlation) - alpha, bracket=(0.5, LARGEST), xtol=1e-10
    )
    return float(found.root)


@functools.lru_cache(maxsize=4096)
def _scales(df: float) -> np.ndarray:
    """Quantiles of sqrt(chi squared / df)."""
    return np.sqrt(special.chdtri(df, 1 - SCALE_NODES) / df)
