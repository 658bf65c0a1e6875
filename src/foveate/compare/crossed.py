"""The variance of a difference over trainings that are tested on the same cases: two crossed random effects.

Difference of two arms at seed s and case c = mean + training s + case c + residual. "Training" is how two trainings
happened to end; "case" is what an arm does on that case in every training. Both are random: another study would have
other trainings and other cases. The variance of the mean over S seeds and C cases is

    training / S + case / C + residual / (S C).

The variance over seeds of the mean over cases estimates the first part and the last; the variance over cases of the
mean over seeds estimates the second and the last. The residual's part, which both hold, is subtracted once.

Cornfield and Tukey, "Average values of mean squares in factorials", Ann. Math. Statist. 1956,
https://doi.org/10.1214/aoms/1177728067: expected mean squares of crossed random effects.
Clark, "The language-as-fixed-effect fallacy", J. Verbal Learning and Verbal Behavior 1973,
https://doi.org/10.1016/S0022-5371(73)80014-3: the error of treating one of two random effects as fixed.
"""

import numpy as np

from foveate.compare.moderated import Variance, satterthwaite

__all__ = ["crossed_variance"]


def crossed_variance(differences: np.ndarray, over_seeds: Variance, over_cases: Variance) -> Variance:
    """Return the variance of the mean difference, over trainings and over cases.

    Args:
        differences: (seed, case), two seeds and two cases or more.
        over_seeds: The variance of the mean that the seeds show: training / S + residual / (S C).
        over_cases: The variance of the mean that the cases show: case / C + residual / (S C).
    """
    seeds, cases = differences.shape
    residuals = differences - differences.mean(axis=0) - differences.mean(axis=1)[:, None] + differences.mean()
    residual = float((residuals**2).sum()) / ((seeds - 1) * (cases - 1)) / (seeds * cases)
    # Few seeds may lie close by chance; their variance is never less than the residual's part, which is known well.
    training = Variance(max(over_seeds.value, residual), over_seeds.df)
    case = Variance(max(over_cases.value - residual, 0.0), over_cases.df)
    return satterthwaite([training, case])
