"""Intervals for a metric, a paired difference and FATE: seeds and patients are crossed.

Model of a figure t of seed s on the patients drawn: t_s = mu + a_s + b + c_s, with a_s the seed's
effect, b what the draw of patients does to all seeds alike, and c_s what it does to one seed. The
mean over S seeds has the variance (var a + var c) / S + var b. Estimated are

* between = sample variance of t_s over seeds, which holds var a + var c,
* var b = mean covariance of two seeds' replicates, var c = their mean variance less var b,
* var a = max(0, between - var c): the seed component net of patient noise,
* patient part = var b + var c / S, the variance of the replicates' seed mean (where var b came out
  negative it is 0),
* variance = patient part + var a / S.

The interval is value +- t_df sqrt(variance), with Satterthwaite's (1946) degrees of freedom

    df = variance^2 / ((between / S)^2 / (S - 1) + (var b)^2 / (P - 1)),

for without the maximum the variance is between / S + var b, two independent estimates with S - 1
and about P - 1 degrees of freedom (P patients). df is never below min(S, P) - 1. One seed has no
variance between seeds: the interval then holds the patient part only.

The interval is for the expected value of the figure on a test set of this size. A gap, being a
mean of absolute differences, is inflated by noise, so that this is above the gap of endless data,
which the interval then misses: in 58 % of the data sets with 1 to 40 patients a cell and 5 seeds
(``eodd_hardt``, benchmarks/coverage.py), while it held the expected value in 98 %.

Shape legend: S seeds, R replicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainables.metrics.fate import fate, undefined_reason
from trainables.metrics.replicates import Replicates
from trainables.metrics.student_t import t_quantile

CONFIDENCE = 0.95
# From here on simulated coverage is near nominal (benchmarks/coverage.py).
MIN_SEEDS, MIN_IMAGES = 5, 10


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, which is not cut at 0 or 1.

    ``value`` is None where the figure is undefined, ``low`` and ``high`` also where it is not
    determined; ``reason`` says why. ``seed_part`` and ``patient_part`` sum to the variance of the
    value. ``approximate`` says what keeps the coverage from being near nominal; empty: nothing.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    df: float | None = None
    seed_part: float | None = None
    patient_part: float | None = None
    reason: str | None = None
    approximate: tuple[str, ...] = ()


def interval(
    value_S: np.ndarray,
    replicate_RS: np.ndarray,
    *,
    num_patients: int,
    smallest_cell: int = MIN_IMAGES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of the mean over seeds, see the module's docstring for the formulas.

    Args:
        value_S: the figure of each seed on the original patients.
        replicate_RS: the same on resampled patients, one draw for all seeds of a row.
        num_patients: P, above 1.
        smallest_cell: images of the least cell, for ``approximate``.
        confidence: in (0, 1).

    Raises:
        ValueError: shapes do not fit, or fewer than two replicates or patients.
    """
    value_S, replicate_RS = np.asarray(value_S, float), np.asarray(replicate_RS, float)
    num_seeds = len(value_S)
    if replicate_RS.ndim != 2 or replicate_RS.shape[1] != num_seeds or not num_seeds:
        raise ValueError(f"replicates of shape {replicate_RS.shape} for {num_seeds} seeds")
    if len(replicate_RS) < 2 or num_patients < 2:
        raise ValueError(f"{len(replicate_RS)} replicates of {num_patients} patients, 2 needed")
    if np.isnan(value_S).any() or np.isnan(replicate_RS).any():
        return Interval(None, reason="undefined in some seed")
    value = float(value_S.mean())
    patient_part = float(replicate_RS.mean(1).var(ddof=1))
    var_b, seed_part, between = patient_part, 0.0, 0.0
    if num_seeds > 1:
        covariance_SS = np.cov(replicate_RS, rowvar=False)
        mean_variance = float(np.trace(covariance_SS)) / num_seeds
        off_diagonal = float(covariance_SS.sum()) - mean_variance * num_seeds
        var_b = max(0.0, off_diagonal / (num_seeds * (num_seeds - 1)))
        between = float(value_S.var(ddof=1))
        var_c = max(0.0, mean_variance - var_b)
        patient_part = var_b + var_c / num_seeds
        seed_part = max(0.0, between - var_c) / num_seeds
    variance = patient_part + seed_part
    spread = var_b**2 / (num_patients - 1)
    spread += (between / num_seeds) ** 2 / (num_seeds - 1) if num_seeds > 1 else 0.0
    # No variance at all: any quantile times 0.
    df = max(variance**2 / spread, 1.0) if spread > 0 else float(num_patients - 1)
    half = t_quantile(df, confidence) * math.sqrt(variance)
    notes = []
    if num_seeds == 1:
        notes.append("1 seed: patients only, training is taken as fixed")
    elif num_seeds < MIN_SEEDS:
        notes.append(f"{num_seeds} seeds, fewer than {MIN_SEEDS}")
    if smallest_cell < MIN_IMAGES:
        notes.append(f"{smallest_cell} images in a class and group, fewer than {MIN_IMAGES}")
    return Interval(
        value, value - half, value + half, df, seed_part, patient_part, None, tuple(notes)
    )


def _of(
    replicates: Replicates, value_S: np.ndarray, replicate_RS: np.ndarray, confidence: float
) -> Interval:
    return interval(
        value_S,
        replicate_RS,
        num_patients=replicates.num_patients,
        smallest_cell=replicates.smallest_cell,
        confidence=confidence,
    )


def metric_interval(
    replicates: Replicates, name: str, arm: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of one of ``METRICS`` in one arm, averaged over seeds."""
    value_AS, replicate_RAS = replicates.value_AS[name], replicates.replicate_RAS[name]
    return _of(replicates, value_AS[arm], replicate_RAS[:, arm], confidence)


def difference_interval(
    replicates: Replicates, name: str, arm: int, other: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of ``arm`` less ``other``, paired by seed and by patient."""
    value_AS, replicate_RAS = replicates.value_AS[name], replicates.replicate_RAS[name]
    return _of(
        replicates,
        value_AS[arm] - value_AS[other],
        replicate_RAS[:, arm] - replicate_RAS[:, other],
        confidence,
    )


def fate_interval(
    replicates: Replicates,
    gap: str,
    arm: int,
    reference: int,
    *,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """FATE of the seed means, F1/F1_ref - gap/gap_ref, by linearisation (delta method).

    A ratio r = x/y of means changes by (dx - r dy) / y, so that seed s, original or replicate,
    contributes value + (f_s - r f_ref,s) / f_ref - (g_s - q g_ref,s) / g_ref, with r and q the
    ratios of the original means (Cochran, Sampling Techniques, 3rd ed., section 6.4). Not
    determined (no ``low`` and ``high``) where the interval of the reference's gap reaches
    ``floor``: there the linearisation does not hold.

    Args:
        replicates: of ``replicate_metrics``.
        gap: one of ``GAPS``.
        arm: which arm.
        reference: the arm of the reference.
        floor: the gap that a classifier with equal per-class rates would show, at least 0.
        confidence: in (0, 1), for both intervals.
    """
    f1_AS, f1_RAS = replicates.value_AS["f1"], replicates.replicate_RAS["f1"]
    gap_AS, gap_RAS = replicates.value_AS[gap], replicates.replicate_RAS[gap]
    f1_A, gap_A = f1_AS.mean(1), gap_AS.mean(1)
    f1, own_gap, reference_f1, reference_gap = (
        None if math.isnan(x) else float(x)
        for x in (f1_A[arm], gap_A[arm], f1_A[reference], gap_A[reference])
    )
    value = fate(f1, own_gap, reference_f1, reference_gap)
    if value is None:
        reason = undefined_reason(f1, own_gap, reference_f1, reference_gap)
        return Interval(None, reason=reason)
    of_reference = metric_interval(replicates, gap, reference, confidence=confidence)
    if of_reference.low is None or of_reference.low <= max(floor, 0.0):
        reason = f"not determined: the interval of the reference's gap reaches {max(floor, 0.0):g}"
        return Interval(value, reason=reason, approximate=of_reference.approximate)

    def influence(value_AS: np.ndarray, mean_A: np.ndarray) -> np.ndarray:
        ratio = mean_A[arm] / mean_A[reference]
        own, other = value_AS[..., arm, :], value_AS[..., reference, :]
        return (own - ratio * other) / mean_A[reference]

    value_S = value + influence(f1_AS, f1_A) - influence(gap_AS, gap_A)
    replicate_RS = value + influence(f1_RAS, f1_A) - influence(gap_RAS, gap_A)
    return _of(replicates, value_S, replicate_RS, confidence)
