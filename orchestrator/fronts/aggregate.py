"""A configuration's figures over its seeds, from the records: means, and FATE of the means
(contracts: measuring).
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.fronts.constraints import f1_loss
from search_spaces.objectives import OwnObjective, objectives
from trainables.errors import UserError, first_line
from trainables.metrics.fate import fate, levelling_tag, undefined_reason

GAPS = ("eopp0", "eopp1", "eodd", "eodd_hardt")


@dataclass(frozen=True)
class Aggregate:
    """One configuration over the seeds that are done; undefined figures are None."""

    configuration: str
    trial: dict[str, Any]  # of one of its records
    seeds: tuple[int, ...]
    keys: tuple[str, ...]
    figures: dict[str, float | None]  # means over seeds, ``fate_<gap>`` of the means; objectives
    per_seed: dict[str, tuple[float | None, ...]]
    undefined: dict[str, str]
    tags: tuple[str, ...]
    tag: str = "not assessed"  # of the means; ``tags`` has one a seed

    def objectives(self, names: tuple[str, ...]) -> tuple[float | None, ...]:
        """Values of the named objectives."""
        return tuple(self.figures.get(name) for name in names)


MEANS = (
    "f1", "precision", "recall", "f1_pooled", "accuracy", "f1_diff", "demographic_parity",
    "auroc", "gap_debiased", *GAPS,
)  # fmt: skip


def aggregate(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Aggregate]:
    """Configuration -> its figures over the seeds whose trial and reference are both done, seeds
    ascending.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records.values():
        reference = records.get(record["compares_with"].get("reference", ""))
        if record["status"] == "done" and reference is not None and reference["status"] == "done":
            groups[record["trial"]["configuration"]].append(record)
    return {name: _aggregate(name, members, records) for name, members in groups.items()}


def _aggregate(
    name: str, members: list[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]
) -> Aggregate:
    members = sorted(members, key=lambda record: record["trial"]["seed"])
    ours = [record["result"]["metrics"]["validation"] for record in members]
    theirs = [
        records[record["compares_with"]["reference"]]["result"]["metrics"]["validation"]
        for record in members
    ]
    figures: dict[str, float | None] = {figure: _mean(ours, figure) for figure in MEANS}
    group_f1, reference_f1 = _group_f1(ours), _group_f1(theirs)
    defined = [value for value in group_f1.values() if value is not None]
    figures |= {
        "f1_worst_group": min(defined, default=None),
        "f1_loss": f1_loss(group_f1, reference_f1),
        "params": _mean([record["result"]["model"] for record in members], "num_params"),
        "flops": _mean([record["result"]["model"] for record in members], "flops"),
        "latency": _mean([_latency(record) for record in members], "seconds"),
    }
    undefined: dict[str, str] = {}
    for own, cls in objectives.loaded().items():
        figures[own] = _mean([{own: own_value(cls, record)} for record in members], own)
        if figures[own] is None:
            undefined[own] = "the objective gives no number for a seed"
    per_seed: dict[str, tuple[float | None, ...]] = {
        figure: tuple(o[figure] for o in ours) for figure in ("f1", *GAPS)
    }
    for gap in GAPS:
        values = (figures["f1"], figures[gap], _mean(theirs, "f1"), _mean(theirs, gap))
        figures[f"fate_{gap}"] = fate(*values)
        reason = undefined_reason(*values)
        if reason:
            undefined[f"fate_{gap}"] = reason
        per_seed[f"fate_{gap}"] = tuple(
            (record["fate"] or {}).get(f"fate_{gap}") for record in members
        )
    return Aggregate(
        configuration=name,
        trial=dict(members[0]["trial"]),
        seeds=tuple(record["trial"]["seed"] for record in members),
        keys=tuple(record["key"] for record in members),
        figures=figures,
        per_seed=per_seed,
        undefined=undefined,
        tags=tuple((record["fate"] or {}).get("tag", "not assessed") for record in members),
        tag=levelling_tag(
            *({group: {"f1": value} for group, value in f1.items()}
              for f1 in (group_f1, reference_f1))
        ),
    )


def own_value(objective: type[OwnObjective], record: Mapping[str, Any]) -> float | None:
    """What another package's objective says of a record; None where that is no finite number.

    Raises:
        UserError: it fails.
    """
    result = record["result"]
    try:
        value = objective.value(result["metrics"]["validation"], result["model"])
        return None if value is None or not math.isfinite(value) else float(value)
    except Exception as error:  # whatever somebody else's function does
        reason = f"{type(error).__name__}: {first_line(str(error), 'no message')}"
        package = objectives.package(objective.name)
        place = f"package {package}" if package else objective.__module__
        raise UserError(
            f"objective {objective.name!r} ({place}) fails on node {record['key']}: {reason}"
        ) from error


def _mean(rows: list[Mapping[str, Any]], figure: str) -> float | None:
    """Mean over seeds; None as soon as one seed's figure is undefined."""
    values = [row.get(figure) for row in rows]
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if len(defined) == len(values) else None


def _group_f1(rows: list[Mapping[str, Any]]) -> dict[str, float | None]:
    """Group -> mean over seeds of its macro F1."""
    groups = dict.fromkeys(group for row in rows for group in row["groups"])
    return {group: _mean([row["groups"].get(group, {}) for row in rows], "f1") for group in groups}


def _latency(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found = record.get("execution", {}).get("latency")
    return found if isinstance(found, Mapping) else {}


def spread(values: tuple[float | None, ...]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (n - 1) of the defined values."""
    defined = [value for value in values if value is not None]
    mean = statistics.fmean(defined) if defined else None
    return mean, statistics.stdev(defined) if len(defined) > 1 else None
