"""The racing rule: which configurations get a further seed, from joint draws alone.

Seeds go where the front is in doubt (design: candidates near the front). By
``trainables/metrics/membership.py`` a configuration is *in* where no other dominates it by more
than the zone in 95 % of the draws, and *out* where one named other does. What is neither is *in
doubt*. A round gives one seed to

1. every configuration in doubt, and to its rivals: whoever dominates it by more than the zone in
   more than 5 % of the draws, for the doubt is about the difference of the two;
2. when none is in doubt: every configuration that the draws call out but that has fewer than
   ``MIN_SEEDS`` seeds (contracts: none is dropped before).

None gets more than ``max_seeds``. Where a round has to be cut because the budget ends, what is
most in doubt goes first. Compared with the same number of seeds for all: ``benchmarks/racing.py``.

Shape legend: A arms (configurations), R draws, K objectives, all maximised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, MIN_SEEDS
from trainables.metrics.membership import dominance_shares


def further_seeds(
    draw_RAK: np.ndarray,
    zone_K: np.ndarray | float,
    num_seeds_A: Sequence[int] | np.ndarray,
    max_seeds: int,
    *,
    confidence: float = CONFIDENCE,
    min_seeds: int = MIN_SEEDS,
) -> list[int]:
    """Arms that get one more seed, most in doubt first; empty: the race is over.

    Args:
        draw_RAK: of ``trainables.metrics.joint.joint_draws``; an arm with NaN is left alone.
        zone_K: the indifference zone of each objective, at least 0.
        num_seeds_A: seeds of each arm by now, failed ones included.
        max_seeds: an arm that has as many gets no further one.
        confidence: in (1/2, 1).
        min_seeds: before an arm is dropped.
    """
    num_seeds_A = np.asarray(num_seeds_A)
    defined_A = ~np.isnan(draw_RAK).any((0, 2))
    by_any_A, by_AA = dominance_shares(draw_RAK, zone_K)
    doubt = 1 - confidence
    needed = 1 - doubt / max(1, draw_RAK.shape[1] - 1)
    by_one_A = by_AA.max(0, initial=0.0)
    in_doubt_A = defined_A & (by_any_A > doubt) & (by_one_A < needed)
    may_A = num_seeds_A < max_seeds
    rival_A = (by_AA[:, in_doubt_A] > doubt).any(1) & defined_A
    chosen_A = (in_doubt_A | rival_A) & may_A
    # a rival that may have no more does not end the race of the one it beats, nor the other way
    if not chosen_A.any():
        chosen_A = defined_A & (by_one_A >= needed) & (num_seeds_A < min_seeds) & may_A
    # one half of the draws: a coin's toss; a rival of many is as urgent as those it may beat
    distance_A = np.abs(by_any_A - 0.5)
    urgent_A = np.where(in_doubt_A, distance_A, 0.5 + distance_A)
    order = np.lexsort((np.arange(len(urgent_A)), num_seeds_A, urgent_A))
    return [int(arm) for arm in order if chosen_A[arm]]
