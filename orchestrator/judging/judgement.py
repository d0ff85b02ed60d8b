"""What a judgement of a front says: for each point intervals, floors, contrasts and its place.

It is made by ``orchestrator/judging/judge.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.fronts.aggregate import GAPS
from trainables.metrics.corrected_gap import CorrectedGap
from trainables.metrics.crossed import Interval
from trainables.metrics.floor import Floor
from trainables.metrics.membership import Membership, Spread
from trainables.metrics.multiplicity import Contrast
from trainables.metrics.verdict import Verdict

FATES = tuple(f"fate_{gap}" for gap in GAPS)
FIGURES = ("f1", "f1_worst_group", *GAPS, *FATES)


@dataclass(frozen=True)
class Beside:
    """What stands beside one gap of one configuration."""

    floor: Floor
    debiased: CorrectedGap | None
    detectable: float | None


@dataclass(frozen=True)
class Judged:
    """One configuration.

    Attributes:
        intervals: of each of ``FIGURES``.
        scores: of ``precision``, ``recall`` and their and F1's ``_diff`` between groups, and of
            each score of each group, ``precision_of_0``.
        changes: of each gap less that of the FATE reference.
        gaps: what stands beside each gap.
        membership: None where an objective has no draws.
        contrasts: control -> the difference from it in ``Judgement.contrasted``, with its verdict.
    """

    intervals: Mapping[str, Interval]
    scores: Mapping[str, Interval]
    changes: Mapping[str, Interval]
    gaps: Mapping[str, Beside]
    membership: Membership | None = None
    contrasts: Mapping[str, tuple[Contrast, Verdict]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """All that could be judged, by configuration key, and what must be said of it.

    Attributes:
        points: configuration key -> what was found.
        contrasted: the figure that contrasts are of, named before any is looked at.
        hypervolume: with its interval; None where an objective has no draws.
        optimism: objective -> how far the best of all is expected to lie above its own truth.
        history: of the hypervolume, see ``orchestrator/fronts/history.py``.
        notes: one sentence each.
        problems: why something could not be judged.
    """

    points: Mapping[str, Judged] = field(default_factory=dict)
    contrasted: str | None = None
    hypervolume: Spread | None = None
    optimism: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
