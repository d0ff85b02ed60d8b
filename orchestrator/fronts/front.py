"""The Pareto front of a sweep from its records: who is on it, its hypervolume and knee.

Everything that was measured competes: treatments, controls and baselines (the reference is the
point FATE = 0), so the front shows when fine-tuning alone, or no pruning at all, does as well.
Validation figures only.

Shape legend: N points, K objectives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from orchestrator.fronts.aggregate import Aggregate, aggregate
from orchestrator.fronts.constraints import is_feasible
from orchestrator.fronts.objectives import maximised, objective
from orchestrator.fronts.pareto import hypervolume, knee, pareto_mask
from orchestrator.fronts.points import (
    DIFFERENT_SEEDS,
    MIN_SEEDS,
    Member,
    each_trial,
    front_notes,
    incomplete_points,
    member_of,
    member_order,
    undefined_point,
)
from search_spaces.sweep_spec import CONFIRMATION, SweepSpec

Level = Literal["configuration", "trial"]
Records = Mapping[str, Mapping[str, Any]]

@dataclass(frozen=True)
class Front:
    """Members (best in the first objective first), all other points, and what could not compete
    and why.
    """

    objectives: tuple[str, ...]
    level: Level
    members: tuple[Member, ...]
    dominated: tuple[Member, ...]
    incomplete: tuple[dict[str, Any], ...]
    undefined: tuple[dict[str, Any], ...]
    knee: int | None
    hypervolume: float
    notes: tuple[str, ...]
    reference_point: tuple[float, ...]
    max_f1_loss: float | None = None
    raced_from: tuple[int, ...] | None = None
    selected: Mapping[str, Member] = field(default_factory=dict)
    """Of a confirmed front: configuration key -> the member as the selection's seeds show it."""
    selection_hypervolume: float | None = None
    """Of a confirmed front: what the selection's seeds showed."""

    @property
    def violating(self) -> tuple[Member, ...]:
        """Members of a confirmed front that lose more F1 on the fresh seeds than is allowed."""
        return tuple(m for m in self.members if not self.is_feasible(m.aggregate))

    def is_feasible(self, point: Aggregate) -> bool:
        """Whether a configuration may be a member: no group loses more F1 than allowed."""
        return is_feasible(point.figures["f1_loss"], self.max_f1_loss)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the members' nodes, every seed."""
        return tuple(key for member in self.members for key in member.aggregate.keys)


def build_front(
    records: Records,
    objectives: Sequence[str],
    *,
    level: Level = "configuration",
    max_f1_loss: float | None = None,
    raced_from: Collection[int] | None = None,
    confirmed: bool = True,
    num_confirming: int = 0,
) -> Front:
    """The front of a sweep's records.

    Members are chosen by seeds below ``CONFIRMATION``. Once every member has fresh seeds from
    there on, its figures are those of the fresh ones (contracts: saying how sure).

    Args:
        records: key -> record, of ``orchestrator.ledger.records.load_records``.
        objectives: names of ``search_spaces.sweep_spec.OBJECTIVES``.
        level: ``configuration``: means over the seeds that are compared (``common_seeds``) and
            FATE of those means, only configurations that have them all; ``trial``: every record by
            itself with its own FATE.
        max_f1_loss: a configuration of which a group loses more F1 is no member
            (``orchestrator/fronts/constraints.py``); None: no limit.
        raced_from: the seeds that every configuration begins with, where racing may give it
            further ones, which then count; None: only seeds in common count (``common_seeds``).
        confirmed: False: the selection, whatever fresh seeds there are.
        num_confirming: fresh seeds that each member should have; a note says so where it has not.
    """
    objectives, given = tuple(objectives), records
    incomplete = []
    if level == "configuration":
        records = {k: r for k, r in given.items() if r["trial"]["seed"] < CONFIRMATION}
    if level == "trial":
        complete, most = each_trial(records), 1
    else:
        every = list(aggregate(records).values())
        seeds = common_seeds(every) if raced_from is None else frozenset(raced_from)
        compared = records
        if seeds and raced_from is None:
            compared = {k: r for k, r in records.items() if r["trial"]["seed"] in seeds}
        points, most = list(aggregate(compared).values()), len(seeds)
        complete = [point for point in points if seeds <= set(point.seeds)]
        whole = {point.configuration for point in complete}
        incomplete = incomplete_points(compared, points, most, whole)
    candidates, undefined = [], []
    for point in complete:
        member = member_of(point, objectives, records)
        if member is None:
            undefined.append(undefined_point(point, objectives, records))
        else:
            candidates.append(member)
    candidates.sort(key=lambda member: member_order(member, objectives))
    values_NK = np.array([m.values for m in candidates], dtype=float).reshape(-1, len(objectives))
    start_K = _reference_point(values_NK, objectives)
    values_NK = maximised(values_NK, objectives)
    on_N = np.array(
        [is_feasible(m.aggregate.figures["f1_loss"], max_f1_loss) for m in candidates], dtype=bool
    )
    num_infeasible = len(on_N) - int(on_N.sum())
    on_N[on_N] = pareto_mask(values_NK[on_N])
    members = tuple(m for m, on in zip(candidates, on_N, strict=True) if on)
    notes = front_notes(members, level, most, len(incomplete), undefined)
    if num_infeasible:
        lose = "loses" if num_infeasible == 1 else "lose"
        notes.append(
            f"{num_infeasible} {lose} more than {max_f1_loss:.1%} of a group's F1: no members"
        )
    front = Front(
        objectives=objectives,
        level=level,
        members=members,
        dominated=tuple(m for m, on in zip(candidates, on_N, strict=True) if not on),
        incomplete=tuple(incomplete),
        undefined=tuple(undefined),
        knee=knee(values_NK[on_N]),
        hypervolume=hypervolume(values_NK[on_N], maximised(start_K, objectives)),
        notes=tuple(notes),
        reference_point=tuple(start_K.tolist()),
        max_f1_loss=max_f1_loss,
        raced_from=None if raced_from is None else tuple(raced_from),
    )
    if confirmed and level == "configuration":
        return _confirmed(front, given, num_confirming)
    return front


def sweep_front(
    records: Records,
    spec: SweepSpec,
    objectives: Sequence[str] | None = None,
    *,
    confirmed: bool = True,
) -> Front:
    """The front by the rules of a sweep; ``objectives``: others than its own."""
    search = spec.search
    return build_front(
        records,
        objectives or search.resolved_objectives,
        max_f1_loss=search.max_f1_loss,
        raced_from=spec.seeds if search.racing else None,
        confirmed=confirmed,
        num_confirming=search.num_confirming,
    )


def _confirmed(front: Front, records: Records, wanted: int) -> Front:
    """The same members with the figures of their fresh seeds, once all of them have some in
    common.
    """
    fresh = {k: r for k, r in records.items() if r["trial"]["seed"] >= CONFIRMATION}
    names = [member.aggregate.configuration for member in front.members]
    found = aggregate(fresh)
    if not names or not found.keys() & set(names):
        if not names or not wanted:
            return front
        note = (
            "not confirmed: no fresh seed was trained (the budget or the time was over), the "
            "figures are those of the seeds that chose the members"
        )
        return replace(front, notes=(*front.notes, note))
    common = set.intersection(
        *(set(found[name].seeds) if name in found else set() for name in names)
    )
    if not common:
        note = "not confirmed: the members have no fresh seed in common yet"
        return replace(front, notes=(*front.notes, note))
    found = aggregate({k: r for k, r in fresh.items() if r["trial"]["seed"] in common})
    members = [member_of(found[name], front.objectives, records) for name in names]
    if any(member is None for member in members):
        note = "not confirmed: an objective is undefined on the fresh seeds"
        return replace(front, notes=(*front.notes, note))
    confirmed = [member for member in members if member is not None]
    confirmed.sort(key=lambda member: member_order(member, front.objectives))
    values_NK = maximised(np.array([m.values for m in confirmed]), front.objectives)
    point_K = maximised(np.asarray(front.reference_point), front.objectives)
    keeps_N = np.array([front.is_feasible(member.aggregate) for member in confirmed])
    best_N = pareto_mask(values_NK)
    beaten, violating = len(confirmed) - int(best_N.sum()), int((~keeps_N).sum())
    what = "1 fresh seed" if len(common) == 1 else f"{len(common)} fresh seeds"
    notes = [
        f"figures of the members are those of {what}, which chose nothing; all other "
        "configurations are shown by the seeds of the selection"
    ]
    if len(common) < wanted:
        notes.append(f"{what} of {wanted}: the budget, the time or failures left no more")
    if beaten:
        notes.append(f"on the fresh seeds {beaten} of {len(confirmed)} members are dominated")
    if violating and front.max_f1_loss is not None:
        notes.append(
            f"on the fresh seeds {violating} of {len(confirmed)} members lose more than "
            f"{front.max_f1_loss:.1%} of a group's F1"
        )
    if len(common) < MIN_SEEDS:
        notes.append(f"{what}: not publishable, {MIN_SEEDS} are the least")
    at = knee(values_NK[best_N])  # the others lie inside
    return replace(
        front,
        members=tuple(confirmed),
        knee=None if at is None else int(np.flatnonzero(best_N)[at]),
        hypervolume=hypervolume(values_NK[keeps_N], point_K),
        notes=(*(note for note in front.notes if note != DIFFERENT_SEEDS), *notes),
        selected={member.aggregate.configuration: member for member in front.members},
        selection_hypervolume=front.hypervolume,
    )


def confirming(front: Front, records: Records) -> list[Aggregate]:
    """Of a confirmed front: the members and their controls on the fresh seeds."""
    keys = {
        key: record
        for key, record in records.items()
        if record["trial"]["seed"] in front.members[0].aggregate.seeds
    }
    found = aggregate(keys)
    wanted = dict.fromkeys(member.aggregate.configuration for member in front.members)
    for member in front.members:
        for name, key in records[member.aggregate.keys[0]]["compares_with"].items():
            if name != "own" and key in records:
                wanted[records[key]["trial"]["configuration"]] = None
    return [
        found[name]
        for name in wanted
        if name in found and found[name].seeds == front.members[0].aggregate.seeds
    ]


def _reference_point(values_NK: np.ndarray, objectives: Sequence[str]) -> np.ndarray:
    """Of the hypervolume, in the objectives' own units; the worst of all points where an objective
    has no natural one (parameters, operations, seconds). A point that is not above it in every
    objective adds nothing.
    """
    worst_K = maximised(maximised(values_NK, objectives).min(0, initial=np.inf), objectives)
    natural = [objective(name).reference for name in objectives]
    pairs = zip(natural, worst_K.tolist(), strict=True)
    return np.array([(w if np.isfinite(w) else 0.0) if r is None else r for r, w in pairs])


def common_seeds(points: Sequence[Aggregate]) -> frozenset[int]:
    """The seeds on which configurations are compared: what most have done, then the larger set.

    So a sweep that is being extended by a seed keeps its front until most configurations have the
    new one. At least three seeds are asked for wherever any configuration has three.
    """
    sets = {frozenset(point.seeds) for point in points}
    least = min(3, max(map(len, sets), default=0))
    return max(
        (s for s in sets if len(s) >= least),
        key=lambda s: (sum(s <= set(p.seeds) for p in points), len(s), sorted(s)),
        default=frozenset(),
    )
