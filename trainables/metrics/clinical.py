"""Malignant against benign: sensitivity at a fixed specificity, underdiagnosis, selection rate.

The classes are parted in two, malignant and the others. The score of a sample is the sum of the
probabilities of its malignant classes.

Shape legend: N samples, C classes, R sets of weights.
"""

import math

import numpy as np

from trainables.errors import UserError


def share(event_N: np.ndarray, among_N: np.ndarray, weight_NR: np.ndarray) -> np.ndarray:
    """Weighted share of the samples ``among`` for which the event holds, (R,); NaN of none."""
    total_R = among_N.astype(weight_NR.dtype) @ weight_NR
    hit_R = (event_N & among_N).astype(weight_NR.dtype) @ weight_NR
    return np.divide(hit_R, total_R, out=np.full(len(total_R), np.nan), where=total_R > 0)


def threshold_at_specificity(
    score_N: np.ndarray, malignant_N: np.ndarray, specificity: float
) -> float | None:
    """The least threshold at which this share of the benign samples is called benign.

    A sample is called malignant where its score is *above* the threshold, so that the specificity
    is at least the one asked for, ties included, and the sensitivity the largest possible.

    Returns:
        The threshold; None without benign samples.

    Raises:
        UserError: specificity not in (0, 1].
    """
    if not 0 < specificity <= 1:
        raise UserError(f"specificity must be in (0, 1] but got {specificity:g}")
    benign = np.sort(score_N[~malignant_N])
    if not len(benign):
        return None
    # 0.9 * 10 is 9.000000000000002 in some products: one benign sample too many.
    num_below = math.ceil(specificity * len(benign) - 1e-9)
    return float(benign[max(num_below, 1) - 1])


def underdiagnosis(
    label_N: np.ndarray, prediction_N: np.ndarray, malignant_C: np.ndarray, weight_NR: np.ndarray
) -> np.ndarray:
    """Share of the malignant samples predicted as a benign class, (R,).

    The underdiagnosis rate of Seyyed-Kalantari et al. (Nature Medicine 2021), whose "no finding"
    is here any benign class. A malignant sample taken for another malignant class is not
    underdiagnosed.

    Args:
        label_N: true classes.
        prediction_N: predicted classes.
        malignant_C: which classes are malignant.
        weight_NR: weights of the samples, ones for the plain figure.
    """
    return share(~malignant_C[prediction_N], malignant_C[label_N], weight_NR)
