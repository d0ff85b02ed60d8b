"""Where configurations stand while a sweep runs: draws of their objectives from the predictions
that are stored by now. Validation only.

Shape legend: A configurations, R draws, K objectives, all maximised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.fronts.aggregate import Aggregate
from orchestrator.judging.evidence import Evidence
from orchestrator.judging.judge import num_replicates
from orchestrator.judging.judgement import FIGURES
from orchestrator.search.arms import arms_of, barred_draws, objective_draws
from trainables.errors import UserError
from trainables.metrics.figures import Figure, fate_figure, metric_figure, worst_group_figure
from trainables.metrics.replicates import Replicates

REPLICATES = 500
"""Of patients: shares of draws are known to about 1 %."""


@dataclass(frozen=True)
class Standing:
    """The configurations whose predictions can be read, and their draws (contracts: saying how
    sure): of the objectives, and whether the constraint on F1 is violated.
    """

    points: Sequence[Aggregate]
    draw_RAK: np.ndarray
    pooled_RAK: np.ndarray
    barred_RA: np.ndarray | None = None
    pooled_barred_RA: np.ndarray | None = None


class Standings:
    """Draws from what a sweep has stored by now; nothing is read twice.

    Args:
        evidence: opens the stored predictions of validation; None: there are none.
        records: key -> record, as they are at each call.
        objectives: names.
        max_f1_loss: see ``orchestrator/fronts/constraints.py``.
    """

    def __init__(
        self,
        evidence: Callable[[], Evidence] | None,
        records: Mapping[str, Mapping[str, Any]],
        objectives: Sequence[str],
        max_f1_loss: float | None = None,
    ) -> None:
        self._open = evidence
        self._evidence: Evidence | None = None
        self.records, self.objectives = records, tuple(objectives)
        self.max_f1_loss = max_f1_loss
        self.problem: str | None = None

    def of(self, points: Sequence[Aggregate]) -> Standing | None:
        """None where nothing can be said; ``problem`` then tells why."""
        if self._evidence is None and self._open is not None:
            try:
                self._evidence = self._open()
            except UserError as error:
                self.problem = str(error)
        evidence = self._evidence
        if evidence is None or not points:
            return None
        missing = evidence.missing(arms_of(points, self.records).keys).keys()
        points = [point for point in points if not missing & set(point.keys)]
        arms = arms_of(points, self.records)
        if missing:
            self.problem = f"predictions of {len(missing)} nodes cannot be read"
        if not points or missing & set(arms.reference):
            return None
        num = min(REPLICATES, num_replicates(len(arms.keys_AS), len(arms.seeds)))
        replicates = evidence.replicates(arms.keys_AS, num_replicates=num, keep=True)
        names = {"f1", *self.objectives} & set(FIGURES)
        figures = {name: _figure(replicates, name) for name in names}
        draws = objective_draws(points, arms, figures, self.objectives)
        pooled = objective_draws(points, arms, figures, self.objectives, pooled=True)
        if draws is None or pooled is None:
            return None
        group_f1 = [
            metric_figure(replicates, name)
            for name in replicates.value_AS
            if name.startswith("f1_of_")
        ]
        limit = self.max_f1_loss
        return Standing(
            points,
            draws[1],
            pooled[1],
            barred_draws(points, arms, group_f1, limit),
            barred_draws(points, arms, group_f1, limit, pooled=True),
        )


def _figure(replicates: Replicates, name: str) -> Figure:
    if name.startswith("fate_"):
        return fate_figure(replicates, name.removeprefix("fate_"), 0)
    if name == "f1_worst_group":
        return worst_group_figure(replicates)
    return metric_figure(replicates, name)
