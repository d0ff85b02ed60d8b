"""Counts per patient, from which the gaps of many regroupings follow as matrix products.

A *unit* is what is drawn or permuted as a whole: a patient, else a lesion, else an image.

Shape legend: N samples, U units, S seeds, R replicates, G groups, C classes. A leading ``...``
holds replicates and seeds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.metrics.confusion import confusion_counts
from trainables.metrics.fairness import GAPS, Mode, check_mode


@dataclass(frozen=True)
class Units:
    """Samples of known group, summed per unit.

    Attributes:
        group_U: group of each unit, -1 where its samples lie in several groups.
        stratum_U: units of equal number exchange groups: they hold the same multiset of (class,
            ``within``) unless other strata were given.
        support_UGC: samples per unit, group and class.
        hit_SUGC: samples among them that are predicted right.
        predicted_SUGC: samples per unit, group and predicted class.
    """

    group_U: np.ndarray
    stratum_U: np.ndarray
    support_UGC: np.ndarray
    hit_SUGC: np.ndarray
    predicted_SUGC: np.ndarray


def unit_numbers(patient_N: np.ndarray | None, num_samples: int) -> np.ndarray:
    """Number the units; a sample of unknown patient (-1 or an empty string) is its own unit."""
    if patient_N is None:
        return np.arange(num_samples)
    patient_N = np.asarray(patient_N)
    if patient_N.shape != (num_samples,) or patient_N.dtype.kind not in "iuUT":
        raise ValueError(
            f"patients must be {num_samples} integers or strings but are "
            f"{patient_N.dtype} of shape {patient_N.shape}"
        )
    _, unit_N = np.unique(patient_N, return_inverse=True)
    unknown_N = patient_N == (-1 if patient_N.dtype.kind in "iu" else "")
    unit_N[unknown_N] = num_samples + np.arange(unknown_N.sum())
    return np.unique(unit_N, return_inverse=True)[1]


def strata(unit_N: np.ndarray, key_N: np.ndarray, num_units: int) -> np.ndarray:
    """Number the units by the multiset of their samples' keys."""
    order_N = np.lexsort((key_N, unit_N))
    bounds = np.searchsorted(unit_N[order_N], np.arange(1, num_units))
    numbers: dict[bytes, int] = {}
    parts = np.split(key_N[order_N], bounds)
    return np.array([numbers.setdefault(keys.tobytes(), len(numbers)) for keys in parts], int)


def count_units(
    label_N: np.ndarray,
    prediction_SN: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray | None,
    num_classes: int,
    num_groups: int,
    within: Sequence[np.ndarray] = (),
    stratum_N: np.ndarray | None = None,
) -> Units:
    """Sum samples per unit; those of unknown group (-1) are left out before anything else.

    Args:
        label_N: true classes in [0, C).
        prediction_SN: predicted classes in [0, C), one row per seed, or (N,) for one seed.
        group_N: groups in [0, G), -1 where unknown or not to be assessed.
        patient_N: integers or strings, -1 or empty where unknown; None: each image by itself.
        num_classes: C.
        num_groups: G.
        within: further values per sample that units of one stratum share, such as age and site.
        stratum_N: number of the stratum of each sample's unit; None: by the multiset.

    Raises:
        ValueError: lengths differ, or a value is out of its range.
    """
    prediction_SN = np.atleast_2d(prediction_SN)
    for prediction_N in prediction_SN:  # refuses what it cannot count
        confusion_counts(
            label_N, prediction_N, group_N, num_classes=num_classes, num_groups=num_groups
        )
    label_N, group_N = np.asarray(label_N), np.asarray(group_N)
    known_N = group_N >= 0
    columns = [np.asarray(column_N) for column_N in within]
    if any(column_N.shape != label_N.shape for column_N in columns):
        raise ValueError(f"each column of within must have {len(label_N)} values")
    unit_N = unit_numbers(patient_N, len(label_N))[known_N]
    unit_N = np.unique(unit_N, return_inverse=True)[1]
    num_units = int(unit_N.max()) + 1 if unit_N.size else 0
    group_N, key_N = group_N[known_N].astype(int), label_N[known_N].astype(int)
    shape = (num_units, num_groups, num_classes)

    def tally(class_N: np.ndarray) -> np.ndarray:
        cell_N = (unit_N * num_groups + group_N) * num_classes + class_N
        count = np.bincount(cell_N, minlength=num_units * num_groups * num_classes)
        return count[: num_units * num_groups * num_classes].reshape(shape)

    support_UGC = tally(key_N)
    predicted_SUGC = np.stack([tally(row_N[known_N].astype(int)) for row_N in prediction_SN])
    outside = np.zeros(shape, int)
    hit_SUGC = np.stack([outside] * len(prediction_SN))
    for s, row_N in enumerate(prediction_SN):
        right_N = row_N[known_N] == key_N
        np.add.at(hit_SUGC[s], (unit_N[right_N], group_N[right_N], key_N[right_N]), 1)
    has_UG = support_UGC.sum(2) > 0
    group_U = np.where(has_UG.sum(1) == 1, has_UG.argmax(1), -1)
    for column_N in columns:
        code_N = np.unique(column_N[known_N], return_inverse=True)[1]
        key_N = np.unique(np.stack([key_N, code_N]), axis=1, return_inverse=True)[1].ravel()
    stratum_U = np.zeros(num_units, int)
    if stratum_N is not None:
        stratum_U[unit_N] = stratum_N[known_N]
    elif num_units:
        stratum_U = strata(unit_N, key_N, num_units)
    return Units(group_U, stratum_U, support_UGC, hit_SUGC, predicted_SUGC)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def group_rates(
    hit_xGC: np.ndarray, predicted_xGC: np.ndarray, support_GC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """TPR and FPR per group and class (..., G, C), NaN where the denominator is 0."""
    negative_GC = support_GC.sum(-1, keepdims=True) - support_GC
    return _ratio(hit_xGC, support_GC), _ratio(predicted_xGC - hit_xGC, negative_GC)


def _mean_over_classes(term_xC: np.ndarray) -> np.ndarray:
    counted_xC = ~np.isnan(term_xC)
    return _ratio(np.where(counted_xC, term_xC, 0).sum(-1), counted_xC.sum(-1))


def gap_values(
    tpr_xGC: np.ndarray, fpr_xGC: np.ndarray, mode: Mode = "corrected"
) -> Mapping[str, np.ndarray]:
    """The gaps of ``fairness_gaps`` for many sets of rates at once, maximum over pairs, (...).

    NaN where no pair has a class to compare.

    Raises:
        UserError: ``paper`` with other than two groups.
    """
    num_groups = tpr_xGC.shape[-2]
    check_mode(mode, num_groups)
    tnr_xGC = 1 - fpr_xGC
    if mode == "paper":
        tpr_xGC, fpr_xGC, tnr_xGC = map(np.nan_to_num, (tpr_xGC, fpr_xGC, tnr_xGC))
    worst = {name: np.full(tpr_xGC.shape[:-2], np.nan) for name in GAPS}
    for a, b in itertools.combinations(range(num_groups), 2):
        tpr_xC, fpr_xC, tnr_xC = (
            rate[..., a, :] - rate[..., b, :] for rate in (tpr_xGC, fpr_xGC, tnr_xGC)
        )
        terms = {
            "eopp0": np.abs(tnr_xC),
            "eopp1": np.abs(tpr_xC),
            "eodd": np.abs(tpr_xC + fpr_xC) / 2,
            "eodd_hardt": (np.abs(tpr_xC) + np.abs(fpr_xC)) / 2,
        }
        for name, term_xC in terms.items():
            worst[name] = np.fmax(worst[name], _mean_over_classes(term_xC))
    return worst
