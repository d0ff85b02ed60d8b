"""Differences of configurations from their controls, all of one figure named beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.fronts.aggregate import GAPS, Aggregate
from orchestrator.judging.judgement import FATES, FIGURES
from orchestrator.search.arms import Arms
from trainables.metrics.figures import Figure
from trainables.metrics.multiplicity import Contrast, max_t
from trainables.metrics.verdict import Verdict, metric_name, verdict

Records = Mapping[str, Mapping[str, Any]]


def contrasted_figure(
    objectives: Sequence[str], is_determined: Mapping[str, bool]
) -> str | None:
    """The first objective that has redraws of seeds and patients; its gap where it is a FATE that
    is not determined, which depends on the reference alone and so is known before any arm is
    looked at.

    ``gap_debiased`` is computed from ``eodd_hardt``, which then stands for it. None where no
    objective has redraws: no other figure is put in its place.
    """
    first = next((name for name in objectives if name in FIGURES), None)
    if first is None:
        return "eodd_hardt" if "gap_debiased" in objectives else None
    if first not in FATES:
        return first
    return first if is_determined[first] else first.removeprefix("fate_")


def contrasts_notes(contrasted: str | None, objectives: Sequence[str]) -> list[str]:
    """What the differences are of, and why, one sentence each."""
    if contrasted is None:
        return [
            f"no differences from controls: {' and '.join(objectives)} have no redraws of seeds "
            "and patients"
        ]
    told = (
        f"differences from controls are those of {metric_name(contrasted)}, all of them tested "
        "together"
    )
    if f"fate_{contrasted}" in objectives:
        return [
            told,
            f"{metric_name(f'fate_{contrasted}')} is not determined: the interval of the "
            "reference's gap reaches what a classifier with equal per-class rates would show; "
            "changes of the gap stand beside; who is best in it, membership and the hypervolume "
            "rest on it all the same and are as uncertain",
        ]
    if contrasted not in objectives:
        told += "; gap_debiased, which is computed from it, has no redraws"
    return [told]


def contrasts_of(
    points: Sequence[Aggregate],
    arms: Arms,
    records: Records,
    name: str,
    figure: Figure,
) -> dict[str, dict[str, tuple[Contrast, Verdict]]]:
    """Configuration -> control -> difference and verdict; every pair is tested together.

    Args:
        points: configurations.
        arms: theirs, and those of their controls.
        records: key -> record.
        name: of the figure.
        figure: of all arms.
    """
    pairs = [
        (point.configuration, control, arms.row[point.configuration], other)
        for point in points
        for control, other in _controls(point, arms, records).items()
    ]
    tested = max_t(figure, [pair[2:] for pair in pairs]) if pairs else ()
    found: dict[str, dict[str, tuple[Contrast, Verdict]]] = {}
    for (configuration, control, *_), contrast in zip(pairs, tested, strict=True):
        told = verdict(contrast.simultaneous, control, name, higher_is_better=name not in GAPS)
        found.setdefault(configuration, {})[control] = (contrast, told)
    return found


def _controls(point: Aggregate, arms: Arms, records: Records) -> dict[str, int]:
    """Control -> its arm, where it ran with the same seeds."""
    found = {}
    for control in records[point.keys[0]]["compares_with"]:
        keys = tuple(records[key]["compares_with"].get(control, "") for key in point.keys)
        row = arms.holding(keys)
        if control not in ("reference", "own") and row is not None:
            found[control] = row
    return found
