"""Counts from which every fairness figure follows: true class against predicted class, per group.

Shape legend: N samples, G groups, C classes; GCC is (group, true class, predicted class).
"""

import hashlib

import numpy as np


def confusion_counts(
    label_N: np.ndarray,
    prediction_N: np.ndarray,
    group_N: np.ndarray,
    *,
    num_classes: int,
    num_groups: int,
) -> np.ndarray:
    """Count samples per (group, true class, predicted class).

    Args:
        label_N: true classes, integers in [0, num_classes).
        prediction_N: predicted classes, integers in [0, num_classes).
        group_N: groups, integers in [0, num_groups), -1 where unknown; unknown rows are left out.
        num_classes: C, fixed beforehand so that absent classes keep their place.
        num_groups: G, fixed beforehand for the same reason.

    Returns:
        count_GCC, int64.

    Raises:
        ValueError: lengths differ or a value is out of its range.
    """
    label_N, prediction_N, group_N = map(np.asarray, (label_N, prediction_N, group_N))
    if not label_N.shape == prediction_N.shape == group_N.shape or label_N.ndim != 1:
        shapes = f"{label_N.shape}, {prediction_N.shape}, {group_N.shape}"
        raise ValueError(f"labels, predictions and groups must be equally long but are {shapes}")
    for name, value_N, low, high in (
        ("label", label_N, 0, num_classes),
        ("prediction", prediction_N, 0, num_classes),
        ("group", group_N, -1, num_groups),
    ):
        if value_N.size and not np.issubdtype(value_N.dtype, np.integer):
            raise ValueError(f"{name} must hold integers but is {value_N.dtype}")
        if value_N.size and (value_N.min() < low or value_N.max() >= high):
            seen = f"[{value_N.min()}, {value_N.max()}]"
            raise ValueError(f"{name} must be in [{low}, {high}) but spans {seen}")
    known_N = group_N >= 0
    # int64 before multiplying: a uint8 label would wrap round at 256 cells.
    group, label, prediction = (
        value_N[known_N].astype(np.int64) for value_N in (group_N, label_N, prediction_N)
    )
    cell = (group * num_classes + label) * num_classes + prediction
    count = np.bincount(cell, minlength=num_groups * num_classes * num_classes)
    return count.astype(np.int64).reshape(num_groups, num_classes, num_classes)


def counts_digest(count_GCC: np.ndarray) -> str:
    """Name the counts by the sha256 of their shape and their little-endian int64 bytes, as hex.

    Equal counts of equal shape have equal digests on every machine, whatever dtype or memory
    order they are held in.
    """
    shape = np.asarray(count_GCC.shape, dtype="<i8")
    canonical = np.ascontiguousarray(count_GCC, dtype="<i8")
    return hashlib.sha256(shape.tobytes() + canonical.tobytes()).hexdigest()
