"""What needs probabilities: AUROC, expected calibration error and Brier score of a set of samples.

Each has a form with weights, one column a replicate, for resampled patients: the figure of samples
that occur as often as their weight says.

Shape legend: N samples, R sets of weights, C classes, K bins; P positives of a class.
"""

from typing import Literal

import numpy as np

NUM_BINS = 15
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
MANY_POSITIVES = 64
"""From here on sorting the samples is faster than comparing them with each positive."""


def _weight_below(
    score_N: np.ndarray, of_class_N: np.ndarray, weight_NR: np.ndarray
) -> np.ndarray:
    """Weight of the negatives scored below each positive, ties half, (P, R)."""
    positive_P = score_N[of_class_N]
    if len(positive_P) < MANY_POSITIVES:
        above_PN = (positive_P[:, None] > score_N) & ~of_class_N
        tie_PN = (positive_P[:, None] == score_N) & ~of_class_N
        share_PN = above_PN.astype(weight_NR.dtype) + tie_PN.astype(weight_NR.dtype) / 2
        return np.asarray(share_PN @ weight_NR)
    # Negatives are summed between neighbouring scores of positives, without sorting their weights.
    from scipy.sparse import csr_array

    edge, place_P = np.unique(positive_P, return_inverse=True)
    negative = np.flatnonzero(~of_class_N)
    left, right = (np.searchsorted(edge, score_N[negative], side=side) for side in _SIDES)
    # Below edge k lies what has left <= k; a tie (right = left + 1) counts half at k, full above.
    num = len(edge) + 1
    half = np.full(len(negative), 0.5, weight_NR.dtype)
    shape = (num, len(score_N))
    sums = csr_array((half, (left, negative)), shape=shape) @ weight_NR
    sums += csr_array((half, (right, negative)), shape=shape) @ weight_NR
    return np.asarray(np.cumsum(sums, axis=0)[place_P])


def class_auroc(
    label_N: np.ndarray, probability_NC: np.ndarray, weight_NR: np.ndarray
) -> np.ndarray:
    """Area under the ROC curve of each class that occurs against the rest, (classes, R).

    By the weights of pairs ranked right (Mann and Whitney 1947): a tie counts half. NaN where a
    class has no positives or no negatives of any weight.
    """
    total_R = weight_NR.sum(0, dtype=float)
    areas = np.full((len(np.unique(label_N)), weight_NR.shape[1]), np.nan)
    for i, label in enumerate(np.unique(label_N)):
        of_class_N = label_N == label
        positive_PR = weight_NR[of_class_N]
        below_PR = _weight_below(probability_NC[:, label], of_class_N, weight_NR)
        won_R = np.einsum("pr,pr->r", positive_PR, below_PR, dtype=float)
        positive_R = positive_PR.sum(0, dtype=float)
        pairs_R = positive_R * (total_R - positive_R)
        np.divide(won_R, pairs_R, out=areas[i], where=pairs_R > 0)
    return areas


def auroc(label_N: np.ndarray, probability_NC: np.ndarray) -> float | None:
    """Macro one-versus-rest area under the ROC curve, over classes with positives and negatives.

    None where no class has both.
    """
    area_R = auroc_replicates(label_N, probability_NC, np.ones((len(label_N), 1)))
    return None if np.isnan(area_R[0]) else float(area_R[0])


def auroc_replicates(
    label_N: np.ndarray, probability_NC: np.ndarray, weight_NR: np.ndarray
) -> np.ndarray:
    """The macro AUROC of weighted samples, (R,), over the classes that have one unweighted.

    Where a class has no weight in a replicate its unweighted area stands, so that every replicate
    is a mean over the same classes. NaN where no class has positives and negatives.
    """
    area = class_auroc(label_N, probability_NC, np.ones((len(label_N), 1)))
    kept = ~np.isnan(area[:, 0])
    if not kept.any():
        return np.full(weight_NR.shape[1], np.nan)
    replicate = class_auroc(label_N, probability_NC, weight_NR)
    return np.asarray(np.where(np.isnan(replicate), area, replicate)[kept].mean(0))


def _mean_replicates(value_N: np.ndarray, weight_NR: np.ndarray) -> np.ndarray:
    total_R = weight_NR.sum(0, dtype=float)
    out_R = np.full(len(total_R), np.nan)
    return np.divide(value_N @ weight_NR, total_R, out=out_R, where=total_R > 0)


def calibration_error_replicates(
    label_N: np.ndarray,
    probability_NC: np.ndarray,
    weight_NR: np.ndarray,
    *,
    num_bins: int = NUM_BINS,
) -> np.ndarray:
    """The expected calibration error of weighted samples, (R,); NaN without weight."""
    confidence_N = probability_NC.max(1)
    correct_N = probability_NC.argmax(1) == label_N
    # A confidence of exactly k/K belongs to the lower bin; the least possible one is above 0.
    edge = np.arange(1, num_bins) / num_bins
    bin_N = np.searchsorted(edge, confidence_N, side="left")
    off_KN = np.where(bin_N == np.arange(num_bins)[:, None], confidence_N - correct_N, 0)
    total_R = weight_NR.sum(0, dtype=float)
    out_R = np.full(len(total_R), np.nan)
    return np.divide(np.abs(off_KN @ weight_NR).sum(0), total_R, out=out_R, where=total_R > 0)


def expected_calibration_error(
    label_N: np.ndarray, probability_NC: np.ndarray, *, num_bins: int = NUM_BINS
) -> float | None:
    """Mean gap between confidence and accuracy over equal bins of confidence (Guo et al. 2017).

    Confidence is the largest probability, bins are (k/K, (k+1)/K]. None without samples.
    """
    if not len(label_N):
        return None
    one_N1 = np.ones((len(label_N), 1))
    return float(
        calibration_error_replicates(label_N, probability_NC, one_N1, num_bins=num_bins)[0]
    )


def brier_replicates(
    label_N: np.ndarray, probability_NC: np.ndarray, weight_NR: np.ndarray
) -> np.ndarray:
    """The Brier score of weighted samples, (R,); NaN without weight."""
    at_label_N = probability_NC[np.arange(len(label_N)), label_N]
    return _mean_replicates((probability_NC**2).sum(1) - 2 * at_label_N + 1, weight_NR)


def brier_score(label_N: np.ndarray, probability_NC: np.ndarray) -> float | None:
    """Mean squared distance to the one-hot label, summed over classes, in [0, 2] (Brier 1950).

    None without samples.
    """
    if not len(label_N):
        return None
    return float(brier_replicates(label_N, probability_NC, np.ones((len(label_N), 1)))[0])
