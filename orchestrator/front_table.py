"""The members of a front as an accessible HTML table; best in the first objective first, by
validation.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from orchestrator.aggregate import Aggregate, spread
from orchestrator.front import Front, Member
from orchestrator.front_sure import GAP_NAMES, number, with_ends
from orchestrator.judged_columns import columns_of
from orchestrator.judgement import Judgement

Records = Mapping[str, Mapping[str, Any]]


def group_f1(point: Aggregate, records: Records) -> dict[str, float | None]:
    """Group -> F1, mean over the seeds; None where a seed's is not assessed."""
    per_seed = [records[key]["result"]["metrics"]["validation"]["groups"] for key in point.keys]
    means: dict[str, float | None] = {}
    for name in per_seed[0]:
        values = [groups[name]["f1"] for groups in per_seed]
        means[name] = None if any(v is None for v in values) else statistics.fmean(values)
    return means


def members_table(
    front: Front,
    records: Records,
    added: Sequence[Mapping[str, Any]],
    judgement: Judgement | None = None,
) -> str:
    """One row a member; ``added`` holds the export's own columns (test figures, adaptive)."""
    judged = judgement is not None and bool(judgement.points)
    fates = [n for n in front.objectives if n.startswith("fate_")] or ["fate_eodd_hardt"]
    groups = list(group_f1(front.members[0].aggregate, records))
    has_test = "test_num_seeds" in added[0]
    heads = [
        ("Configuration", "text"),
        ("Role", "text"),
        ("Seeds", ""),
        ("F1", ""),
    ]
    heads += [(_fate_name(name), "") for name in fates]
    heads += [(f"F1 {group}", "") for group in groups] + [("Groups", "text"), ("Parameters", "")]
    if has_test:
        heads += [("Test: F1", ""), *((f"Test: {_fate_name(name)}", "") for name in fates)]
    head = "".join(
        f'<th scope="col"{f" class={kind!r}" if kind else ""}>{escape(name)}</th>'
        for name, kind in heads
    )
    body = "".join(
        _row(
            member,
            records,
            more,
            fates,
            is_knee=number == front.knee,
            judgement=judgement,
        )
        for number, (member, more) in enumerate(zip(front.members, added, strict=True))
    )
    caption = (
        "Validation figures: mean over seeds ± one standard deviation; "
        "FATE is that of the seed means."
    )
    if judged:
        caption = (
            "Validation figures: mean over seeds with the 95 % interval over seeds and patients; "
            "FATE is that of the seed means, without an interval where it is not determined."
        )
    if has_test:
        caption += " Test figures were opened by this export and chose nothing."
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _fate_name(name: str) -> str:
    return f"FATE ({GAP_NAMES[name.removeprefix('fate_')]})"


def _row(
    member: Member,
    records: Records,
    more: Mapping[str, Any],
    fates: Sequence[str],
    *,
    is_knee: bool,
    judgement: Judgement | None,
) -> str:
    point, trial = member.aggregate, member.aggregate.trial
    marks = [word for word, on in (("knee", is_knee), ("adaptive", more["adaptive"])) if on]
    name = escape(trial["label"]) + "".join(f'<span class="mark">{mark}</span>' for mark in marks)
    cells = [str(len(point.seeds)), _cell(point, "f1", judgement)]
    cells += [_cell(point, fate, judgement) for fate in fates]
    cells += [number(value) for value in group_f1(point, records).values()]
    tags = escape(", ".join(dict.fromkeys(point.tags)))
    size = "–" if member.num_params is None else f"{member.num_params / 1e6:.2f} M"
    tested = ["test_f1", *(f"test_{fate}" for fate in fates)] if "test_num_seeds" in more else []
    return (
        f'<tr><th scope="row">{name}</th><td class="text">{escape(trial["role"])}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="text tags">{tags}</td><td>{size}</td>'
        + "".join(f"<td>{number(more[column])}</td>" for column in tested)
        + "</tr>"
    )


def _cell(point: Aggregate, name: str, judgement: Judgement | None) -> str:
    """A figure with its interval; where nothing was judged, ± one standard deviation."""
    if judgement is None or not judgement.points:
        return _with_sd(point, name)
    row = columns_of(judgement, point.configuration)
    return with_ends(point.figures[name], row.get(f"{name}_low"), row.get(f"{name}_high"))


def _with_sd(point: Aggregate, name: str) -> str:
    sd = spread(point.per_seed[name])[1]
    return number(point.figures[name]) + ("" if sd is None else f" ± {sd:.3f}")
