"""Judging a front: intervals, floors, differences from controls and front membership.

Everything is computed from stored predictions of one split, seeds and patients crossed and paired
across arms (contracts: saying how sure); nothing here chooses anything.

Shape legend: A arms (configurations), S seeds, R draws, K objectives.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.fronts.aggregate import GAPS, Aggregate
from orchestrator.fronts.constraints import is_feasible
from orchestrator.fronts.objectives import maximised
from orchestrator.fronts.optimism import expected_optimism
from orchestrator.fronts.pareto import hypervolume
from orchestrator.judging.contrasts import contrasted_figure, contrasts_notes, contrasts_of
from orchestrator.judging.evidence import Evidence, num_replicates, open_evidence
from orchestrator.judging.judgement import FATES, FIGURES, Beside, Judged, Judgement
from orchestrator.ledger.manifest import read_manifest
from orchestrator.merging.nodes import open_store
from orchestrator.search.arms import Arms, arms_of, barred_draws, objective_draws
from trainables.errors import UserError
from trainables.metrics.crossed import MIN_SEEDS, Interval
from trainables.metrics.detectable import DETECTABLE
from trainables.metrics.figures import (
    Figure,
    contrast_figure,
    fate_figure,
    is_above,
    metric_figure,
    worst_group_figure,
)
from trainables.metrics.membership import (
    Membership,
    Spread,
    hypervolume_interval,
    memberships,
    zone_of,
)
from trainables.metrics.multiplicity import Contrast, smallest_sign_flip_p
from trainables.metrics.replicates import Replicates
from trainables.metrics.verdict import Verdict

Records = Mapping[str, Mapping[str, Any]]


def judge_folder(
    folder: Path,
    points: Sequence[Aggregate],
    records: Records,
    objectives: Sequence[str],
    reference_point: Sequence[float],
    competing: Collection[str] | None = None,
    split: str = "validation",
    max_f1_loss: float | None = None,
) -> Judgement:
    """``judge`` for the configurations of a sweep folder, whose predictions may not be at hand.

    ``split``: ``test`` where the ledger has its opening.

    Raises:
        UserError: there is no sweep in this folder.
    """
    manifest = read_manifest(folder)
    if manifest["mode"] != "corrected":
        return Judgement(
            problems=("mode paper reads the rates of absent classes as 0: no intervals for that",)
        )
    try:
        store = open_store(folder, manifest)
        evidence = open_evidence(folder, manifest, store, records, split)
    except UserError as error:
        return Judgement(problems=(f"no intervals over patients: {error}",))
    return judge(
        points, records, evidence, objectives, reference_point, competing, max_f1_loss
    )


def judge(
    points: Sequence[Aggregate],
    records: Records,
    evidence: Evidence,
    objectives: Sequence[str],
    reference_point: Sequence[float],
    competing: Collection[str] | None = None,
    max_f1_loss: float | None = None,
) -> Judgement:
    """Judge configurations that have the same FATE reference; seeds may differ, those that two
    have in common are paired.

    A FATE has no interval where that of its reference's gap reaches the floor (what a classifier
    with equal per-class rates would show) or 0: there the change of the gap itself stands, and
    contrasts are those of the gap.

    Args:
        points: of ``aggregate``.
        records: key -> record.
        evidence: predictions of one split.
        objectives: of the front.
        reference_point: of the hypervolume, one value an objective, in its own unit.
        competing: configuration keys that may be members; None: all.
        max_f1_loss: in draws in which a group loses more F1 a configuration is no member.
    """
    if not points:
        return Judgement()
    arms = arms_of(points, records)
    missing = evidence.missing(arms.keys)
    problems = tuple(dict.fromkeys(missing.values()))
    whole = [point for point in points if not missing.keys() & set(point.keys)]
    if missing.keys() & set(arms.reference) or not whole:
        return Judgement(problems=problems)
    arms = arms_of(whole, records)
    try:
        replicates = evidence.replicates(
            arms.keys_AS, num_replicates=num_replicates(len(arms.keys_AS), len(arms.seeds))
        )
    except ValueError as error:  # no image of a known group, say
        return Judgement(problems=(*problems, str(error)))
    judging = _Judging(whole, arms, replicates, evidence, records, competing, max_f1_loss)
    return judging.judgement(objectives, reference_point, problems)


class _Judging:
    """One judgement under way; the reference is arm 0."""

    def __init__(
        self,
        points: Sequence[Aggregate],
        arms: Arms,
        replicates: Replicates,
        evidence: Evidence,
        records: Records,
        competing: Collection[str] | None,
        max_f1_loss: float | None,
    ) -> None:
        self.competing = [
            point for point in points if competing is None or point.configuration in competing
        ]
        self.points, self.arms, self.records = points, arms, records
        self.max_f1_loss = max_f1_loss
        self.evidence = evidence
        self.row = arms.row
        self.figures: dict[str, Figure] = {
            name: metric_figure(replicates, name) for name in ("f1", *GAPS)
        }
        self.figures["f1_worst_group"] = worst_group_figure(replicates)
        self.scores = {
            name: metric_figure(replicates, name)
            for name in replicates.value_AS
            if name not in self.figures
        }
        floors = evidence.floor(arms.reference).gaps
        self.is_determined = {}
        for gap in GAPS:
            least = floors[gap].floor or 0.0
            self.figures[f"fate_{gap}"] = fate_figure(replicates, gap, 0, floor=least)
            self.is_determined[f"fate_{gap}"] = is_above(self.figures[gap].interval(0), least)

    def judgement(
        self,
        objectives: Sequence[str],
        reference_point: Sequence[float],
        problems: tuple[str, ...],
    ) -> Judgement:
        contrasted = contrasted_figure(objectives, self.is_determined)
        contrasts = (
            contrasts_of(
                self.points, self.arms, self.records, contrasted, self.figures[contrasted]
            )
            if contrasted
            else {}
        )
        draws = objective_draws(self.competing, self.arms, self.figures, objectives)
        places: dict[str, Membership] = {}
        volume, optimism = None, {}
        notes = contrasts_notes(contrasted, objectives)
        num_seeds_A = [len(point.seeds) for point in self.competing]
        num_seeds = min(num_seeds_A, default=len(self.arms.seeds))
        if num_seeds < MIN_SEEDS:
            notes.append(
                "1 seed: how training varies is not known; intervals are of patients alone"
                if num_seeds == 1
                else f"{num_seeds} seeds: a sign-flip test of paired seeds could not give a p "
                f"below {smallest_sign_flip_p(num_seeds):g}; intervals are approximate"
            )
        if draws is not None:
            group_f1 = [f for name, f in self.scores.items() if name.startswith("f1_of_")]
            barred_RA = barred_draws(self.competing, self.arms, group_f1, self.max_f1_loss)
            found = memberships(
                draws[1], zone_of(objectives), num_seeds_A, barred_RA=barred_RA
            )
            names = [point.configuration for point in self.competing]
            places = dict(zip(names, found, strict=True))
            keeps_A = np.array(
                [is_feasible(p.figures["f1_loss"], self.max_f1_loss) for p in self.competing]
            )
            volume = self._volume(objectives, reference_point, draws, barred_RA, keeps_A)
            optimism = self._optimism(objectives, keeps_A)
            if volume is None and keeps_A.any():
                notes.append("the hypervolume has no interval with fewer than 3 seeds")
            elif volume is None:
                notes.append(
                    "the hypervolume is 0 and has no interval: no configuration keeps the "
                    "constraint on these seeds"
                )
        else:
            notes.append("front membership is not assessed: an objective has no draws")
        judged = {
            point.configuration: self._judged(point, places, contrasts) for point in self.points
        }
        return Judgement(
            points=judged,
            contrasted=contrasted,
            hypervolume=volume,
            optimism=optimism,
            notes=tuple(notes),
            problems=problems,
        )

    def _volume(
        self,
        objectives: Sequence[str],
        reference_point: Sequence[float],
        draws: tuple[np.ndarray, np.ndarray],
        barred_RA: np.ndarray | None,
        keeps_A: np.ndarray,
    ) -> Spread | None:
        """The hypervolume of what keeps the constraint; None with two seeds, whose draws have no
        scale, and where nothing keeps it.
        """
        few = min((len(point.seeds) for point in self.competing), default=0) < 3
        if few or not keeps_A.any():
            return None
        value_AK, draw_RAK = (array.copy() for array in draws)
        point_K = maximised(np.asarray(reference_point, float), objectives)
        value_AK[~keeps_A] = point_K  # adds nothing
        if barred_RA is not None:
            draw_RAK[barred_RA] = point_K
        return hypervolume_interval(value_AK, draw_RAK, lambda v_AK: hypervolume(v_AK, point_K))

    def _optimism(self, objectives: Sequence[str], keeps_A: np.ndarray) -> dict[str, float]:
        """By pooled draws, which have a mean with any number of seeds; none without draws, which
        JSON cannot say otherwise.
        """
        points = [p for p, keeps in zip(self.competing, keeps_A, strict=True) if keeps]
        draws = objective_draws(points, self.arms, self.figures, objectives, pooled=True)
        if draws is None:
            return {}
        value_AK, draw_RAK = draws
        found = {
            name: expected_optimism(value_AK[:, k], draw_RAK[:, :, k])
            for k, name in enumerate(objectives)
        }
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _judged(
        self,
        point: Aggregate,
        places: Mapping[str, Membership],
        contrasts: Mapping[str, Mapping[str, tuple[Contrast, Verdict]]],
    ) -> Judged:
        row, floors = self.row[point.configuration], self.evidence.floor(point.keys).gaps
        debiased = self.evidence.debiased(point.keys)
        changes = {gap: contrast_figure(self.figures[gap], [(row, 0)]).interval(0) for gap in GAPS}
        beside = {
            gap: Beside(
                floor=floors[gap],
                debiased=debiased.get(gap),
                detectable=self.evidence.detectable(point.keys, gap)
                if gap in DETECTABLE
                else None,
            )
            for gap in GAPS
        }
        intervals = {
            name: Interval(0.0, reason="the reference: 0 by definition")
            if row == 0 and name in FATES
            else self.figures[name].interval(row)
            for name in FIGURES
        }
        return Judged(
            intervals,
            {name: figure.interval(row) for name, figure in self.scores.items()},
            changes,
            beside,
            places.get(point.configuration),
            contrasts.get(point.configuration, {}),
        )
