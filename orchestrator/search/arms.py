"""Configurations and their FATE reference over all seeds that any of them has, and joint draws of
their objectives.

Shape legend: A arms (row 0 is the reference), S seeds, R draws, K objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.fronts.aggregate import Aggregate
from orchestrator.fronts.objectives import maximised
from orchestrator.judging.judgement import FIGURES
from trainables.metrics.figures import Figure
from trainables.metrics.joint import joint_draws

CERTAIN = ("params", "flops")
"""Objectives without sampling error."""

DRAWN = frozenset({*FIGURES, *CERTAIN})
"""Objectives that have draws, or need none."""


@dataclass(frozen=True)
class Arms:
    """Rows and columns of the arrays that everything is judged from.

    Attributes:
        keys_AS: key of each arm's node of each seed, None where it has none.
        seeds: of the columns, ascending.
        row: configuration key -> its row.
    """

    keys_AS: tuple[tuple[str | None, ...], ...]
    seeds: tuple[int, ...]
    row: Mapping[str, int]

    @property
    def reference(self) -> tuple[str, ...]:
        """Keys of the FATE reference, one a seed."""
        return tuple(key for key in self.keys_AS[0] if key is not None)

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, each once."""
        found = dict.fromkeys(key for keys in self.keys_AS for key in keys if key is not None)
        return tuple(found)

    def holding(self, keys: Sequence[str]) -> int | None:
        """The row that has all these nodes."""
        for row, held in enumerate(self.keys_AS):
            if set(keys) <= set(held):
                return row
        return None


def arms_of(points: Sequence[Aggregate], records: Mapping[str, Mapping[str, Any]]) -> Arms:
    """Configurations that have the same FATE reference for the same seed."""
    references: dict[int, str] = {}
    for point in points:
        for seed, key in zip(point.seeds, point.keys, strict=True):
            references.setdefault(seed, records[key]["compares_with"]["reference"])
    seeds = tuple(sorted(references))
    rows: dict[tuple[str | None, ...], int] = {tuple(references[seed] for seed in seeds): 0}
    row = {}
    for point in points:
        own = dict(zip(point.seeds, point.keys, strict=True))
        keys = tuple(own.get(seed) for seed in seeds)
        row[point.configuration] = rows.setdefault(keys, len(rows))
    return Arms(tuple(rows), seeds, row)


def objective_draws(
    points: Sequence[Aggregate],
    arms: Arms,
    figures: Mapping[str, Figure],
    objectives: Sequence[str],
    *,
    pooled: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Point values (A, K) and joint draws (R, A, K) of configurations, maximised; None where an
    objective has no draws.

    Args:
        points: of ``arms``.
        arms: see above.
        figures: of the arms, those of the objectives that are in ``FIGURES`` and ``f1``.
        objectives: their names.
        pooled: of ``joint_draws``.
    """
    if not objectives or not points or not set(objectives) <= DRAWN:
        return None
    rows = [arms.row[point.configuration] for point in points]
    known = [name for name in FIGURES if name in objectives]
    drawn = joint_draws([figures[name] for name in known or ("f1",)], pooled=pooled)
    value_AK = np.array([_values(point, objectives) for point in points])
    draw_RAK = np.empty((len(drawn), len(rows), len(objectives)))
    for k, name in enumerate(objectives):
        draw_RAK[:, :, k] = (
            drawn[:, rows, known.index(name)] if name in known else value_AK[:, k]
        )
    return value_AK, draw_RAK


def barred_draws(
    points: Sequence[Aggregate],
    arms: Arms,
    group_f1: Sequence[Figure],
    limit: float | None,
    *,
    pooled: bool = False,
) -> np.ndarray | None:
    """Draws in which some group of a configuration loses more than ``limit`` of its F1 against
    the reference, bool (R, A); None where there is no limit.

    Args:
        points: of ``arms``.
        arms: see above.
        group_f1: F1 of each group, of all arms.
        limit: ``search.max_f1_loss``.
        pooled: of ``joint_draws``.
    """
    if limit is None or not group_f1 or not points:
        return None
    # as in fronts/constraints.py: of a reference that is never right nothing can be lost
    losable = [one for one in group_f1 if one.value_AS[0][one.present_AS[0]].mean() > 0]
    rows = [arms.row[point.configuration] for point in points]
    if not losable:
        return np.zeros((len(group_f1[0].replicate_RAS), len(rows)), bool)
    draw_RAG = joint_draws(losable, pooled=pooled)
    reference_R1G = draw_RAG[:, :1]
    # loss > limit or undefined; a reference drawn at 0 or below has nothing to lose
    barred_RAG: np.ndarray = (reference_R1G > 0) & ~(draw_RAG >= (1 - limit) * reference_R1G)
    return np.any(barred_RAG, axis=-1)[:, rows]


def _values(point: Aggregate, objectives: Sequence[str]) -> list[float]:
    values = [math.nan if v is None else v for v in point.objectives(tuple(objectives))]
    return list(maximised(np.array(values), objectives).tolist())
