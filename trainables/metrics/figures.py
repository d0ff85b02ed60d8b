"""One figure of many arms and seeds with its replicates: a metric, a difference, or FATE.

All are means over seeds of one number a seed. For FATE that number is its linearisation, so that
intervals, joint draws and simultaneous intervals treat the three alike.

Shape legend: A arms (rows; of a contrast: C), S seeds (columns, by seed number), R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, Interval, interval
from trainables.metrics.fairness import GAPS
from trainables.metrics.fate import fate, undefined_reason
from trainables.metrics.replicates import Replicates
from trainables.metrics.student_t import t_quantile


@dataclass(frozen=True)
class Figure:
    """What each seed contributes to the mean of each row.

    Attributes:
        value_AS: on the original patients; NaN where undefined or not present.
        replicate_RAS: the same on resampled patients, one draw for all rows and seeds.
        present_AS: which seeds each row has; only those are read.
        num_patients: P.
        smallest_cell: images of the least class and group.
        reason_A: why a row's figure has no interval although it has a value; None: it has one.
        flat_A: which cells have no variance under resampling, in words; (): none in any row.
        is_gap: a gap of rates, from 0 to 1: intervals are taken on the log scale.
    """

    value_AS: np.ndarray
    replicate_RAS: np.ndarray
    present_AS: np.ndarray
    num_patients: int
    smallest_cell: int
    reason_A: tuple[str | None, ...]
    flat_A: tuple[str, ...] = ()
    is_gap: bool = False

    @property
    def num_seeds_A(self) -> np.ndarray:
        """How many seeds each row has."""
        return self.present_AS.sum(1)

    def variance(self, row: int, *, confidence: float = CONFIDENCE) -> Interval:
        """The interval of one row's mean, also where ``reason_A`` says that it does not hold."""
        present_S = self.present_AS[row]
        if not present_S.any():
            return Interval(None, reason="no seed in common")
        return interval(
            self.value_AS[row, present_S],
            self.replicate_RAS[:, row][:, present_S],
            num_patients=self.num_patients,
            smallest_cell=self.smallest_cell,
            flat=self.flat_A[row] if self.flat_A else "",
            is_gap=self.is_gap,
            confidence=confidence,
        )

    def interval(self, row: int, *, confidence: float = CONFIDENCE) -> Interval:
        """The interval of one row's mean over its seeds, see ``crossed.interval``."""
        found, reason = self.variance(row, confidence=confidence), self.reason_A[row]
        if reason is None:
            return found
        return Interval(
            found.value, reason=reason, num_seeds=found.num_seeds, approximate=found.approximate
        )


def metric_figure(replicates: Replicates, name: str) -> Figure:
    """One of the metrics of ``replicates`` in every arm."""
    value_AS = replicates.value_AS[name]
    return Figure(
        value_AS,
        replicates.replicate_RAS[name],
        replicates.present,
        replicates.num_patients,
        replicates.smallest_cell,
        (None,) * len(value_AS),
        _flat(replicates),
        is_gap=name in GAPS or name.endswith("_diff"),
    )


def _flat(replicates: Replicates) -> tuple[str, ...]:
    """Words for the cells of each arm that have no variance; empty: there is none."""
    if replicates.flat_ASK is None:
        return ()
    present_AS1, num_cells = replicates.present[..., None], replicates.flat_ASK.shape[-1]
    return tuple(
        f"all or no images hit in {num} of {num_cells} classes and groups" if num else ""
        for num in (replicates.flat_ASK | ~present_AS1).all(1).sum(1).tolist()
    )


def is_above(gap: Interval, floor: float, *, confidence: float = CONFIDENCE) -> bool:
    """Whether a gap lies above ``floor`` and is told from 0, so that a ratio to it can have an
    interval.

    Its own interval, being on the log scale, never reaches 0; what a denominator needs is that
    value - t standard error is above 0 (Fieller's condition).
    """
    error = gap.standard_error
    if gap.value is None or gap.low is None or gap.df is None or error is None:
        return False
    return gap.value > t_quantile(gap.df, confidence) * error and gap.low > max(floor, 0.0)


def worst_group_figure(replicates: Replicates) -> Figure:
    """F1 of the group in which its mean over seeds is lowest on the original patients, in every
    arm; which group that is, is taken as known.
    """
    names = [name for name in replicates.value_AS if name.startswith("f1_of_")]
    present_AS = replicates.present
    value_GAS = np.stack([replicates.value_AS[name] for name in names])
    mean_GA = np.where(present_AS, value_GAS, 0).sum(-1)  # of the same seeds in each group
    worst_A = mean_GA.argmin(0)
    arms = np.arange(len(worst_A))
    replicate_GRAS = np.stack([replicates.replicate_RAS[name] for name in names])
    return Figure(
        value_GAS[worst_A, arms],
        np.moveaxis(replicate_GRAS[worst_A, :, arms], 0, 1),
        present_AS,
        replicates.num_patients,
        replicates.smallest_cell,
        (None,) * len(worst_A),
        _flat(replicates),
    )


def contrast_figure(figure: Figure, pairs: Sequence[tuple[int, int]]) -> Figure:
    """Row ``a`` less row ``b`` for each pair, over the seeds that both have."""
    own, other = (np.array([pair[i] for pair in pairs], dtype=int) for i in (0, 1))
    return Figure(
        figure.value_AS[own] - figure.value_AS[other],
        figure.replicate_RAS[:, own] - figure.replicate_RAS[:, other],
        figure.present_AS[own] & figure.present_AS[other],
        figure.num_patients,
        figure.smallest_cell,
        tuple(figure.reason_A[a] or figure.reason_A[b] for a, b in pairs),
        tuple(figure.flat_A[a] or figure.flat_A[b] for a, b in pairs) if figure.flat_A else (),
    )


def fate_figure(
    replicates: Replicates,
    gap: str,
    reference: int,
    *,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Figure:
    """FATE of the seed means of every arm, F1/F1_ref - gap/gap_ref, by linearisation.

    A ratio r = x/y of means changes by (dx - r dy) / y, so that seed s, original or replicate,
    contributes value + (f_s - r f_ref,s) / f_ref - (g_s - q g_ref,s) / g_ref, with r and q the
    ratios of the original means (Cochran, Sampling Techniques, 3rd ed., section 6.4). Means are
    over the seeds that the arm and the reference have in common.

    A row is not determined where the reference's gap is not ``is_above`` the ``floor``: there the
    linearisation does not hold. The reference's own FATE is 0 by definition.

    Args:
        replicates: of ``replicate_metrics``.
        gap: one of ``GAPS``.
        reference: the arm of the reference.
        floor: the gap that a classifier with equal per-class rates would show, at least 0.
        confidence: in (0, 1), of the reference gap's interval.
    """
    f1, gaps = metric_figure(replicates, "f1"), metric_figure(replicates, gap)
    present_AS = replicates.present & replicates.present[reference]
    value_AS = np.full(present_AS.shape, np.nan)
    replicate_RAS = np.full((len(f1.replicate_RAS), *present_AS.shape), np.nan)
    reasons: list[str | None] = []
    for arm, on_S in enumerate(present_AS):
        rows = [
            (one.value_AS[row, on_S], one.replicate_RAS[:, row][:, on_S])
            for one in (f1, gaps)
            for row in (arm, reference)
        ]
        # A mean without a seed is undefined, and numpy would warn about it.
        mean = [float(v_S.mean()) if on_S.any() else math.nan for v_S, _ in rows]
        named = [None if math.isnan(m) else m for m in mean]
        of_f1, of_reference_f1, of_gap, of_reference_gap = named
        value = fate(of_f1, of_gap, of_reference_f1, of_reference_gap)
        if value is None:
            reasons.append(undefined_reason(of_f1, of_gap, of_reference_f1, of_reference_gap))
            continue
        for array, i in ((value_AS[arm], 0), (replicate_RAS[:, arm], 1)):
            f, f_ref, g, g_ref = (row[i] for row in rows)
            gain = (f - mean[0] / mean[1] * f_ref) / mean[1]
            growth = (g - mean[2] / mean[3] * g_ref) / mean[3]
            array[..., on_S] = value + gain - growth
        of_gap_interval = interval(
            *rows[3],
            num_patients=replicates.num_patients,
            smallest_cell=replicates.smallest_cell,
            is_gap=True,
            confidence=confidence,
        )
        reached = f"its floor, {floor:.3f}" if floor > 0 else "0"
        reasons.append(
            None
            if is_above(of_gap_interval, floor, confidence=confidence)
            else f"not determined: the interval of the reference's gap reaches {reached}"
        )
    return Figure(
        value_AS,
        replicate_RAS,
        present_AS,
        replicates.num_patients,
        replicates.smallest_cell,
        tuple(reasons),
        _flat(replicates),
    )


def metric_interval(
    replicates: Replicates, name: str, arm: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of one of the metrics of ``replicates`` in one arm."""
    return metric_figure(replicates, name).interval(arm, confidence=confidence)


def difference_interval(
    replicates: Replicates, name: str, arm: int, other: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of ``arm`` less ``other``, paired by seed and by patient."""
    figure = contrast_figure(metric_figure(replicates, name), [(arm, other)])
    return figure.interval(0, confidence=confidence)


def fate_interval(
    replicates: Replicates,
    gap: str,
    arm: int,
    reference: int,
    *,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of an arm's FATE; not determined where the reference's gap reaches ``floor``.

    See ``fate_figure``, which gives all arms at once and takes the same arguments.
    """
    figure = fate_figure(replicates, gap, reference, floor=floor, confidence=confidence)
    return figure.interval(arm, confidence=confidence)
