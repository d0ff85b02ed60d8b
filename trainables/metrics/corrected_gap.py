"""A gap with the sampling variance of its rates taken off.

The mean of delta_c ** 2 over classes exceeds that of the true differences by the mean of
Var(delta_c). An estimate of it is taken off before the root. The result is a root mean square over
classes (the gaps are means of absolute values): both are d where every class differs by d,
otherwise the root mean square is the larger. The maximum over more than two groups is not
corrected for being a maximum.

* ``eopp1``: delta is the difference of TPR. ``eopp0``: that of FPR, whose size is that of TNR.
* ``eodd_hardt``: half the sum of the two, each over the classes where both are defined.
* The signed ``eodd`` has none: its terms cancel within a class, so its square is no size of a gap.

Classes undefined in a group of the pair are left out, as in the mode ``corrected``; ``paper``
(absent = 0) has no such figure, for an absent cell has no variance to take off.

Shape legend: U units, S seeds, G groups, C classes.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trainables.errors import UserError
from trainables.metrics.gap_statistics import count_units


@dataclass(frozen=True)
class CorrectedGap:
    """The largest over pairs of groups, with an approximate interval for that pair.

    ``num_borrowed``: cells of a group and a class of this pair with one unit, whose variance is
    taken from the class's other cells.
    """

    value: float
    low: float
    high: float
    worst_pair: tuple[int, int]
    num_borrowed: int


@dataclass(frozen=True)
class _Cells:
    """Rates of one kind; ``score_UGC`` is what each unit adds to the error of its rate.

    ``variance_GC`` is unbiased and 0 where all units agree; ``scatter_GC`` has there the variance
    of the posterior by Jeffreys' prior, so that an interval does not shrink to a point.
    """

    rate_GC: np.ndarray
    variance_GC: np.ndarray
    scatter_GC: np.ndarray
    score_UGC: np.ndarray
    borrowed_GC: np.ndarray


def _one_unit_variance(numerator_UGC: np.ndarray, denominator_UGC: np.ndarray) -> np.ndarray:
    """Variance between units of one class (C,), pooled over groups with two units or more.

    A class without such a group gets the mean of p (1 - p) under the Beta posterior (Jeffreys'
    prior) of its units together: the posterior variance of p itself would be four times too small,
    as it is the uncertainty of p, not the scatter of one image.
    """
    has_UGC = denominator_UGC > 0
    rate_UGC = np.divide(
        numerator_UGC, denominator_UGC, out=np.zeros(has_UGC.shape), where=has_UGC
    )
    num_GC = has_UGC.sum(0)
    mean_GC = rate_UGC.sum(0) / np.maximum(num_GC, 1)
    square_C = (np.where(has_UGC, rate_UGC - mean_GC, 0) ** 2).sum((0, 1))
    freedom_C = np.maximum(num_GC - 1, 0).sum(0)
    hits_C = rate_UGC.sum((0, 1)) + 0.5
    misses_C = num_GC.sum(0) - hits_C + 1
    both_C = hits_C + misses_C
    beta_C = hits_C * misses_C / (both_C * (both_C + 1))
    return np.where(freedom_C > 0, square_C / np.maximum(freedom_C, 1), beta_C)


def _cells(numerator_UGC: np.ndarray, denominator_UGC: np.ndarray) -> _Cells:
    """Rates of all cells and their variances by linearisation over units."""
    total_GC = denominator_UGC.sum(0)
    num_GC = (denominator_UGC > 0).sum(0)
    rate_GC = np.divide(
        numerator_UGC.sum(0), total_GC, out=np.full(total_GC.shape, np.nan), where=total_GC > 0
    )
    residual_UGC = numerator_UGC - np.nan_to_num(rate_GC) * denominator_UGC
    score_UGC = residual_UGC / np.maximum(total_GC, 1)
    clustered_GC = (score_UGC**2).sum(0) * num_GC / np.maximum(num_GC - 1, 1)
    one_C = _one_unit_variance(numerator_UGC, denominator_UGC)
    borrowed_GC = num_GC == 1
    variance_GC = np.where(borrowed_GC, one_C, clustered_GC)
    flat_GC = np.isin(rate_GC, (0.0, 1.0)) & (num_GC > 1)
    jeffreys_GC = 0.5 * (num_GC + 0.5) / ((num_GC + 1) ** 2 * (num_GC + 2))
    scatter_GC = np.where(flat_GC, jeffreys_GC, variance_GC)
    return _Cells(rate_GC, variance_GC, scatter_GC, score_UGC, borrowed_GC)


def _mean_square(
    cells: _Cells, a: int, b: int, counted_C: np.ndarray, confidence: float
) -> tuple[float, float, float]:
    """Root of the mean of delta ** 2 - variance over classes, and the ends of its interval."""
    delta_C = (cells.rate_GC[a] - cells.rate_GC[b])[counted_C]
    # Units with samples in both groups tie the two rates together.
    shared_C = (cells.score_UGC[:, a] * cells.score_UGC[:, b]).sum(0)
    variance_C, scatter_C = (
        (of_GC[a] + of_GC[b] - 2 * shared_C)[counted_C]
        for of_GC in (cells.variance_GC, cells.scatter_GC)
    )
    mean = float((delta_C**2 - variance_C).mean())
    # Normal delta: Var(delta ** 2) = 2 v ** 2 + 4 v true ** 2, and E[delta ** 2] = v + true ** 2.
    null = float((2 * scatter_C**2).sum())
    spread = float((4 * scatter_C * delta_C**2 - 2 * scatter_C**2).sum())
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(null, spread)) / len(delta_C)
    value, low, high = (math.sqrt(max(0.0, v)) for v in (mean, mean - half, mean + half))
    return value, low, high


def gap_debiased(
    label_N: np.ndarray,
    prediction_SN: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray | None,
    *,
    num_classes: int,
    num_groups: int,
    confidence: float = 0.95,
) -> Mapping[str, CorrectedGap | None]:
    """sqrt(max(0, mean_c(delta_c ** 2 - var_c))) for eopp1 and eopp0, and for eodd_hardt.

    With several seeds delta and var are those of the seed means of the rates. var is the variance
    over units (patients, else lesions, else images), m / (m - 1) times the sum of squares of what
    m units add to the error of a rate. A cell of one unit has none; it takes the variance between
    units of its class over all groups, else a Beta posterior's. Seeds are taken as they are: the
    interval does not hold the scatter of a new training. Each end is that of mean_c(.), normal
    and with independent classes, under the same root: approximate.

    Args:
        label_N: true classes in [0, C).
        prediction_SN: predicted classes, one row per seed, or (N,) for one seed.
        group_N: groups in [0, G), -1 where unknown or not to be assessed.
        patient_N: patient, else lesion, of each sample, -1 or empty where unknown; None: images.
        num_classes: C.
        num_groups: G.
        confidence: of the interval.

    Returns:
        ``eopp0``, ``eopp1`` and ``eodd_hardt``; None where no pair has a class to compare.

    Raises:
        UserError: confidence not in (0, 1).
        ValueError: lengths differ, or a value is out of its range.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence must be in (0, 1) but is {confidence}")
    units = count_units(label_N, prediction_SN, group_N, patient_N, num_classes, num_groups)
    support_UGC = units.support_UGC.astype(float)
    hit_UGC, predicted_UGC = units.hit_SUGC.mean(0), units.predicted_SUGC.mean(0)
    hits = _cells(hit_UGC, support_UGC)
    negative_UGC = support_UGC.sum(2, keepdims=True) - support_UGC
    alarms = _cells(predicted_UGC - hit_UGC, negative_UGC)
    found: dict[str, list[CorrectedGap]] = {"eopp0": [], "eopp1": [], "eodd_hardt": []}
    for pair in itertools.combinations(range(num_groups), 2):
        hit_C, alarm_C = (
            ~np.isnan(cells.rate_GC[list(pair)]).any(0) for cells in (hits, alarms)
        )
        parts: Sequence[tuple[str, Sequence[tuple[_Cells, np.ndarray]]]] = (
            ("eopp0", [(alarms, alarm_C)]),
            ("eopp1", [(hits, hit_C)]),
            ("eodd_hardt", [(hits, hit_C & alarm_C), (alarms, hit_C & alarm_C)]),
        )
        for name, kinds in parts:
            if kinds[0][1].any():
                ends = [_mean_square(cells, *pair, on_C, confidence) for cells, on_C in kinds]
                value, low, high = np.mean(ends, axis=0).tolist()
                borrowed = sum(
                    int(cells.borrowed_GC[list(pair)][:, on_C].sum()) for cells, on_C in kinds
                )
                found[name].append(CorrectedGap(value, low, high, pair, borrowed))
    return {
        name: max(gaps, key=lambda gap: gap.value) if gaps else None
        for name, gaps in found.items()
    }
