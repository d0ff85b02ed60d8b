"""Geometry of a front: dominance, hypervolume, knee. NumPy only.

Shape legend: N points, K objectives; every objective is maximised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dominates(a_K: Sequence[float] | np.ndarray, b_K: Sequence[float] | np.ndarray) -> bool:
    """Whether the first point is nowhere worse than the second and somewhere better."""
    a_K, b_K = np.asarray(a_K, dtype=float), np.asarray(b_K, dtype=float)
    return bool((a_K >= b_K).all() and (a_K > b_K).any())


def pareto_mask(values_NK: np.ndarray) -> np.ndarray:
    """Which points no other point dominates, bool (N,); of equal points none dominates the other,
    so all stay.

    Raises:
        ValueError: a value is NaN (an undefined objective cannot be compared).
    """
    values_NK = _points(values_NK)
    return np.array(
        [
            not ((values_NK >= point_K).all(1) & (values_NK > point_K).any(1)).any()
            for point_K in values_NK
        ],
        dtype=bool,
    )


def hypervolume(values_NK: np.ndarray, reference_K: Sequence[float] | np.ndarray) -> float:
    """Volume that the points dominate above the reference point, exact.

    In two objectives by the staircase, in more by slicing along the last one (Zitzler and Thiele
    1998 define the measure; slicing: While et al. 2006), which is meant for the few objectives and
    members that a front has.

    Raises:
        ValueError: a value is NaN, or the reference has another number of objectives.
    """
    values_NK, reference_K = _points(values_NK), np.asarray(reference_K, dtype=float)
    if values_NK.shape[1] != len(reference_K):
        raise ValueError(
            f"points of {values_NK.shape[1]} objectives, reference of {len(reference_K)}"
        )
    above_NK = values_NK[(values_NK > reference_K).all(1)] - reference_K
    return _volume(above_NK)


def _volume(point_NK: np.ndarray) -> float:
    """Volume of the union of the boxes between the origin and each point, all coordinates
    positive.
    """
    if not len(point_NK):
        return 0.0
    if point_NK.shape[1] == 1:
        return float(point_NK.max())
    point_NK = point_NK[np.argsort(-point_NK[:, -1], kind="stable")]
    lower_N = np.append(point_NK[1:, -1], 0.0)
    volume = 0.0
    for number, thickness in enumerate(point_NK[:, -1] - lower_N, start=1):
        if thickness > 0:
            volume += float(thickness) * _volume(point_NK[:number, :-1])
    return volume


def knee(values_NK: np.ndarray) -> int | None:
    """Row of the member that bends the front most, or None.

    Every objective is scaled to [0, 1] over the members; the knee is the member farthest beyond
    the line between the extremes (1, 0) and (0, 1) (Das 1999; with more than two objectives,
    beyond the plane through the unit points). None below three distinct members, and where no
    member lies beyond that line: such a front has no bend outwards.
    """
    values_NK = _points(values_NK)
    if len(np.unique(values_NK, axis=0)) < 3:
        return None
    span_K = np.ptp(values_NK, axis=0)
    scaled_NK = (values_NK - values_NK.min(0)) / np.where(span_K > 0, span_K, 1.0)
    distance_N = (scaled_NK.sum(1) - 1) / np.sqrt(values_NK.shape[1])
    best = int(distance_N.argmax())
    return best if distance_N[best] > 1e-9 else None


def _points(values_NK: np.ndarray) -> np.ndarray:
    values_NK = np.asarray(values_NK, dtype=float)
    if values_NK.ndim != 2 or np.isnan(values_NK).any():
        raise ValueError(
            f"points must be an array (N, K) without NaN but have shape {values_NK.shape}"
        )
    return values_NK
