"""The members of a front as an accessible HTML table; best in the first objective first, by
validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.fronts.aggregate import Aggregate, spread
from orchestrator.fronts.front import Front, Member
from orchestrator.fronts.sure import GAP_NAMES, member_name, number, with_ends
from orchestrator.judging.columns import columns_of
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.document import Cell, table
from orchestrator.pages.tips import group_changes, group_f1, signed, tags_text

Records = Mapping[str, Mapping[str, Any]]


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
    heads: list[str | Cell] = [Cell("Configuration", "text"), Cell("Role", "text"), "Seeds", "F1"]
    heads += [_fate_name(name) for name in fates]
    heads += [f"F1 {group} (change)" for group in groups]
    heads += [Cell("Groups", "text"), "Parameters"]
    if has_test:
        heads += ["Test: F1", *(f"Test: {_fate_name(name)}" for name in fates)]
    rows = [
        _row(front, index, member, records, more, fates, judgement)
        for index, (member, more) in enumerate(zip(front.members, added, strict=True))
    ]
    caption = (
        "Validation figures: mean over seeds ± one standard deviation; "
        "FATE is that of the seed means."
    )
    if judged:
        caption = (
            "Validation figures: mean over seeds with the 95 % interval over seeds and patients; "
            "FATE is that of the seed means, without an interval where it is not determined."
        )
    caption += " Changes and what happened to the groups are against the reference of FATE."
    if has_test:
        caption += " Test figures were opened by this export and chose nothing."
    return table(caption, heads, rows, "Table of the members")


def _fate_name(name: str) -> str:
    return f"FATE ({GAP_NAMES[name.removeprefix('fate_')]})"


def _row(
    front: Front,
    index: int,
    member: Member,
    records: Records,
    more: Mapping[str, Any],
    fates: Sequence[str],
    judgement: Judgement | None,
) -> list[str | Cell]:
    point, trial = member.aggregate, member.aggregate.trial
    marks = [("knee", index == front.knee), ("adaptive", more["adaptive"])]
    marks.append(("violates the constraint", not front.is_feasible(point)))
    changes = group_changes(point, records)
    tested = ["test_f1", *(f"test_{fate}" for fate in fates)] if "test_num_seeds" in more else []
    return [
        Cell(member_name(index, member), marks=tuple(word for word, on in marks if on)),
        Cell(str(trial["role"]), "text"),
        str(len(point.seeds)),
        _figure(point, "f1", judgement),
        *(_figure(point, fate, judgement) for fate in fates),
        *(
            number(value) + ("" if changes[name] is None else f" ({signed(changes[name])})")
            for name, value in group_f1(point, records).items()
        ),
        Cell(tags_text(point), "text tags"),
        "–" if member.num_params is None else f"{member.num_params / 1e6:.2f} M",
        *(number(more[column]) for column in tested),
    ]


def _figure(point: Aggregate, name: str, judgement: Judgement | None) -> str:
    """A figure with its interval; where nothing was judged, ± one standard deviation."""
    if judgement is None or not judgement.points:
        sd = spread(point.per_seed[name])[1]
        return number(point.figures[name]) + ("" if sd is None else f" ± {sd:.3f}")
    row = columns_of(judgement, point.configuration)
    return with_ends(point.figures[name], row.get(f"{name}_low"), row.get(f"{name}_high"))
