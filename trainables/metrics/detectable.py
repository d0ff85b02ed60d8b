"""The smallest gap that a permutation test on this test set finds, on the gap's own scale.

The alternative sought: in every class the TPR of one group is lower by d than elsewhere, and the
images that it misses fall on the other classes as the errors of all groups do (evenly where there
are none), which raises FPRs. The group is the smallest in which any difference could be found: of
one image, say, none can. Both make a gap: its size is the gap of these differences alone, without
sampling noise. For ``eopp1`` that is d itself; for ``eodd_hardt`` d with two classes, and towards
d / 2 with many, where FPRs hardly move.

A rate nearer to 1/2 scatters more. What p (1 - p) grows by is added to the permutations as normal
noise, a unit counting once, so that few errors in the data do not pass for precision.

Shape legend: N samples, S seeds, R replicates, G groups, C classes.
"""

from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError
from trainables.metrics.exchange import Exchange, exchange_units
from trainables.metrics.flat_cells import error_shares
from trainables.metrics.floor import (
    check_permutations,
    critical_value,
    permuted_rates,
)
from trainables.metrics.gap_statistics import count_units, gap_values, group_rates

DETECTABLE = ("eopp1", "eodd_hardt")
NOISE = 0x6E6F6973
"""The purpose in this module's stream; part of the figures, so it never changes."""
NO_VARIANCE = 1e-12
"""Standard deviation of permuted gaps below which they do not differ but for rounding."""


@dataclass(frozen=True)
class Detectable:
    """``gap``: in (0, 1], or None with its ``reason``. ``group``: whose TPRs are lowered."""

    gap: float | None
    group: int | None = None
    reason: str | None = None


def smallest_detectable_gap(
    label_N: np.ndarray,
    prediction_SN: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray | None,
    *,
    num_classes: int,
    num_groups: int,
    gap: str = "eopp1",
    within: tuple[np.ndarray, ...] = (),
    num_replicates: int = 2_000,
    alpha: float = 0.05,
    power: float = 0.8,
    seed: int = 0,
) -> Detectable:
    """The true gap that the permutation test finds with this power.

    It compares with a true gap, which has no sampling noise in it, and not with an observed one,
    which has: an observed gap may exceed it without being significant, or fall below it and be.
    The answer is to 1e-3 in d. Groups and classes are those of the ``corrected`` mode; a gap that
    lies in one class alone needs to be larger there. Rates may fall below 0 in the alternative.

    Raises:
        UserError: another gap than ``DETECTABLE``, or R, alpha or power out of range.
        ValueError: lengths differ, or a value is out of its range.
    """
    if gap not in DETECTABLE or not 0 < power < 1:
        raise UserError(
            f"gap must be one of {', '.join(DETECTABLE)} and power in (0, 1) "
            f"but are {gap!r} and {power}"
        )
    check_permutations(num_replicates, alpha)
    prediction_SN = np.atleast_2d(prediction_SN)
    exchange = exchange_units(label_N, group_N, patient_N, within)
    if not exchange.num_whole or not exchange.is_mostly_whole:
        return Detectable(None, reason=_too_few(exchange))
    units = count_units(
        label_N, prediction_SN, group_N, patient_N, num_classes, num_groups,
        stratum_N=exchange.stratum_N,
    )  # fmt: skip
    chunks = list(permuted_rates(units, num_replicates, seed))
    tpr_RSGC, fpr_RSGC = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    permuted_R = gap_values(tpr_RSGC, fpr_RSGC)[gap].mean(1)
    if np.isnan(permuted_R).all():
        return Detectable(None, reason="no pair of groups has a class to compare")
    if not permuted_R.std() > NO_VARIANCE:
        return Detectable(None, reason="the permutations do not vary (no errors, or all wrong)")
    noise_RGC = np.random.default_rng(np.random.SeedSequence((seed, NOISE))).standard_normal(
        (num_replicates, num_groups, num_classes)
    )
    tpr_GC, _ = group_rates(
        units.hit_SUGC.sum(1), units.predicted_SUGC.sum(1), units.support_UGC.sum(0)
    )
    support_GC = units.support_UGC.sum(0)
    known_N = np.asarray(group_N) >= 0
    share_CC = error_shares(np.asarray(label_N)[known_N], prediction_SN[:, known_N], num_classes)
    negative_GC = support_GC.sum(1, keepdims=True) - support_GC
    # what one more missed share of class c adds to the FPR of class k
    spill_GCC = support_GC[:, :, None] * share_CC / np.maximum(negative_GC, 1)[:, None, :]
    hits_C = np.nan_to_num(tpr_GC.mean(0) * support_GC).sum(0)
    pooled_C = hits_C / np.maximum(support_GC.sum(0), 1)
    units_GC = np.maximum((units.support_UGC > 0).sum(0), 1)

    def gaps(lower_RGC: np.ndarray) -> np.ndarray:
        """Gap (R,) where TPRs fall by so much, and FPRs rise with them."""
        rise_RGC = np.stack([lower_RGC[:, g] @ spill_GCC[g] for g in range(num_groups)], axis=1)
        return gap_values(tpr_RSGC - lower_RGC[:, None], fpr_RSGC + rise_RGC[:, None])[gap].mean(1)

    def scatter(fall_GC: np.ndarray) -> np.ndarray:
        """Noise (R, G, C) beyond that of the permutations where the TPRs fall by so much."""
        rate_GC = np.clip(pooled_C - fall_GC, 0, 1)
        grown_GC = rate_GC * (1 - rate_GC) - pooled_C * (1 - pooled_C)
        return noise_RGC * np.sqrt(np.maximum(grown_GC, 0) / units_GC)

    def is_found(d: float, group: int) -> bool:
        share_C = support_GC[group] / np.maximum(support_GC.sum(0), 1)
        lower_G1 = (np.arange(num_groups) == group)[:, None].astype(float)
        everywhere_GC = np.broadcast_to(d * share_C, support_GC.shape)
        critical = critical_value(gaps(scatter(everywhere_GC)), alpha)
        shifted_R = gaps(d * lower_G1 + scatter(d * lower_G1 * np.ones(num_classes)))
        return bool((shifted_R >= critical).mean() >= power)

    size_G = units.support_UGC.sum((0, 2))
    ascending = [int(g) for g in np.argsort(size_G, kind="stable") if size_G[g] > 0]
    lowered = next((g for g in ascending[:-1] if is_found(1.0, g)), None)
    if lowered is None:
        return Detectable(
            None, reason=f"not even a difference of 1 is found with {power:.0%} power"
        )
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle, lowered) else (middle, high)
    known_GC = np.where(support_GC > 0, 0.0, np.nan)
    rise_C = spill_GCC[lowered].sum(0)
    lower_G1 = (np.arange(num_groups) == lowered)[:, None].astype(float)
    one = gap_values(known_GC - lower_G1, np.zeros(known_GC.shape) + lower_G1 * rise_C)[gap]
    return Detectable(float(high * one), lowered)


def _too_few(exchange: Exchange) -> str:
    return (
        f"only {exchange.num_whole} of {exchange.num_comparable} patients have a counterpart of "
        "another group with the same classes"
    )
