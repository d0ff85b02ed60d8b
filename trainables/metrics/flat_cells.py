"""Cells (class and group) whose images are all hit or all missed: errors drawn for replicates.

Shape legend: R replicates, S seeds, N images, G groups, C classes, K = G * C cells, numbered
group * C + class.
"""

import numpy as np


def error_shares(label_N: np.ndarray, prediction_SN: np.ndarray, num_classes: int) -> np.ndarray:
    """Which classes the errors of each class fall on, (C, C) with rows of sum 1; evenly where a
    class has none.
    """
    error_CC = np.zeros((num_classes, num_classes))
    for prediction_N in prediction_SN:
        np.add.at(error_CC, (label_N, prediction_N), 1)
    np.fill_diagonal(error_CC, 0)
    none_C1 = error_CC.sum(1, keepdims=True) == 0
    error_CC += none_C1 * (1 - np.eye(num_classes))
    return error_CC / np.maximum(error_CC.sum(1, keepdims=True), 1)


def flat_cells(tpr_K: np.ndarray, patients_GC: np.ndarray) -> np.ndarray:
    """Cells (K,) of two patients or more that were all hit or all missed."""
    return np.isin(tpr_K, (0.0, 1.0)) & (patients_GC.ravel() > 1)


def with_errors(
    share_CC: np.ndarray,
    flat_K: np.ndarray,
    tpr_K1: np.ndarray,
    support_KR: np.ndarray,
    hit_KR: np.ndarray,
    false_KR: np.ndarray,
    error_GCR: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false alarms (K, R) with errors drawn for the flat cells: what is missed falls on
    the other classes of the group, and what is hit after all is taken from them.

    Args:
        share_CC: of ``error_shares``.
        flat_K: of ``flat_cells``.
        tpr_K1: original hit rates.
        support_KR: images of each cell, by the weights of the replicate.
        hit_KR: those of them that are hit.
        false_KR: images of other classes of the group that are taken for the class.
        error_GCR: how far the hit rate lies from 0 or 1.
    """
    error_KR = error_GCR.reshape(len(flat_K), -1)
    lost_KR = np.where(tpr_K1 == 1, error_KR, -error_KR) * support_KR * flat_K[:, None]
    alarms_GCR = np.stack([share_CC.T @ lost_CR for lost_CR in lost_KR.reshape(error_GCR.shape)])
    return hit_KR - lost_KR, np.maximum(false_KR + alarms_GCR.reshape(false_KR.shape), 0)
