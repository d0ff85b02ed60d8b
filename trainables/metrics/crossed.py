"""The interval of a mean over seeds: seeds and patients are crossed.

Model of a figure t of seed s on the patients drawn: t_s = mu + a_s + b + c_s, with a_s the seed's
effect, b what the draw of patients does to all seeds alike, and c_s what it does to one seed. The
mean over S seeds has the variance (var a + var c) / S + var b. Estimated are

* between = sample variance of t_s over seeds, which holds var a + var c,
* var b = mean covariance of two seeds' replicates, var c = their mean variance less var b,
* var a = max(0, between - var c): the seed component net of patient noise,
* patient part = var b + var c / S, the variance of the replicates' seed mean (where var b came out
  negative it is 0),
* variance = patient part + var a / S.

The interval is value +- half, half = t_df sqrt(variance), with Satterthwaite's (1946) degrees of
freedom

    df = variance^2 / ((between / S)^2 / (S - 1) + (var b)^2 / (P - 1)),

for without the maximum the variance is between / S + var b, two independent estimates with S - 1
and about P - 1 degrees of freedom (P patients). df is never below min(S, P) - 1. One seed has no
variance between seeds: the interval then holds the patient part only.

A gap cannot be below 0 and varies the more the larger it is, so that value +- half misses above
far more often than below. The interval of such a figure is taken on the log scale (delta method):
from value exp(-half / value) to value exp(half / value), or, where half is above value and the
exponential would run away, to its continuation along the line value + (e - 1) half; never above 1.

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

from trainables.metrics.student_t import t_quantile

CONFIDENCE = 0.95
# From here on simulated coverage is near nominal (benchmarks/coverage.py).
MIN_SEEDS, MIN_IMAGES = 5, 10


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; that of a gap lies in 0 to 1, others are not cut there.

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
    num_seeds: int = 0

    @property
    def standard_error(self) -> float | None:
        """Square root of the two parts of the variance; None where there is no interval."""
        if self.seed_part is None or self.patient_part is None:
            return None
        return math.sqrt(self.seed_part + self.patient_part)


def interval(
    value_S: np.ndarray,
    replicate_RS: np.ndarray,
    *,
    num_patients: int,
    smallest_cell: int = MIN_IMAGES,
    flat: str = "",
    is_gap: bool = False,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of the mean over seeds, see the module's docstring for the formulas.

    Args:
        value_S: the figure of each seed on the original patients.
        replicate_RS: the same on resampled patients, one draw for all seeds of a row.
        num_patients: P, above 1.
        smallest_cell: images of the least cell, for ``approximate``.
        flat: which cells have no variance under resampling, in words, for ``approximate``.
        is_gap: the figure is a gap of rates, from 0 to 1: its interval is taken on the log scale.
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
        reason = "undefined" if num_seeds == 1 else "undefined in some seed"
        return Interval(None, reason=reason, num_seeds=num_seeds)
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
        plural = "image" if smallest_cell == 1 else "images"
        notes.append(f"{smallest_cell} {plural} in a class and group, fewer than {MIN_IMAGES}")
    if flat:
        notes.append(flat)
    if variance == 0:
        notes.append("no variance in any redraw: the interval has no width")
    low, high = _log_ends(value, half) if is_gap else (value - half, value + half)
    return Interval(
        value=value,
        low=low,
        high=high,
        df=df,
        seed_part=seed_part,
        patient_part=patient_part,
        approximate=tuple(notes),
        num_seeds=num_seeds,
    )


def _log_ends(value: float, half: float) -> tuple[float, float]:
    """Ends on the log scale of what lies between 0 and 1."""
    if half == 0:
        return value, value
    low = value * math.exp(-half / value) if value > 0 else 0.0
    high = value * math.exp(half / value) if half <= value else value + half * (math.e - 1)
    return low, max(value, min(high, 1.0))
