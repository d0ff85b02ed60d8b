"""Directional bias amplification, attribute to task (Wang and Russakovsky, ICML 2021, eq. 1).

Shape legend: G groups (the attribute), C classes (the task), R sets of weights.
"""

import numpy as np


def bias_direction(support_GC: np.ndarray) -> np.ndarray:
    """Sign of P(group, class) - P(group) P(class), (G, C): 1, -1, or 0 for independence.

    The paper takes the direction from the training labels; its released code, as here, from the
    labels of the evaluated samples where no others are given, and counts independence (which the
    formula joins to the negative side) as 0.
    """
    count_GC = np.asarray(support_GC, dtype=np.int64)  # products of integers: no false signs
    expected_GC = count_GC.sum(1, keepdims=True) * count_GC.sum(0, keepdims=True)
    return np.sign(count_GC * count_GC.sum() - expected_GC)


def bias_amplification(
    direction_GC: np.ndarray, label_share_GCR: np.ndarray, predicted_share_GCR: np.ndarray
) -> np.ndarray:
    """BiasAmp of the direction A to T, of each group, (G, R); the figure is its mean over groups.

    Of group g: mean over classes of y_gc (P(predicted c | g) - P(true c | g)), with y the
    direction. Positive: a class that is frequent (rare) in a group is predicted there more (less)
    often than it occurs. It says nothing of whether the predictions are right.

    Args:
        direction_GC: of ``bias_direction``.
        label_share_GCR: P(true class | group).
        predicted_share_GCR: P(predicted class | group).
    """
    return np.asarray((direction_GC[:, :, None] * (predicted_share_GCR - label_share_GCR)).mean(1))
