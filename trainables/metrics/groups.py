"""Accuracy of each group by itself: macro precision, recall, F1 and accuracy, mean and difference.

Every function reads counts, never samples. NaN marks an undefined value in arrays; it becomes
``None`` before it leaves the package.

Shape legend: G groups, C classes; GCC is (group, true class, predicted class).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GroupScores:
    """Macro scores per group, each in [0, 1]; NaN for a group without samples."""

    num_samples_G: np.ndarray
    precision_G: np.ndarray
    recall_G: np.ndarray
    f1_G: np.ndarray
    accuracy_G: np.ndarray


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """Divide, with ``empty`` where the denominator is zero."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    out = np.full(np.broadcast(numerator, denominator).shape, empty)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def class_scores(count_GCC: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 per group and class, each (G, C), 0 where the denominator is 0."""
    hit_GC = np.diagonal(count_GCC, axis1=-2, axis2=-1)
    support_GC, predicted_GC = count_GCC.sum(-1), count_GCC.sum(-2)
    return (
        _ratio(hit_GC, predicted_GC, 0.0),
        _ratio(hit_GC, support_GC, 0.0),
        _ratio(2 * hit_GC, support_GC + predicted_GC, 0.0),
    )


def group_scores(count_GCC: np.ndarray) -> GroupScores:
    """Score each group by itself, macro-averaged over the classes seen in that group.

    A class counts where it is in the group's true or predicted labels, so the values equal
    scikit-learn's ``average="macro", zero_division=0`` on the group's samples alone.
    """
    num_samples_G = count_GCC.sum((-1, -2))
    seen_GC = (count_GCC.sum(-1) + count_GCC.sum(-2)) > 0
    precision_G, recall_G, f1_G = (
        _ratio((value_GC * seen_GC).sum(-1), seen_GC.sum(-1), np.nan)
        for value_GC in class_scores(count_GCC)
    )
    hit_G = np.trace(count_GCC, axis1=-2, axis2=-1)
    accuracy_G = _ratio(hit_G, num_samples_G, np.nan)
    return GroupScores(num_samples_G, precision_G, recall_G, f1_G, accuracy_G)


def pooled_scores(count_GCC: np.ndarray) -> tuple[float, float]:
    """Macro F1 and accuracy over the samples of all groups together; NaN without samples."""
    pooled = group_scores(count_GCC.sum(0, keepdims=True))
    return float(pooled.f1_G[0]), float(pooled.accuracy_G[0])


def common_f1(count_GCC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Macro F1 per group over the classes that have true samples in *every* group given.

    Groups are then compared on the same classes, which the plain macro F1 does not do.

    Returns:
        f1_G (NaN when no class is common) and the indices of the common classes.
    """
    common = np.flatnonzero((count_GCC.sum(-1) > 0).all(0))
    _, _, f1_GC = class_scores(count_GCC)
    if not common.size:
        return np.full(len(count_GCC), np.nan), common
    return f1_GC[:, common].mean(-1), common


def mean_and_difference(value_G: np.ndarray) -> tuple[float, float]:
    """Mean over groups and the largest difference between any two of them.

    With two groups the difference is the absolute one. NaN: no group (mean), fewer than two
    groups (difference), or an undefined value among them.
    """
    if not len(value_G):
        return float("nan"), float("nan")
    mean = float(np.mean(value_G))
    return mean, float(np.max(value_G) - np.min(value_G)) if len(value_G) > 1 else float("nan")
