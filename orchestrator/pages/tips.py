"""What a page says of one configuration: the lines beside a mark, and its row in a chain."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.fronts.aggregate import Aggregate
from orchestrator.fronts.front import Front, Member
from orchestrator.fronts.sure import GAP_NAMES, gap_of, number, with_ends
from orchestrator.judging.columns import CONTROLS, columns_of
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.chains import chains
from orchestrator.pages.document import Cell

Records = Mapping[str, Mapping[str, Any]]

CHAIN_WORDS = ("Configuration", "Groups")
"""Columns of a chain that hold words."""


def group_f1(point: Aggregate, records: Records) -> dict[str, float | None]:
    """Group -> F1, mean over the seeds; None where a seed's is not assessed."""
    per_seed = [records[key]["result"]["metrics"]["validation"]["groups"] for key in point.keys]
    return {name: _mean(groups[name]["f1"] for groups in per_seed) for name in per_seed[0]}


def group_changes(point: Aggregate, records: Records) -> dict[str, float | None]:
    """Group -> its change in F1 against the reference, mean over the seeds."""
    per_seed = [(records[key]["fate"] or {}).get("group_changes", {}) for key in point.keys]
    return {
        name: _mean(changes.get(name, {}).get("f1") for changes in per_seed)
        for name in group_f1(point, records)
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    defined = [value for value in known if value is not None]
    return statistics.fmean(defined) if defined and len(defined) == len(known) else None


def signed(value: float | None) -> str:
    """Three decimals with the sign, or a dash."""
    return "–" if value is None else f"{round(value, 3) + 0.0:+.3f}"


def is_reference(point: Aggregate, records: Records) -> bool:
    """Whether FATE is measured against this configuration."""
    return all(records[key]["compares_with"].get("reference") == key for key in point.keys)


def fate_text(point: Aggregate, gap: str, judgement: Judgement | None) -> str:
    """FATE with its interval; where it is not determined, the change of the gap stands beside."""
    value = point.figures[f"fate_{gap}"]
    judged = judgement.points.get(point.configuration) if judgement else None
    if judged is None:
        return signed(value)
    found = judged.intervals[f"fate_{gap}"]
    if found.reason is None or value is None:
        ends = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
        return signed(value) + ends
    if found.reason.startswith("the reference"):
        return "0, the reference"
    change = judged.changes[gap]
    ends = "" if change.low is None else f" [{change.low:+.3f}, {change.high:+.3f}]"
    return f"not determined ({signed(value)}); change of the gap {signed(change.value)}{ends}"


def tags_text(point: Aggregate) -> str:
    """What happened to the groups by the means over seeds, and by each seed where they differ."""
    names = list(dict.fromkeys(point.tags))
    if names == [point.tag]:
        return point.tag
    seeds = ", ".join(f"{name} ({point.tags.count(name)} of {len(point.tags)})" for name in names)
    return f"{point.tag}; by seed: {seeds}"


def tip_lines(
    point: Aggregate, records: Records, fate: str, judgement: Judgement | None = None
) -> list[str]:
    """The label, then figures, each group's F1 and change, how sure it is, each seed."""
    trial, gap = point.trial, fate.removeprefix("fate_")
    where = [trial["role"], f"n = {trial['n']}"]
    where += [] if trial["ratio"] is None else [f"ratio {trial['ratio']:g}"]
    where += [] if trial["site"] is None else [f"site {trial['site']}"]
    row = columns_of(judgement, point.configuration)
    lines = [
        str(trial["label"]),
        " · ".join(where),
        f"F1 {with_ends(point.figures['f1'], row['f1_low'], row['f1_high'])}",
        f"FATE ({GAP_NAMES[gap]}) {fate_text(point, gap, judgement)}",
    ]
    changes = group_changes(point, records)
    for name, value in group_f1(point, records).items():
        if value is None:
            lines.append(f"{name}: not assessed")
        else:
            lines.append(f"{name}: F1 {value:.3f} ({signed(changes[name])} against the reference)")
    lines.append("the reference" if is_reference(point, records) else tags_text(point))
    if row["membership_frequency"] is not None:
        lines.append(f"on the front in {row['membership_frequency']:.0%} of redraws")
    lines += [v for name in CONTROLS if (v := row[f"vs_{name}_verdict"]) is not None]
    lines += [
        f"seed {seed}: F1 {number(f1)}, FATE {signed(value)}"
        for seed, f1, value in zip(
            point.seeds, point.per_seed["f1"], point.per_seed[fate], strict=True
        )
    ]
    return lines


def chain_heads(groups: Iterable[str], gap: str) -> list[str | Cell]:
    """Columns of a chain's table."""
    figures = ["Seeds", "F1", f"FATE ({GAP_NAMES[gap]})", f"Gap ({GAP_NAMES[gap]})"]
    changes = [f"F1 {group} (change)" for group in groups]
    heads = ["Configuration", *figures, *changes, "Parameters", "Groups"]
    return [Cell(name, "text") if name in CHAIN_WORDS else name for name in heads]


def chain_row(
    member: Member, records: Records, gap: str, judgement: Judgement | None
) -> list[str]:
    """One configuration of a chain, by the columns of ``chain_heads``."""
    point = member.aggregate
    row = columns_of(judgement, point.configuration)
    changes = group_changes(point, records)
    return [
        str(point.trial["label"]),
        str(len(point.seeds)),
        with_ends(point.figures["f1"], row["f1_low"], row["f1_high"]),
        signed(point.figures[f"fate_{gap}"]),
        with_ends(point.figures[gap], row[f"{gap}_low"], row[f"{gap}_high"]),
        *(
            number(value) + ("" if changes[name] is None else f" ({signed(changes[name])})")
            for name, value in group_f1(point, records).items()
        ),
        "–" if member.num_params is None else f"{member.num_params / 1e6:.2f} M",
        "the reference" if is_reference(point, records) else tags_text(point),
    ]


def trials_document(
    front: Front, shown: Iterable[Member], records: Records, fate: str, judgement: Judgement | None
) -> dict[str, Any]:
    """What the script shows of each configuration: its lines, its row, and its chain.

    Args:
        front: whose gap is shown.
        shown: the points that are drawn.
        records: of the sweep.
        fate: the FATE on the axis.
        judgement: how sure the points are.
    """
    gap, chain_of = gap_of(front), chains(records)
    drawn = {member.aggregate.configuration: member for member in shown}
    groups = [] if not drawn else list(group_f1(next(iter(drawn.values())).aggregate, records))
    heads = [h.text if isinstance(h, Cell) else h for h in chain_heads(groups, gap)]
    return {
        "words": [head in CHAIN_WORDS for head in heads],
        "trials": {
            name: {
                "tip": tip_lines(member.aggregate, records, fate, judgement),
                "row": chain_row(member, records, gap, judgement),
                "chain": [k for k in chain_of.get(name, (name,)) if k in drawn],
            }
            for name, member in drawn.items()
        },
    }
