"""The Pareto front of a sweep from its records: who is on it, its hypervolume and knee, and its
files.

Everything that was measured competes: treatments, controls and baselines (the reference is the
point FATE = 0), so the front shows when fine-tuning alone, or no pruning at all, does as well.
Validation figures only.

Shape legend: N points, K objectives.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orchestrator.aggregate import Aggregate, aggregate, spread
from orchestrator.constraints import is_feasible
from orchestrator.history import hypervolume_history
from orchestrator.judge import judge_folder
from orchestrator.judged_columns import COLUMNS as JUDGED_COLUMNS
from orchestrator.judged_columns import columns_of, judgement_document
from orchestrator.judgement import Judgement
from orchestrator.objectives import OBJECTIVES, directions, maximised
from orchestrator.pareto import dominates, hypervolume, knee, pareto_mask
from orchestrator.records import read_events

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "COLUMNS", "REFERENCE_POINT", "Front", "Member", "all_notes", "build_front", "document",
    "dominates", "hypervolume", "judge_front", "knee", "pareto_mask", "render", "row", "rows",
    "write_front",
]  # fmt: skip

Level = Literal["configuration", "trial"]
Records = Mapping[str, Mapping[str, Any]]

REFERENCE_POINT = {name: one.reference for name, one in OBJECTIVES.items()}
"""Where the hypervolume starts; a point that is not above it in every objective adds nothing."""

MIN_SEEDS = 3
"""A configuration with fewer seeds is not publishable."""

MEASURED = ("f1_worst_group", "gap_debiased", "auroc", "params", "latency")
"""Further objectives; ``flops`` has its column."""

COLUMNS = (
    "configuration", "role", "baseline", "criterion", "site", "ratio", "iterations", "num_seeds",
    "f1", "fate_eodd_hardt", "fate_eodd", "fate_eopp1", "fate_eopp0", "eopp0", "eopp1", "eodd",
    "eodd_hardt", "f1_sd", "fate_eodd_hardt_seed_mean", "fate_eodd_hardt_seed_sd", "tags",
    "num_params", "flops", "knee", "keys", "configuration_key", "seeds", "layer", "baseline_spec",
    "prune_spec", "f1_loss", "feasible", *MEASURED, *JUDGED_COLUMNS,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One point with all its objectives defined: a configuration, or at trial level one of its
    seeds.
    """

    aggregate: Aggregate
    values: tuple[float, ...]
    num_params: int | None
    flops: int | None


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
) -> Front:
    """The front of a sweep's records.

    Args:
        records: key -> record, of ``orchestrator.records.load_records``.
        objectives: names of ``search_spaces.sweep_spec.OBJECTIVES``.
        level: ``configuration``: means over the seeds that are compared (``common_seeds``) and
            FATE of those means, only configurations that have them all; ``trial``: every record by
            itself with its own FATE.
        max_f1_loss: a configuration of which a group loses more F1 is no member
            (``orchestrator/constraints.py``); None: no limit.
    """
    objectives = tuple(objectives)
    incomplete = []
    if level == "trial":
        complete, most = _each_trial(records), 1
    else:
        seeds = common_seeds(list(aggregate(records).values()))
        compared = {k: r for k, r in records.items() if not seeds or r["trial"]["seed"] in seeds}
        points, most = list(aggregate(compared).values()), len(seeds)
        incomplete = _incomplete(compared, points, most)
        complete = [point for point in points if len(point.seeds) == most]
    candidates, undefined = [], []
    for point in complete:
        values = point.objectives(objectives)
        missing = [name for name, value in zip(objectives, values, strict=True) if value is None]
        if missing:
            undefined.append(_undefined(point, missing, records))
            continue
        results = [records[key]["result"]["model"] for key in point.keys]
        candidates.append(
            Member(
                point,
                tuple(float(value) for value in values if value is not None),
                _mean_of(results, "num_params"),
                _mean_of(results, "flops"),
            )
        )
    candidates.sort(key=lambda member: _order(member, objectives))
    values_NK = np.array([m.values for m in candidates], dtype=float).reshape(-1, len(objectives))
    start_K = _reference_point(values_NK, objectives)
    values_NK = maximised(values_NK, objectives)
    on_N = np.array(
        [is_feasible(m.aggregate.figures["f1_loss"], max_f1_loss) for m in candidates], dtype=bool
    )
    num_infeasible = len(on_N) - int(on_N.sum())
    on_N[on_N] = pareto_mask(values_NK[on_N])
    members = tuple(m for m, on in zip(candidates, on_N, strict=True) if on)
    return Front(
        objectives=objectives,
        level=level,
        members=members,
        dominated=tuple(m for m, on in zip(candidates, on_N, strict=True) if not on),
        incomplete=tuple(incomplete),
        undefined=tuple(undefined),
        knee=knee(values_NK[on_N]),
        hypervolume=hypervolume(values_NK[on_N], maximised(start_K, objectives)),
        notes=(
            *_notes(members, level, most, len(incomplete), undefined),
            *(
                [f"{num_infeasible} lose more than {max_f1_loss:.1%} of a group's F1: no members"]
                if num_infeasible
                else []
            ),
        ),
        reference_point=tuple(start_K.tolist()),
        max_f1_loss=max_f1_loss,
    )


def _reference_point(values_NK: np.ndarray, objectives: Sequence[str]) -> np.ndarray:
    """Of the hypervolume, in the objectives' own units; the worst of all points where an objective
    has no natural one (parameters, operations, seconds).
    """
    worst_K = maximised(maximised(values_NK, objectives).min(0, initial=np.inf), objectives)
    natural = [REFERENCE_POINT[name] for name in objectives]
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


def _order(member: Member, objectives: Sequence[str]) -> tuple[Any, ...]:
    point = member.aggregate
    return (
        *(-maximised(np.array(member.values), objectives)).tolist(),
        str(point.trial["label"]),
        point.configuration,
        point.seeds,
    )


def _each_trial(records: Records) -> list[Aggregate]:
    """Every done record with a done reference as the aggregate of itself alone."""
    points = []
    for key, record in records.items():
        reference = record["compares_with"].get("reference", key)
        alone = {k: records[k] for k in dict.fromkeys((key, reference)) if k in records}
        points += [point for point in aggregate(alone).values() if key in point.keys]
    return points


def _incomplete(records: Records, points: list[Aggregate], most: int) -> list[dict[str, Any]]:
    """Configurations with fewer seeds than the one with most, and what the others wait for."""
    num_done = {point.configuration: len(point.seeds) for point in points}
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for record in records.values():
        waiting.setdefault(record["trial"]["configuration"], []).append(record)
    listed = []
    for name, found in waiting.items():
        if num_done.get(name, 0) == most and most:
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


def _undefined(point: Aggregate, missing: list[str], records: Records) -> dict[str, Any]:
    validations = [records[key]["result"]["metrics"]["validation"] for key in point.keys]
    reasons = {}
    for name in missing:
        own = next((v["undefined"][name] for v in validations if name in v["undefined"]), None)
        reasons[name] = point.undefined.get(name) or own or "undefined"
    return {
        "configuration": point.trial["label"],
        "configuration_key": point.configuration,
        "role": point.trial["role"],
        "num_seeds": len(point.seeds),
        "keys": " ".join(point.keys),
        "reasons": reasons,
    }


def _mean_of(results: list[Mapping[str, Any]], name: str) -> int | None:
    """Mean over seeds, rounded; seeds differ only where coupled channels do."""
    values = [result[name] for result in results if result.get(name) is not None]
    return round(sum(values) / len(values)) if values else None


def _notes(
    members: tuple[Member, ...],
    level: Level,
    most: int,
    num_incomplete: int,
    undefined: list[dict[str, Any]],
) -> list[str]:
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
        notes.append("members were run with different seeds: they are not paired")
    if num_incomplete:
        notes.append(
            f"{num_incomplete} configurations have fewer than {most} seeds: listed, not compared"
        )
    return notes


def judge_front(folder: Path, front: Front, records: Records) -> Judgement:
    """How sure every point of the front is, as far as its sweep's predictions are at hand.

    At trial level there is one seed each and nothing to judge by.
    """
    if front.level == "trial":
        return Judgement()
    points = [member.aggregate for member in (*front.members, *front.dominated)]
    competing = {point.configuration for point in points if front.is_feasible(point)}
    judgement = judge_folder(
        folder, points, records, front.objectives, front.reference_point, competing
    )

    def volume(known: Records) -> float:
        return build_front(known, front.objectives, max_f1_loss=front.max_f1_loss).hypervolume

    history = hypervolume_history(list(read_events(folder)), volume)
    return replace(judgement, history=history)


def row(
    member: Member, front: Front, *, is_knee: bool = False, judgement: Judgement | None = None
) -> dict[str, Any]:
    """One point as a flat row; the columns of ``COLUMNS``, undefined figures None."""
    point, trial, figures = member.aggregate, member.aggregate.trial, member.aggregate.figures
    fate_mean, fate_sd = spread(point.per_seed["fate_eodd_hardt"])
    known = {
        "configuration": trial["label"],
        "role": trial["role"],
        "baseline": trial["baseline"]["name"],
        "iterations": trial["n"],
        "num_seeds": len(point.seeds),
        "f1_sd": spread(point.per_seed["f1"])[1],
        "fate_eodd_hardt_seed_mean": fate_mean,
        "fate_eodd_hardt_seed_sd": fate_sd,
        "tags": "; ".join(point.tags),
        "num_params": member.num_params,
        "flops": member.flops,
        "knee": is_knee,
        "feasible": front.is_feasible(point),
        "keys": " ".join(point.keys),
        "configuration_key": point.configuration,
        "seeds": " ".join(map(str, point.seeds)),
        "baseline_spec": trial["baseline"],
        "prune_spec": trial["prune"],
    } | columns_of(judgement, point.configuration)
    return {
        name: known[name] if name in known else figures.get(name, trial.get(name))
        for name in COLUMNS
    }


def rows(front: Front, judgement: Judgement | None = None) -> list[dict[str, Any]]:
    """One row a member, in the front's order."""
    return [
        row(member, front, is_knee=number == front.knee, judgement=judgement)
        for number, member in enumerate(front.members)
    ]


def document(front: Front, judgement: Judgement | None = None) -> dict[str, Any]:
    """``front.json``: see ``orchestrator/schemas/front.json``."""
    return {
        "objectives": list(front.objectives),
        "directions": directions(front.objectives),
        "reference_point": list(front.reference_point),
        "hypervolume": front.hypervolume,
        "level": front.level,
        "knee": front.knee,
        **judgement_document(judgement),
        "members": rows(front, judgement),
        "dominated": [row(member, front, judgement=judgement) for member in front.dominated],
        "incomplete": list(front.incomplete),
        "undefined": list(front.undefined),
        "notes": all_notes(front, judgement),
    }


def all_notes(front: Front, judgement: Judgement | None) -> list[str]:
    """The front's notes and those of its judgement."""
    if judgement is None:
        return list(front.notes)
    return [*front.notes, *judgement.notes, *judgement.problems[:3]]


def write_front(folder: Path, front: Front, judgement: Judgement | None = None) -> None:
    """Write ``front.csv`` and ``front.json``: each whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in rows(front, judgement):
        writer.writerow({name: _cell(value) for name, value in line.items()})
    _replace(folder / "front.csv", text.getvalue())
    _replace(
        folder / "front.json",
        json.dumps(document(front, judgement), indent=1, allow_nan=False) + "\n",
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def render(front: Front, judgement: Judgement | None = None) -> Table:
    """The members for people, 80 columns wide where figures have no interval; notes below.

    Of tags that differ between seeds the most frequent is shown.
    """
    from rich.table import Table

    shown = list(dict.fromkeys((*front.objectives, "f1")))
    fates = [name for name in shown if name.startswith("fate_")]
    short = {fates[0]: "FATE"} if len(fates) == 1 else {}
    table = Table(title=f"Pareto front: {' and '.join(front.objectives)}")
    table.add_column("configuration")
    table.add_column("role")
    for name in shown:
        table.add_column(short.get(name, name), justify="right")
    judged = judgement is not None and bool(judgement.points)
    if judged:
        table.add_column("on front", justify="right")
    table.add_column("groups")
    lines = rows(front, judgement)
    for line in lines:
        tags = Counter(line["tags"].split("; "))
        told, num = tags.most_common(1)[0]
        told += f" ({num} of {tags.total()} seeds)" if len(tags) > 1 else ""
        name = line["configuration"] + (" *" if line["knee"] else "")
        frequency = line["membership_frequency"]
        place = ["-" if frequency is None else f"{frequency:.0%}"] if judged else []
        figures = [_figure(line, figure) for figure in shown]
        table.add_row(name, line["role"], *figures, *place, told)
    captions = [f"FATE is {name}" for name in short]
    captions += ["* the knee"] if any(line["knee"] for line in lines) else []
    if judged:
        captions.append("on front: share of joint redraws of seeds and patients")
        captions += [f"{line['configuration']}: {text}" for line in lines for text in _told(line)]
    table.caption = "\n".join([*captions, *all_notes(front, judgement)])
    return table


def _figure(line: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, or else ± one standard deviation over seeds."""
    if line[name] is None:
        return "-"
    text = f"{line[name]:.3f}"
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    if low is not None and high is not None:
        return f"{text}\n[{low:.3f}, {high:.3f}]"
    return f"{text}±{line['f1_sd']:.3f}" if name == "f1" and line["f1_sd"] is not None else text


def _told(line: Mapping[str, Any]) -> list[str]:
    """Verdicts of a member, in the order of the controls."""
    verdicts = (line[name] for name in JUDGED_COLUMNS if name.endswith("_verdict"))
    return [verdict for verdict in verdicts if verdict]
