"""Each arm's variance over trainings, moderated by the variances of the other arms.

Value of arm a at seed s = arm + seed + residual, where the residual of each arm has a variance of its own. Arm and seed
are fitted by least squares. With few seeds an arm's own residuals say little about its variance, so every arm's
estimate is drawn towards the pool of all arms.

Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments",
Stat. Appl. Genet. Mol. Biol. 2004, https://doi.org/10.2202/1544-6115.1027: moderated variances. Smyth estimates the
weight of the pool from the data, of thousands of genes. A study has few arms, and simulated studies lose both power and
error control by estimating it (docs/statistics.md), so that the weight is fixed: POOL_DF.
Grubbs, "On estimating precision of measuring instruments and product variability", JASA 1948,
https://doi.org/10.1080/01621459.1948.10483261: variances of single arms where only differences can be seen.
Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 1946,
https://doi.org/10.2307/3002019: the degrees of freedom of a sum of variances.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ModeratedVariances", "Variance", "fit_balanced_variances", "fit_variances", "satterthwaite"]

POOL_DF = 1.0  # degrees of freedom that the pool of all arms counts for
SMALLEST_SHARE = 0.1  # an arm's variance is at least this share of its moderated residual mean square
ROUNDING = 1e-9  # residuals below this share of the largest value are zero


@dataclass(frozen=True)
class Variance:
    """A variance estimate and its degrees of freedom."""

    value: float
    df: float


@dataclass(frozen=True)
class ModeratedVariances:
    """The moderated variance of one training of each arm.

    Args:
        by_arm: Variance by arm.
        df: Residual degrees of freedom of the whole fit, an upper bound for those of any difference.
    """

    by_arm: Mapping[str, Variance]
    df: float

    def of_difference(self, arm: str, other: str, count: int) -> Variance:
        """Return the variance of the mean difference of two arms over `count` shared seeds, or cases."""
        total = satterthwaite([self.by_arm[arm], self.by_arm[other]])
        return Variance(total.value / count, min(total.df, self.df))


def fit_variances(values: Mapping[str, Mapping[int, float]]) -> ModeratedVariances:
    """Fit arm and seed effects and estimate the variance of each arm's residuals.

    Args:
        values: Value by arm and seed. Arms may have different seeds, or none.
    """
    arms = list(values)
    cells = tuple((index, seed) for index, arm in enumerate(arms) for seed in values[arm])
    if not cells:
        return ModeratedVariances({}, 0.0)
    y = np.array([values[arms[index]][seed] for index, seed in cells])
    maker, arm_of = _residual_maker(cells), np.array([index for index, _ in cells])
    residuals = maker @ y
    residuals[np.abs(residuals) <= ROUNDING * np.abs(y).max()] = 0.0
    member = (arm_of == np.arange(len(arms))[:, None]).astype(float)  # (arm, cell)
    squares, df = member @ residuals**2, member @ np.diag(maker)
    # The mean square of an arm's residuals mixes the variances of all arms, since all estimate the seed effects.
    mixing = member @ maker**2 @ member.T / np.maximum(df, 1e-12)[:, None]
    mixing[df < 1e-9] = 1 / len(arms)
    return _moderated(arms, squares, df, mixing)


def fit_balanced_variances(arms: Sequence[str], table: np.ndarray) -> ModeratedVariances:
    """Fit as `fit_variances` does, where every arm has the same seeds, or the same cases.

    Args:
        arms: Two or more.
        table: (arm, seed or case).
    """
    count, columns = table.shape
    residuals = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    df = np.full(count, (columns - 1) * (count - 1) / count)
    mixing = np.full((count, count), 1 / (count * (count - 1)))
    np.fill_diagonal(mixing, (count - 1) / count)
    return _moderated(arms, (residuals**2).sum(axis=1), df, mixing)


def _moderated(arms: Sequence[str], squares: np.ndarray, df: np.ndarray, mixing: np.ndarray) -> ModeratedVariances:
    """Draw each arm's mean square towards the pool, then take the variances of single arms out of the mixture."""
    pool = squares.sum() / max(df.sum(), 1e-12)
    moderated = (POOL_DF * pool + squares) / (POOL_DF + df)
    separate = np.linalg.lstsq(mixing, moderated, rcond=1e-6)[0]
    separate = np.maximum(separate, SMALLEST_SHARE * moderated)
    by_arm = {arm: Variance(float(separate[i]), POOL_DF + float(df[i])) for i, arm in enumerate(arms)}
    return ModeratedVariances(by_arm, float(df.sum()))


def satterthwaite(parts: Sequence[Variance]) -> Variance:
    """Return the sum of independent variance estimates with its approximate degrees of freedom."""
    total = sum(part.value for part in parts)
    spread = sum(part.value**2 / part.df for part in parts)
    return Variance(total, total**2 / spread if spread > 0 else min(part.df for part in parts))


@functools.lru_cache(maxsize=64)
def _residual_maker(cells: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return the matrix from the values of (arm, seed) cells to the residuals of the two-way additive model."""
    arms, seeds = (np.unique([cell[axis] for cell in cells], return_inverse=True)[1] for axis in (0, 1))
    design = np.hstack([np.eye(arms.max() + 1)[arms], np.eye(seeds.max() + 1)[seeds]])
    return np.eye(len(cells)) - design @ np.linalg.pinv(design)
