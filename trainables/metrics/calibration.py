"""What needs probabilities: AUROC, expected calibration error and Brier score of a set of samples.

Shape legend: N samples, C classes, K bins.
"""

import numpy as np


def _ranks(value_N: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties share their mean rank."""
    _, inverse_N, count = np.unique(value_N, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[inverse_N]


def auroc(label_N: np.ndarray, probability_NC: np.ndarray) -> float | None:
    """Macro one-versus-rest area under the ROC curve, over classes with positives and negatives.

    By ranks (Mann and Whitney 1947): a tie counts half. None where no class has both.
    """
    areas = []
    for label in np.unique(label_N):
        positive_N = label_N == label
        num_positive, num_negative = int(positive_N.sum()), int((~positive_N).sum())
        if num_negative:
            rank_sum = _ranks(probability_NC[:, label])[positive_N].sum()
            wins = rank_sum - num_positive * (num_positive + 1) / 2
            areas.append(wins / (num_positive * num_negative))
    return float(np.mean(areas)) if areas else None


def expected_calibration_error(
    label_N: np.ndarray, probability_NC: np.ndarray, *, num_bins: int = 15
) -> float | None:
    """Mean gap between confidence and accuracy over equal bins of confidence (Guo et al. 2017).

    Confidence is the largest probability, bins are (k/K, (k+1)/K]. None without samples.
    """
    if not len(label_N):
        return None
    confidence_N = probability_NC.max(1)
    correct_N = probability_NC.argmax(1) == label_N
    # A confidence of exactly k/K belongs to the lower bin; the least possible one is above 0.
    edge = np.arange(1, num_bins) / num_bins
    bin_N = np.searchsorted(edge, confidence_N, side="left")
    off_K = np.bincount(bin_N, confidence_N - correct_N, minlength=num_bins)
    return float(np.abs(off_K).sum() / len(label_N))


def brier_score(label_N: np.ndarray, probability_NC: np.ndarray) -> float | None:
    """Mean squared distance to the one-hot label, summed over classes, in [0, 2] (Brier 1950).

    None without samples.
    """
    if not len(label_N):
        return None
    at_label_N = probability_NC[np.arange(len(label_N)), label_N]
    return float(np.mean((probability_NC**2).sum(1) - 2 * at_label_N + 1))
