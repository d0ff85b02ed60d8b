"""How far the mean over a few seeds can be trusted: Student's t interval.

It says how much training varies. Patients are not resampled, so it says nothing about how much
another data set would differ.

Shape legend: S seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.metrics.student_t import t_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure over S seeds: its value, and a number a seed whose mean it is.

    For a mean these are the seeds' own values; for a ratio its linearisation (Taylor expansion at
    the means; Cochran, Sampling Techniques, 3rd ed., section 6.4), so that both have an interval
    and two figures of the same seeds have a paired difference. None: undefined in some seed.
    """

    value: float | None
    per_seed_S: tuple[float, ...] = ()

    @property
    def half_width(self) -> float | None:
        """Half of the interval; None with fewer than two seeds."""
        if self.value is None or len(self.per_seed_S) < 2:
            return None
        return half_width(self.per_seed_S)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The t interval around the value; None with fewer than two seeds."""
        half = self.half_width
        if self.value is None or half is None:
            return None
        return self.value - half, self.value + half


def mean_over_seeds(value_S: Sequence[float | None]) -> Estimate:
    """The mean; undefined as soon as one seed's value is."""
    defined = tuple(float(value) for value in value_S if value is not None)
    if len(defined) < len(value_S) or not defined:
        return Estimate(None)
    return Estimate(statistics.fmean(defined), defined)


def fate_over_seeds(f1: Estimate, gap: Estimate, ref_f1: Estimate, ref_gap: Estimate) -> Estimate:
    """FATE of the seed means, F1/F1_ref - gap/gap_ref, linearised in the four means.

    The influence of seed s on a ratio r = a/b is (a_s - r b_s) / b.
    """
    from trainables.metrics.fate import fate

    value = fate(f1.value, gap.value, ref_f1.value, ref_gap.value)
    if value is None or not ref_f1.value or not ref_gap.value:
        return Estimate(None)
    assert f1.value is not None
    assert gap.value is not None
    per_seed_S = []
    for a, g, ref_a, ref_g in zip(
        f1.per_seed_S, gap.per_seed_S, ref_f1.per_seed_S, ref_gap.per_seed_S, strict=True
    ):
        gain = (a - f1.value / ref_f1.value * ref_a) / ref_f1.value
        growth = (g - gap.value / ref_gap.value * ref_g) / ref_gap.value
        per_seed_S.append(value + gain - growth)
    return Estimate(value, tuple(per_seed_S))


def indistinguishable(one: Estimate, other: Estimate) -> bool:
    """Whether the interval of the paired difference holds 0; both over the same seeds."""
    if one.value is None or other.value is None:
        return False
    pairs = zip(one.per_seed_S, other.per_seed_S, strict=True)
    difference_S = [a - b for a, b in pairs]
    if len(difference_S) < 2:
        return False
    return abs(one.value - other.value) <= half_width(difference_S)


def half_width(value_S: Sequence[float]) -> float:
    """Quantile of t times the standard error of the mean; needs two values."""
    spread = statistics.stdev(value_S) / math.sqrt(len(value_S))
    return t_quantile(len(value_S) - 1, CONFIDENCE) * spread
