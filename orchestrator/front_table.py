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

Records = Mapping[str, Mapping[str, Any]]


def group_f1(point: Aggregate, records: Records) -> dict[str, float | None]:
    """Group -> F1, mean over the seeds; None where a seed's is not assessed."""
    per_seed = [records[key]["result"]["metrics"]["validation"]["groups"] for key in point.keys]
    means: dict[str, float | None] = {}
    for name in per_seed[0]:
        values = [groups[name]["f1"] for groups in per_seed]
        means[name] = None if any(v is None for v in values) else statistics.fmean(values)
    return means


def members_table(front: Front, records: Records, added: Sequence[Mapping[str, Any]]) -> str:
    """One row a member; ``added`` holds the export's own columns (test figures, adaptive)."""
    fates = [name for name in front.objectives if name != "f1"] or ["fate_eodd_hardt"]
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
        _row(member, records, more, fates, is_knee=number == front.knee)
        for number, (member, more) in enumerate(zip(front.members, added, strict=True))
    )
    caption = (
        "Validation figures: mean over seeds ± one standard deviation; "
        "FATE is that of the seed means."
    )
    if has_test:
        caption += " Test figures were opened by this export and chose nothing."
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _fate_name(name: str) -> str:
    short = {
        "eodd_hardt": "Eodd, Hardt",
        "eodd": "Eodd, signed",
        "eopp1": "Eopp1",
        "eopp0": "Eopp0",
    }
    return f"FATE ({short[name.removeprefix('fate_')]})"


def _row(
    member: Member,
    records: Records,
    more: Mapping[str, Any],
    fates: Sequence[str],
    *,
    is_knee: bool,
) -> str:
    point, trial = member.aggregate, member.aggregate.trial
    marks = [word for word, on in (("knee", is_knee), ("adaptive", more["adaptive"])) if on]
    name = escape(trial["label"]) + "".join(f'<span class="mark">{mark}</span>' for mark in marks)
    cells = [
        str(len(point.seeds)),
        _with_sd(point, "f1"),
    ]
    cells += [_with_sd(point, fate) for fate in fates]
    cells += [_number(value) for value in group_f1(point, records).values()]
    tags = escape(", ".join(dict.fromkeys(point.tags)))
    size = "–" if member.num_params is None else f"{member.num_params / 1e6:.2f} M"
    tested = ["test_f1", *(f"test_{fate}" for fate in fates)] if "test_num_seeds" in more else []
    return (
        f'<tr><th scope="row">{name}</th><td class="text">{escape(trial["role"])}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="text tags">{tags}</td><td>{size}</td>'
        + "".join(f"<td>{_number(more[column])}</td>" for column in tested)
        + "</tr>"
    )


def _with_sd(point: Aggregate, name: str) -> str:
    sd = spread(point.per_seed[name])[1]
    return _number(point.figures[name]) + ("" if sd is None else f" ± {sd:.3f}")


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "–" if value is None else form.format(value)
