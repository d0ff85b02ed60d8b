"""Rows of the paper's tables from records: each configuration's means over seeds, its intervals,
FATE, and which figures are best.

Shape legend: S seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.fronts.aggregate import GAPS, Aggregate, aggregate
from orchestrator.fronts.front import common_seeds
from orchestrator.judging.seed_interval import (
    Estimate,
    fate_over_seeds,
    indistinguishable,
    mean_over_seeds,
)
from orchestrator.tables.published import AVG, DIFF, SCORES
from trainables.metrics.fate import levelling_tag, undefined_reason
from trainables.metrics.summary import compare

Records = Mapping[str, Mapping[str, Any]]

NOT_DETERMINED = "the interval of the reference's gap reaches 0"


@dataclass
class Figure:
    """An estimate with its place among the rows: rank 1 is best, ``tied`` with the best."""

    estimate: Estimate
    rank: int | None = None
    tied: bool | None = None


@dataclass
class Fate(Figure):
    """A FATE: whether the reference's gap is surely above 0, and the change of the gap itself."""

    determined: bool = True
    reason: str | None = None
    change: Estimate = field(default_factory=lambda: Estimate(None))


@dataclass
class Row:
    """One configuration over its seeds."""

    point: Aggregate
    reference: str  # configuration FATE is measured against
    fate_baseline: str  # its label
    lines: dict[str, dict[str, Figure]]  # group, Avg, Diff -> score
    gaps: dict[str, Figure]
    fates: dict[str, Fate]
    tag: str
    group_changes: dict[str, dict[str, Estimate]]
    better_served_group: str | None
    label: str


def against(records: Records, reference: str) -> dict[str, dict[str, Any]]:
    """The records with FATE against the sweep's ``vanilla`` root, or each against its ``own``.

    A record's ``compares_with`` names both; what is returned has the chosen one as reference.
    """
    name = "own" if reference == "own" else "reference"
    chosen = {
        key: {
            **record,
            "compares_with": {
                **record["compares_with"],
                "reference": record["compares_with"].get(name, ""),
            },
        }
        for key, record in records.items()
    }
    for record in chosen.values():
        root = chosen.get(record["compares_with"]["reference"])
        both_done = root is not None and record["status"] == root["status"] == "done"
        record["fate"] = compare(_figures(record), _figures(root)) if root and both_done else None
    return chosen


def _figures(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found = record["result"]["metrics"]["validation"]
    assert isinstance(found, Mapping)
    return found


def select(
    records: Records, seeds: frozenset[int] | None = None
) -> tuple[list[Aggregate], frozenset[int], list[dict[str, Any]]]:
    """Configurations with all the seeds that are compared, those seeds, and the other ones.

    Args:
        records: of ``against``.
        seeds: those to compare; as on the front (``common_seeds``) if not given.
    """
    if seeds is None:
        seeds = common_seeds(list(aggregate(records).values()))
    compared = {key: r for key, r in records.items() if r["trial"]["seed"] in seeds}
    points = list(aggregate(compared).values())
    complete = [point for point in points if len(point.seeds) == len(seeds)]
    kept = {point.configuration for point in complete}
    num_done = {point.configuration: len(point.seeds) for point in points}
    trials = {r["trial"]["configuration"]: r["trial"] for r in records.values()}
    incomplete = [
        {
            "configuration": trial["label"],
            "configuration_key": name,
            "role": trial["role"],
            "num_seeds": num_done.get(name, 0),
            "num_seeds_needed": len(seeds),
        }
        for name, trial in trials.items()
        if name not in kept
    ]
    return sorted(complete, key=_order), seeds, incomplete


def _order(point: Aggregate) -> tuple[Any, ...]:
    """Baseline by baseline, vanilla first; each with its root, controls, then treated arms."""
    trial = point.trial
    name = trial["baseline"]["name"]
    return (
        name != "vanilla", name, str(sorted(trial["baseline"].items(), key=str)),
        ("baseline", "control", "treatment").index(trial["role"]),
        trial["criterion"] or "", trial["ratio"] or 0.0, trial["n"],
        trial["label"], point.configuration,
    )  # fmt: skip


def make_rows(points: Sequence[Aggregate], records: Records, *, ranked: bool = True) -> list[Row]:
    """One row a configuration; ``ranked``: say which figure of a column is best."""
    labels = _labels(points)
    rows = [_row(point, records, labels[point.configuration]) for point in points]
    if ranked:
        for figures, higher in _columns(rows):
            _rank(figures, higher=higher)
    return rows


def _labels(points: Sequence[Aggregate]) -> dict[str, str]:
    """Labels of configurations; one that is there twice gets the beginning of its key."""
    texts = [str(point.trial["label"]) for point in points]
    return {
        point.configuration: text
        if texts.count(text) == 1
        else f"{text} [{point.configuration[:8]}]"
        for point, text in zip(points, texts, strict=True)
    }


def _row(point: Aggregate, records: Records, label: str) -> Row:
    roots = [records[key]["compares_with"]["reference"] for key in point.keys]
    ours, theirs = ([_figures(records[key]) for key in keys] for keys in (point.keys, roots))
    is_reference = roots == list(point.keys)
    root = records[roots[0]]["trial"]
    groups = list(ours[0]["groups"])
    lines = {
        group: {
            name: Figure(mean_over_seeds([o["groups"][group][name] for o in ours]))
            for name in SCORES
        }
        for group in groups
    }
    lines[AVG] = {name: _mean(ours, name) for name in SCORES}
    lines[DIFF] = {name: _mean(ours, f"{name}_diff") for name in SCORES}
    changes = {
        group: {
            name: _paired(
                [o["groups"][group][name] for o in ours],
                [t["groups"][group][name] for t in theirs],
            )
            for name in SCORES
        }
        for group in groups
    }
    return Row(
        point=point,
        reference=root["configuration"],
        fate_baseline=root["label"],
        lines=lines,
        gaps={gap: _mean(ours, gap) for gap in GAPS},
        fates={gap: _fate(gap, ours, theirs, is_reference) for gap in GAPS},
        tag="reference" if is_reference else levelling_tag(_group_f1(ours), _group_f1(theirs)),
        group_changes=changes,
        better_served_group=_better_served(_group_f1(theirs)),
        label=label,
    )


def _mean(metrics: Sequence[Mapping[str, Any]], name: str) -> Figure:
    return Figure(mean_over_seeds([m[name] for m in metrics]))


def _paired(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Estimate:
    return mean_over_seeds(
        [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]
    )


def _fate(
    gap: str,
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
    is_reference: bool,
) -> Fate:
    f1, size, ref_f1, ref_gap = (
        _mean(metrics, name).estimate for metrics in (ours, theirs) for name in ("f1", gap)
    )
    interval = ref_gap.interval
    determined = is_reference or interval is None or interval[0] > 0
    undefined = undefined_reason(f1.value, size.value, ref_f1.value, ref_gap.value)
    return Fate(
        fate_over_seeds(f1, size, ref_f1, ref_gap),
        determined=determined and undefined is None,
        reason=undefined or (None if determined else NOT_DETERMINED),
        change=_paired([o[gap] for o in ours], [t[gap] for t in theirs]),
    )


def _group_f1(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Each group's F1, mean over seeds; None as soon as one seed's is not assessed."""
    means: dict[str, dict[str, float | None]] = {}
    for group in metrics[0]["groups"]:
        values = [m["groups"][group]["f1"] for m in metrics]
        whole = None not in values
        means[group] = {"f1": statistics.fmean(values) if whole else None}
    return means


def _better_served(f1: Mapping[str, Mapping[str, float | None]]) -> str | None:
    """The group with the highest F1 in the reference (the paper's "privileged" group)."""
    known = {group: scores["f1"] for group, scores in f1.items() if scores["f1"] is not None}
    return max(known, key=lambda group: known[group]) if len(known) > 1 else None


def _columns(rows: Sequence[Row]) -> list[tuple[list[Figure], bool]]:
    """Figures that compete with one another, and whether higher is better.

    FATEs against different references do not compete.
    """
    columns: list[tuple[list[Figure], bool]] = []
    for name in SCORES:
        columns.append(([row.lines[AVG][name] for row in rows], True))
        columns.append(([row.lines[DIFF][name] for row in rows], False))
    references = list(dict.fromkeys(row.reference for row in rows))
    for gap in GAPS:
        columns.append(([row.gaps[gap] for row in rows], False))
        columns += [
            ([row.fates[gap] for row in rows if row.reference == reference], True)
            for reference in references
        ]
    return columns


def _rank(figures: Sequence[Figure], *, higher: bool) -> None:
    """Set rank 1 and 2 (equal values share one) and who ties with the best.

    Ties need two seeds, and FATEs that are determined.
    """
    defined = [f for f in figures if f.estimate.value is not None]
    best_two = sorted({f.estimate.value or 0.0 for f in defined}, reverse=higher)[:2]
    if len(defined) < 2:
        return
    for figure in defined:
        if figure.estimate.value in best_two:
            figure.rank = 1 + best_two.index(figure.estimate.value)
    best = next(f for f in defined if f.rank == 1)
    open_ones = [f for f in defined if isinstance(f, Fate) and not f.determined]
    if len(best.estimate.per_seed_S) < 2 or open_ones:
        return
    for figure in defined:
        if figure is not best:
            figure.tied = indistinguishable(best.estimate, figure.estimate)
    best.tied = any(f.tied for f in defined)


def replace_metrics(
    records: Records, metrics: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Records with other figures where those of validation stood; nodes without any are left
    out.
    """
    return {
        key: {**record, "result": {**record["result"], "metrics": {"validation": metrics[key]}}}
        for key, record in records.items()
        if key in metrics
    }
