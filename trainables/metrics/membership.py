"""Which arms belong to the front, by joint draws, with an indifference zone.

An arm is *dominated* by another that is nowhere worse and somewhere better. It is *dominated by
more than the zone* where another is at least as good with the zone taken off in every objective:
otherwise it is an epsilon-efficient solution (Loridan 1984, J. Optim. Theory Appl. 43). Arms that
differ by less than the zone are never told apart, whatever the number of seeds.

That *some* arm dominates is often sure where no arm is known to be better: the best of many noisy
draws beats the worst of equals. So an arm is out only where one named arm beats it, at a level
shared among the A - 1 that could (Bonferroni).

Shape legend: A arms, R draws, K objectives, all maximised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, MIN_SEEDS

ZONE: Mapping[str, float] = {"fate": 0.02, "f1": 0.005}
"""Differences of no practical weight, by the kind of objective."""

State = Literal["in", "out", "open"]


@dataclass(frozen=True)
class Membership:
    """One arm's place. ``frequency`` and ``dominated`` are None where an objective is undefined.

    Attributes:
        frequency: share of draws in which no arm dominates it.
        dominated: share of draws in which an arm dominates it by more than the zone.
        state: ``in`` where that share is at most 1 - confidence; ``out`` where one and the same
            arm dominates it by more than the zone in a share of draws of at least
            1 - (1 - confidence) / (A - 1) and it has enough seeds; else ``open``.
        reason: why it is open although draws would decide it.
    """

    frequency: float | None
    dominated: float | None
    state: State
    reason: str | None = None


def zone_of(objectives: Sequence[str]) -> np.ndarray:
    """The zone of each objective by its name: FATE's, F1's, else 0, (K,)."""
    kinds = [name.partition("_")[0] for name in objectives]
    return np.array([ZONE.get(kind, 0.0) for kind in kinds])


def dominated_draws(draw_RAK: np.ndarray, zone_K: np.ndarray | float = 0.0) -> np.ndarray:
    """Whether some arm dominates each arm by more than the zone in each draw, bool (R, A).

    An arm with NaN neither dominates nor is dominated.
    """
    return _dominators(draw_RAK, zone_K)[0]


def dominance_shares(
    draw_RAK: np.ndarray,
    zone_K: np.ndarray | float = 0.0,
    barred_RA: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of draws in which an arm is dominated by more than the zone: by some arm (A,), and in
    column b of row a by arm a alone (A, A). ``barred_RA``: draws in which an arm violates a
    constraint; there it dominates none.
    """
    dominated_RA, by_AA = _dominators(draw_RAK, zone_K, barred_RA)
    return dominated_RA.mean(0), by_AA


def _dominators(
    draw_RAK: np.ndarray, zone_K: np.ndarray | float, barred_RA: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``dominated_draws``, and the share of draws in which arm a dominates arm b, (A, A)."""
    moved_RAK = draw_RAK + zone_K
    num_arms = draw_RAK.shape[1]
    found_RA = np.zeros(draw_RAK.shape[:2], dtype=bool)
    share_AA = np.zeros((num_arms, num_arms))
    for arm in range(num_arms):
        other_R1K = draw_RAK[:, arm, None]
        beats_RA = (other_R1K >= moved_RAK).all(-1) & (other_R1K > moved_RAK).any(-1)
        if barred_RA is not None:
            beats_RA &= ~barred_RA[:, arm, None]
        found_RA |= beats_RA
        share_AA[arm] = beats_RA.mean(0)
    return found_RA, share_AA


def membership_frequency(
    draw_RAK: np.ndarray, barred_RA: np.ndarray | None = None
) -> np.ndarray:
    """Share of draws in which no arm dominates each arm and it violates no constraint, (A,); NaN
    where undefined.
    """
    lost_RA = _dominators(draw_RAK, 0.0, barred_RA)[0]
    if barred_RA is not None:
        lost_RA |= barred_RA
    share_A = 1 - lost_RA.mean(0)
    return np.where(np.isnan(draw_RAK).any((0, 2)), np.nan, share_A)


def memberships(
    draw_RAK: np.ndarray,
    zone_K: np.ndarray,
    num_seeds_A: Sequence[int] | np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    min_seeds: int = MIN_SEEDS,
    barred_RA: np.ndarray | None = None,
) -> tuple[Membership, ...]:
    """Frequency and decision of each arm.

    Args:
        draw_RAK: of ``joint.joint_draws``.
        zone_K: the indifference zone of each objective, at least 0.
        num_seeds_A: seeds of each arm; one with fewer than ``min_seeds`` is not decided out.
        confidence: in (1/2, 1).
        min_seeds: see above.
        barred_RA: draws in which an arm violates a constraint. There it is no member and dominates
            none; the constraint is one more that can put it out.

    Raises:
        ValueError: a zone is negative, or confidence is out of its range.
    """
    if (np.asarray(zone_K) < 0).any() or not 0.5 < confidence < 1:
        raise ValueError(f"zone at least 0 and confidence in (1/2, 1): {zone_K}, {confidence}")
    lost_A, by_one_A = lost_shares(draw_RAK, zone_K, barred_RA)
    needed = 1 - (1 - confidence) / max(1, draw_RAK.shape[1] - 1)
    found = []
    for frequency, share, by_one, seeds in zip(
        membership_frequency(draw_RAK, barred_RA), lost_A, by_one_A, num_seeds_A, strict=True
    ):
        if np.isnan(frequency):
            found.append(Membership(None, None, "open", "an objective is undefined"))
            continue
        state: State = "open"
        reason: str | None = None
        if share <= 1 - confidence:
            state = "in" if seeds > 1 else "open"
            reason = None if seeds > 1 else "1 seed: how training varies is not known"
        elif by_one >= needed and seeds >= min_seeds:
            state = "out"
        elif by_one >= needed:
            reason = f"{seeds} seeds, {min_seeds} before an arm is dropped"
        found.append(Membership(float(frequency), float(share), state, reason))
    return tuple(found)


def lost_shares(
    draw_RAK: np.ndarray, zone_K: np.ndarray | float, barred_RA: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Share of draws in which an arm is dominated by more than the zone or violates a constraint,
    and the largest share for one and the same reason: one named arm, or the constraint; (A,) each.
    """
    dominated_RA, by_AA = _dominators(draw_RAK, zone_K, barred_RA)
    by_one_A = by_AA.max(0, initial=0.0)
    if barred_RA is not None:
        dominated_RA = dominated_RA | barred_RA
        by_one_A = np.maximum(by_one_A, barred_RA.mean(0))
    return dominated_RA.mean(0), by_one_A


@dataclass(frozen=True)
class Spread:
    """A function of all arms' figures with its interval around the point estimate.

    ``optimism``: median of the draws less the value. The front of noisy points lies above that of
    their means, and so does the point estimate above the truth, by about as much.
    """

    value: float
    low: float
    high: float
    optimism: float


def hypervolume_interval(
    point_AK: np.ndarray,
    draw_RAK: np.ndarray,
    volume: Callable[[np.ndarray], float],
    *,
    confidence: float = CONFIDENCE,
) -> Spread:
    """Hypervolume of the point estimates, plus and minus a quantile of the draws' deviations; at
    least 0.

    No percentiles of the draws: these lie above the value (see ``Spread.optimism``) and can miss
    it. Half the width is the ``confidence`` quantile of |draw - median of the draws|. (Not the
    mean, which an area of draws with two degrees of freedom, three seeds, does not have.)

    Args:
        point_AK: point estimates.
        draw_RAK: of ``joint.joint_draws``.
        volume: of points (A, K), such as orchestrator/fronts/pareto.py's ``hypervolume`` with its
            reference point bound; rows with NaN are left out before it is called.
        confidence: in (0, 1).
    """
    defined_A = ~(np.isnan(draw_RAK).any((0, 2)) | np.isnan(point_AK).any(1))
    value = float(volume(point_AK[defined_A]))
    draw_R = np.array([volume(draw_AK[defined_A]) for draw_AK in draw_RAK])
    middle = float(np.median(draw_R))
    half = float(np.quantile(np.abs(draw_R - middle), confidence))
    return Spread(value, max(0.0, value - half), value + half, middle - value)
