"""What a classifier with equal per-class rates would score on this test set.

Absolute differences of noisy rates are above 0 also where the true rates are equal. The floor of a
gap is its mean over permutations of the units' groups (see ``trainables.metrics.gap_statistics``)
within strata of like classes, the same permutation for all seeds. The hypothesis is "predictions
independent of group given class".

Samples of unknown group are left out first. Who exchanges groups with whom, and what becomes of
patients without a counterpart, for the floor and for p: ``trainables.metrics.exchange``.

Shape legend: N samples, M units that move, S seeds, R replicates, G groups, C classes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError
from trainables.metrics.exchange import Exchange, exchange_units
from trainables.metrics.fairness import GAPS, Mode, check_mode
from trainables.metrics.gap_statistics import Units, count_units, gap_values, group_rates

PERMUTE = 0x7065726D
"""The purpose in this module's streams; part of the figures, so it never changes."""
CELLS_PER_CHUNK = 4_000_000
"""Of (replicate, unit) at a time: 16 MB in float32."""
TIE = 1e-9
"""Replicates this close to the value count as equal to it: float sums in another order differ."""


@dataclass(frozen=True)
class Floor:
    """One gap beside its permutation distribution.

    ``value``: mean over seeds. ``floor``: mean of the distribution. ``excess``: value - floor,
    which is not an estimate of the gap. ``critical``: the smallest value with p <= alpha.
    ``p_value``: (1 + number >= value) / (1 + R). Floor and excess are None where no image moves,
    p and critical where no patient does, and all where no pair of groups has a class to compare.
    """

    value: float | None
    floor: float | None
    excess: float | None
    p_value: float | None
    critical: float | None


@dataclass(frozen=True)
class PermutationFloor:
    """The floors of all gaps, and how much of the test set the permutations move."""

    gaps: Mapping[str, Floor]
    num_replicates: int
    exchange: Exchange


def movable_units(units: Units) -> np.ndarray:
    """Which units are in a stratum with units of another group."""
    single_U = units.group_U >= 0
    stratum_U = units.stratum_U
    seen = np.zeros((len(stratum_U) + 1, units.support_UGC.shape[1]), bool)
    seen[stratum_U[single_U], units.group_U[single_U]] = True
    return single_U & (seen.sum(1) > 1)[stratum_U]


def permuted_rates(
    units: Units, num_replicates: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """TPR and FPR (R, S, G, C) of chunks of permutations."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, PERMUTE)))
    movable_U = movable_units(units)
    order_M = np.flatnonzero(movable_U)
    order_M = order_M[np.argsort(units.stratum_U[order_M], kind="stable")]
    label_M, num_movable = units.group_U[order_M], len(order_M)
    edges = np.flatnonzero(np.diff(units.stratum_U[order_M])) + 1
    blocks = list(zip([0, *edges], [*edges, num_movable], strict=True)) if num_movable else []
    num_seeds, _, num_groups, num_classes = units.hit_SUGC.shape
    # A unit that moves has samples in one group only, so the sum over groups is its own count.
    count_UX = np.stack([units.hit_SUGC, units.predicted_SUGC])  # (2, S, U, G, C)
    moved_MX = count_UX[:, :, order_M].sum(3).transpose(2, 0, 1, 3).reshape(num_movable, -1)
    moved_MX = moved_MX.astype(np.float32)  # exact for counts below 2 ** 24
    fixed_KSGC = count_UX[:, :, ~movable_U].sum(2)
    moved_support_MC = units.support_UGC[order_M].sum(1).astype(np.float32)
    fixed_support_GC = units.support_UGC[~movable_U].sum(0)
    chunk = max(1, CELLS_PER_CHUNK // max(1, num_movable))
    for start in range(0, num_replicates, chunk):
        size = min(chunk, num_replicates - start)
        group_RM = np.broadcast_to(label_M, (size, num_movable)).copy()
        for low, high in blocks:
            group_RM[:, low:high] = rng.permuted(group_RM[:, low:high], axis=1)
        is_in_GRM = [(group_RM == g).astype(np.float32) for g in range(num_groups)]
        total_GRX = np.stack([is_in_RM @ moved_MX for is_in_RM in is_in_GRM])
        support_GRC = np.stack([is_in_RM @ moved_support_MC for is_in_RM in is_in_GRM])
        moved = total_GRX.reshape(num_groups, size, 2, num_seeds, num_classes)
        count_KRSGC = moved.transpose(2, 1, 3, 0, 4) + fixed_KSGC[:, None]
        support_RGC = support_GRC.transpose(1, 0, 2) + fixed_support_GC
        yield group_rates(count_KRSGC[0], count_KRSGC[1], support_RGC[:, None])


def check_permutations(num_replicates: int, alpha: float) -> None:
    """Refuse what no permutation test can be made of.

    Raises:
        UserError: R below 1, or alpha out of (0, 1).
    """
    if num_replicates < 1 or not 0 < alpha < 1:
        raise UserError(
            "replicates must be at least 1 and alpha in (0, 1) "
            f"but are {num_replicates} and {alpha}"
        )


def critical_value(replicate_R: np.ndarray, alpha: float) -> float:
    """The smallest value whose p is at most alpha: infinite with fewer than 1/alpha - 1."""
    allowed = math.floor(alpha * (1 + len(replicate_R)) + TIE) - 1
    if allowed < 0:
        return math.inf
    # At most `allowed` replicates may reach it, so it lies just above the next largest one.
    return float(np.sort(replicate_R)[::-1][min(allowed, len(replicate_R) - 1)]) + 2 * TIE


def permutation_floor(
    label_N: np.ndarray,
    prediction_SN: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray | None,
    *,
    num_classes: int,
    num_groups: int,
    mode: Mode = "corrected",
    within: Sequence[np.ndarray] = (),
    num_replicates: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> PermutationFloor:
    """Compare each gap with its distribution where predictions do not depend on the group.

    Args:
        label_N: true classes in [0, C).
        prediction_SN: predicted classes, one row per seed, or (N,) for one seed. The statistic is
            the mean over seeds of the gap.
        group_N: groups in [0, G), -1 where unknown or not to be assessed.
        patient_N: patient, else lesion, of each sample, -1 or empty where unknown (then the image
            by itself). None permutes images: that assumes independent images.
        num_classes: C.
        num_groups: G.
        mode: see ``trainables.metrics.fairness``.
        within: columns per sample that only units of equal values exchange groups in.
        num_replicates: R.
        alpha: level of ``critical``.
        seed: of the permutations; the same for all seeds of training.

    Raises:
        UserError: ``paper`` with other than two groups, or R or alpha out of range.
        ValueError: lengths differ, or a value is out of its range.
    """
    check_mode(mode, num_groups)
    check_permutations(num_replicates, alpha)
    exchange = exchange_units(label_N, group_N, patient_N, within)
    images = (label_N, prediction_SN, group_N)
    patients = count_units(
        *images, patient_N, num_classes, num_groups, stratum_N=exchange.stratum_N
    )
    rate = group_rates(
        patients.hit_SUGC.sum(1), patients.predicted_SUGC.sum(1), patients.support_UGC.sum(0)
    )
    value = {name: float(v_S.mean()) for name, v_S in gap_values(*rate, mode).items()}
    tested = _permuted_gaps(patients, mode, num_replicates, seed)
    is_whole = exchange.num_whole == exchange.num_patients
    floored = tested
    if not is_whole:
        parts = count_units(
            *images, exchange.part_N, num_classes, num_groups, stratum_N=exchange.part_stratum_N
        )
        floored = _permuted_gaps(parts, mode, num_replicates, seed)
    gaps = {}
    for name in GAPS:
        if math.isnan(value[name]):
            gaps[name] = Floor(None, None, None, None, None)
            continue
        floor = float(np.nanmean(floored[name])) if floored else None
        reached = int((tested[name] >= value[name] - TIE).sum()) if tested else None
        gaps[name] = Floor(
            value=value[name],
            floor=floor,
            excess=None if floor is None else value[name] - floor,
            p_value=None if reached is None else (1 + reached) / (1 + num_replicates),
            critical=critical_value(tested[name], alpha) if tested else None,
        )
    return PermutationFloor(gaps, num_replicates, exchange)


def _permuted_gaps(
    units: Units, mode: Mode, num_replicates: int, seed: int
) -> Mapping[str, np.ndarray]:
    """Each gap (R,), the mean over seeds; empty where nothing moves."""
    if not movable_units(units).any():
        return {}
    chunks = [gap_values(*rates, mode) for rates in permuted_rates(units, num_replicates, seed)]
    return {name: np.concatenate([gap_RS[name].mean(1) for gap_RS in chunks]) for name in GAPS}
