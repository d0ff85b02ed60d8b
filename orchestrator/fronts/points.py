"""The points that compete for a front, and those that cannot and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.fronts.aggregate import Aggregate, aggregate
from orchestrator.fronts.objectives import maximised

Records = Mapping[str, Mapping[str, Any]]

DIFFERENT_SEEDS = "members have different seeds: paired are those that two have in common"

MIN_SEEDS = 3
"""A configuration with fewer seeds is not publishable."""


@dataclass(frozen=True)
class Member:
    """One point with all its objectives defined: a configuration, or at trial level one of its
    seeds.
    """

    aggregate: Aggregate
    values: tuple[float, ...]
    num_params: int | None
    flops: int | None


def member_order(member: Member, objectives: Sequence[str]) -> tuple[Any, ...]:
    """Best in the first objective first; ties by the others, then by name."""
    point = member.aggregate
    return (
        *(-maximised(np.array(member.values), objectives)).tolist(),
        str(point.trial["label"]),
        point.configuration,
        point.seeds,
    )


def each_trial(records: Records) -> list[Aggregate]:
    """Every done record with a done reference as the aggregate of itself alone."""
    points = []
    for key, record in records.items():
        reference = record["compares_with"].get("reference", key)
        alone = {k: records[k] for k in dict.fromkeys((key, reference)) if k in records}
        points += [point for point in aggregate(alone).values() if key in point.keys]
    return points


def incomplete_points(
    records: Records, points: list[Aggregate], most: int, whole: Collection[str]
) -> list[dict[str, Any]]:
    """Configurations with fewer seeds than the one with most, and what the others wait for."""
    num_done = {point.configuration: len(point.seeds) for point in points}
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for record in records.values():
        waiting.setdefault(record["trial"]["configuration"], []).append(record)
    listed = []
    for name, found in waiting.items():
        if name in whole and most:
            continue
        states = [
            f"seed {r['trial']['seed']} {r['status']}" for r in found if r["status"] != "done"
        ]
        if not states and num_done.get(name, 0) < len(found):
            states = ["the reference of a seed is not done"]
        trial = found[0]["trial"]
        listed.append(
            {
                "configuration": trial["label"],
                "configuration_key": name,
                "role": trial["role"],
                "num_seeds": num_done.get(name, 0),
                "num_seeds_needed": most,
                "reason": "; ".join(states) or "not every seed has run",
            }
        )
    return listed


def member_of(point: Aggregate, objectives: Sequence[str], records: Records) -> Member | None:
    """None where an objective is undefined."""
    values = [value for value in point.objectives(tuple(objectives)) if value is not None]
    if len(values) < len(objectives):
        return None
    results = [records[key]["result"]["model"] for key in point.keys]
    sizes = (_mean_of(results, name) for name in ("num_params", "flops"))
    return Member(point, tuple(map(float, values)), *sizes)


def undefined_point(
    point: Aggregate, objectives: Sequence[str], records: Records
) -> dict[str, Any]:
    """A point that lacks an objective, as ``front.json`` lists it."""
    values = zip(objectives, point.objectives(tuple(objectives)), strict=True)
    missing = [name for name, value in values if value is None]
    validations = [records[key]["result"]["metrics"]["validation"] for key in point.keys]
    reasons = {}
    for name in missing:
        known = [point.undefined.get(name), _own_reason(name.removeprefix("fate_"), validations)]
        reasons[name] = ", ".join(text for text in known if text) or "undefined"
    return {
        "configuration": point.trial["label"],
        "configuration_key": point.configuration,
        "role": point.trial["role"],
        "num_seeds": len(point.seeds),
        "keys": " ".join(point.keys),
        "reasons": reasons,
    }


def _own_reason(figure: str, validations: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a figure of validation (of a FATE: its gap) is undefined in one of the seeds."""
    found = (v["undefined"].get(figure) for v in validations)
    return next((reason for reason in found if reason), None)


def _mean_of(results: list[Mapping[str, Any]], name: str) -> int | None:
    """Mean over seeds, rounded; seeds differ only where coupled channels do."""
    values = [result[name] for result in results if result.get(name) is not None]
    return round(sum(values) / len(values)) if values else None


def front_notes(
    members: tuple[Member, ...],
    level: str,
    most: int,
    num_incomplete: int,
    undefined: list[dict[str, Any]],
) -> list[str]:
    """What must be said of a front before it is judged, one sentence each."""
    notes = ["figures of the validation split; the test split was not read"]
    if not members:
        note = "no configuration has every objective defined"
        if undefined:
            (name, reason), *_ = undefined[0]["reasons"].items()
            note += f" ({undefined[0]['configuration']}: {name}: {reason})"
        notes.append(note)
    num_seeds = 1 if level == "trial" else most
    if members and num_seeds < MIN_SEEDS:
        plural = "" if num_seeds == 1 else "s"
        notes.append(f"{num_seeds} seed{plural} each: not publishable, {MIN_SEEDS} are the least")
    if level == "configuration" and len({m.aggregate.seeds for m in members}) > 1:
        notes.append(DIFFERENT_SEEDS)
    if num_incomplete:
        have = "configuration has" if num_incomplete == 1 else "configurations have"
        plural = "" if most == 1 else "s"
        notes.append(
            f"{num_incomplete} {have} fewer than {most} seed{plural}: listed, not compared"
        )
    return notes
