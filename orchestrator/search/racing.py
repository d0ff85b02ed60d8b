"""The racing rule: which configurations get a further seed, from joint draws alone.

By ``trainables/metrics/membership.py`` a configuration is *in* where no other dominates it by more
than the zone in 95 % of the draws, and *out* where one named other does. What is neither is *in
doubt*, and so is a single seed; its *rivals* are those that dominate it by more than the zone in
more than 5 % of the draws, for the doubt is about the difference of the two. The race goes on
while one of these may have a further seed. Then every configuration that the draws call out
follows until it has ``MIN_SEEDS`` (contracts: none is dropped before).

With three seeds nearly all are in doubt. So a round gives a seed to a quarter of them only, to
those where it tells most, in the order of

    (p (1 - p) + q (1 - q) + max_b p_ab (1 - p_ab) / 2) / (n (n + 1)),

with p the share of pooled draws (``trainables/metrics/joint.py``) in which a configuration is
dominated by more than the zone or violates the constraint on F1, q that in which it is a member,
p_ab that in which it dominates b by more than the zone, and n its number of seeds: a further one
takes 1/n - 1/(n + 1)
off the variance of its mean (the allocation of optimal computing budgets, Chen and Lee 2011, works
with the same two factors). Measured against the same number of seeds for all:
``benchmarks/racing.py``.

Shape legend: A arms (configurations), R draws, K objectives, all maximised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, MIN_SEEDS
from trainables.metrics.membership import dominance_shares, lost_shares, membership_frequency

SHARE_OF_A_ROUND = 4
"""One in so many gets a seed in a round: few rounds, and yet each of them learns from the last."""


def further_seeds(
    draw_RAK: np.ndarray,
    pooled_RAK: np.ndarray,
    zone_K: np.ndarray | float,
    num_seeds_A: Sequence[int] | np.ndarray,
    max_seeds: int,
    *,
    confidence: float = CONFIDENCE,
    min_seeds: int = MIN_SEEDS,
    barred_RA: np.ndarray | None = None,
    pooled_barred_RA: np.ndarray | None = None,
) -> list[int]:
    """Arms that get one more seed, those where it tells most first; empty: the race is over.

    Args:
        draw_RAK: of ``trainables.metrics.joint.joint_draws``; an arm with NaN is left alone.
        pooled_RAK: the same, pooled.
        zone_K: the indifference zone of each objective, at least 0.
        num_seeds_A: seeds of each arm by now, failed ones included.
        max_seeds: an arm that has as many gets no further one.
        confidence: in (1/2, 1).
        min_seeds: before an arm is dropped.
        barred_RA: draws in which an arm violates a constraint; None: there is none.
        pooled_barred_RA: the same of the pooled draws.
    """
    num_seeds_A = np.asarray(num_seeds_A)
    defined_A = ~np.isnan(draw_RAK).any((0, 2))
    may_A = defined_A & (num_seeds_A < max_seeds)
    lost_A, by_one_A = lost_shares(draw_RAK, zone_K, barred_RA)
    by_AA = dominance_shares(draw_RAK, zone_K, barred_RA)[1]
    doubt = 1 - confidence
    needed = 1 - doubt / max(1, draw_RAK.shape[1] - 1)
    in_doubt_A = defined_A & ((lost_A > doubt) | (num_seeds_A < 2)) & (by_one_A < needed)
    rival_A = (by_AA * in_doubt_A > doubt).any(1)
    value_A = worth(pooled_RAK, zone_K, num_seeds_A, pooled_barred_RA)
    order = np.lexsort((np.arange(len(may_A)), -value_A))
    racing = [int(arm) for arm in order if may_A[arm] and (in_doubt_A[arm] or rival_A[arm])]
    if racing:
        return racing[: -(-len(racing) // SHARE_OF_A_ROUND)]
    out_A = (by_one_A >= needed) & (num_seeds_A < min_seeds)
    return [int(arm) for arm in order if may_A[arm] and out_A[arm]]


def worth(
    pooled_RAK: np.ndarray,
    zone_K: np.ndarray | float,
    num_seeds_A: np.ndarray,
    barred_RA: np.ndarray | None = None,
) -> np.ndarray:
    """What a further seed of each arm tells about the front, see the module's docstring, (A,)."""
    by_any_A = lost_shares(pooled_RAK, zone_K, barred_RA)[0]
    by_AA = dominance_shares(pooled_RAK, zone_K, barred_RA)[1]
    free_A = np.nan_to_num(membership_frequency(pooled_RAK, barred_RA))
    unsure_A = by_any_A * (1 - by_any_A) + free_A * (1 - free_A)
    unsure_A += (by_AA * (1 - by_AA)).max(1, initial=0.0) / 2
    found_A: np.ndarray = unsure_A / (num_seeds_A * (num_seeds_A + 1.0))
    return found_A
