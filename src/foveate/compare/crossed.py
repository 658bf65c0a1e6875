"""The variance of a difference where every training is tested on the same cases: seeds and cases as crossed random effects.

Difference of two arms at seed s and case c = mean + training s + case c + residual. "Training" is how two trainings
happened to end; "case" is what an arm does on that case in every training. Both are random: another study would have other
trainings and other cases. The variance of the mean over S seeds and C cases is

    training / S + case / C + residual / (S C).

Its first and last part together are the variance over seeds of the mean over cases; the second comes from the mean
squares of the two-way table.

Cornfield and Tukey, "Average values of mean squares in factorials", Ann. Math. Statist. 1956,
https://doi.org/10.1214/aoms/1177728067: expected mean squares of crossed random effects.
Clark, "The language-as-fixed-effect fallacy", J. Verbal Learning and Verbal Behavior 1973,
https://doi.org/10.1016/S0022-5371(73)80014-3: the error of treating one of two random effects as fixed.
"""

import numpy as np

from foveate.compare.moderated import Variance, satterthwaite

__all__ = ["crossed_variance"]


def crossed_variance(differences: np.ndarray, over_seeds: Variance) -> Variance:
    """Return the variance of the mean difference, over trainings and over cases.

    Args:
        differences: (seed, case), two seeds and two cases or more.
        over_seeds: The variance of the mean due to the seeds, which holds the residual's part too.
    """
    seeds, cases = differences.shape
    by_case, by_seed = differences.mean(axis=0), differences.mean(axis=1)
    residuals = differences - by_case - by_seed[:, None] + differences.mean()
    residual = float((residuals**2).sum()) / ((seeds - 1) * (cases - 1))
    case = float(by_case.var(ddof=1)) - residual / seeds
    over_seeds = Variance(max(over_seeds.value, residual / (seeds * cases)), over_seeds.df)
    return satterthwaite([over_seeds, Variance(max(case, 0.0) / cases, cases - 1)])
