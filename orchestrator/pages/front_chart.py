"""The front as a chart: F1 against FATE, members numbered, coloured and joined, the rest grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.fronts.aggregate import spread
from orchestrator.fronts.front import Front, Member
from orchestrator.fronts.objectives import maximised
from orchestrator.fronts.pareto import pareto_mask
from orchestrator.judging.columns import columns_of
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.svg import (
    Chart,
    Key,
    interval,
    legend,
    line,
    mark,
    number,
    path,
    scale_of,
    text,
    upright,
)

ROLES = {
    "treatment": ("circle", "c-blue"),
    "control": ("square", "c-vermilion"),
    "baseline": ("diamond", "c-green"),
}
NAMES = {
    "fate_eodd_hardt": "FATE of equalized odds (Hardt)",
    "fate_eodd": "FATE of equalized odds (signed, as published)",
    "fate_eopp1": "FATE of equal opportunity, TPR",
    "fate_eopp0": "FATE of equal opportunity, TNR",
    "f1": "F1, mean over groups",
}
MAX_DRAWN = 1200
"""Points in one chart: more are a cloud, and a page must stay below 5 MB."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1180, 620, 66, 20, 40, 118
REFERENCE, REFERENCE_ROOM = "reference: FATE 0", 130
"""Its name, and pixels that it takes."""


def axes(objectives: Sequence[str]) -> tuple[str, str]:
    """Figures on the horizontal and the vertical axis: a FATE, and F1 unless two FATEs were asked
    for.
    """
    fates = [name for name in objectives if name.startswith("fate_")]
    if len(fates) == 2 and "f1" not in objectives:
        return fates[0], fates[1]
    return (fates[0] if fates else "fate_eodd_hardt"), "f1"


def drawn_points(front: Front) -> tuple[Member, ...]:
    """Members, then the others, at most ``MAX_DRAWN``; those best in the first objective stay."""
    return (*front.members, *front.dominated)[:MAX_DRAWN]


def front_chart(front: Front, judgement: Judgement | None, summary: str) -> str:
    """The chart.

    Args:
        front: with at least one member.
        judgement: intervals of the members; without one standard deviations over seeds stand.
        summary: for people who do not see it.
    """
    x, y = axes(front.objectives)
    shown = drawable(drawn_points(front), x, y)
    members = [m for m in front.members if m in shown]
    others = [m for m in shown if m not in front.members]
    chart = _frame(shown, members, x, y, judgement)
    chart.axes(f"{NAMES[x]} (higher is better)", f"{NAMES[y]} (higher is better)")
    if x.startswith("fate_") and chart.x.low < 0 < chart.x.high:
        at = chart.x(0)
        chart.add(line(at, chart.y.end, at, chart.y.start, "zero"))
        left = at + REFERENCE_ROOM > chart.x.end  # else its name would be cut at the edge
        place, anchor = (at - 5, "end") if left else (at + 5, "start")
        chart.add(text(place, chart.y.end + 14, REFERENCE, "soft", anchor=anchor))
    for member in sorted(others, key=lambda m: m.aggregate.figures[x] or 0.0):
        chart.add(_mark(chart, member, x, y, on_front=False))
    bounding = undominated(members, front)
    if set(front.objectives) == {x, y} and len(bounding) > 1:
        chart.add(_border(chart, bounding, x, y))
    for member in members:
        chart.add(*_intervals(chart, member, x, y, judgement), *_seeds(chart, member, x, y))
    for member in sorted(members, key=lambda m: m.aggregate.figures[x] or 0.0):
        chart.add(_mark(chart, member, x, y, on_front=True))
    chart.add(*_numbers(chart, front, members, x, y))
    entries = _legend(members, others, bool(front.selected))
    parts, _ = legend(entries, LEFT, HEIGHT - 48, WIDTH - LEFT - RIGHT)
    chart.add(*parts)
    return chart.svg("Scatter plot of the front", summary, classes="follows")


def _frame(
    shown: Sequence[Member],
    members: Sequence[Member],
    x: str,
    y: str,
    judgement: Judgement | None,
) -> Chart:
    """Scales that hold every point, the members' intervals and their seeds."""
    found: dict[str, list[float]] = {x: [], y: []}
    for name, values in found.items():
        values += [figure_value(m, name) for m in shown]
        for member in members:
            values += member_ends(member, name, judgement) or ()
            values += [v for v in member.aggregate.per_seed.get(name, ()) if v is not None]
    return Chart(
        WIDTH, HEIGHT,
        scale_of(found[x], LEFT, WIDTH - RIGHT), scale_of(found[y], HEIGHT - BOTTOM, TOP),
    )  # fmt: skip


def figure_value(member: Member, name: str) -> float:
    """A defined figure of a point."""
    value = member.aggregate.figures[name]
    assert value is not None
    return value


def member_ends(
    member: Member, name: str, judgement: Judgement | None
) -> tuple[float, float] | None:
    """Of the interval; without any judgement one standard deviation over seeds, else nothing."""
    point = member.aggregate
    if not judgement or not judgement.points:
        half, value = spread(point.per_seed.get(name, ()))[1], point.figures[name]
        return None if half is None or value is None else (value - half, value + half)
    row = columns_of(judgement, point.configuration)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return None if low is None or high is None else (low, high)


def drawable(points: Sequence[Member], x: str, y: str) -> list[Member]:
    """Members may be chosen by other objectives than the two that are drawn."""
    return [
        m
        for m in points
        if m.aggregate.figures.get(x) is not None and m.aggregate.figures.get(y) is not None
    ]


def _mark(chart: Chart, member: Member, x: str, y: str, *, on_front: bool) -> str:
    point = member.aggregate
    shape, colour = ROLES[point.trial["role"]]
    place = "on the front" if on_front else "not on the front"
    return mark(
        shape, chart.x(figure_value(member, x)), chart.y(figure_value(member, y)),
        8 if on_front else 5.5, colour if on_front else "other c-grey", key=point.configuration,
        name=f"{point.trial['label']}, {point.trial['role']}, {place}: F1 "
        f"{point.figures['f1'] or 0:.3f}, FATE {figure_value(member, x):.3f}",
    )  # fmt: skip


def undominated(members: Sequence[Member], front: Front) -> list[Member]:
    """On fresh seeds a member may be dominated by another."""
    if not members:
        return []
    values_NK = maximised(np.array([m.values for m in members]), front.objectives)
    return [m for m, best in zip(members, pareto_mask(values_NK), strict=True) if best]


def _border(chart: Chart, members: Sequence[Member], x: str, y: str) -> str:
    """Of what the members dominate: down from each member, then across to the next."""
    ordered = sorted((figure_value(m, x), figure_value(m, y)) for m in members)
    (a, b), *rest = ordered
    d = f"M{number(chart.x(a))} {number(chart.y(b))}"
    d += "".join(f"V{number(chart.y(v))}H{number(chart.x(u))}" for u, v in rest)
    return path(d, "border")


def _intervals(
    chart: Chart, member: Member, x: str, y: str, judgement: Judgement | None
) -> list[str]:
    colour = ROLES[member.aggregate.trial["role"]][1]
    across, up = member_ends(member, x, judgement), member_ends(member, y, judgement)
    parts = []
    if across:
        parts.append(interval(chart, *across, chart.y(figure_value(member, y)), colour))
    if up:
        parts.append(upright(chart, *up, chart.x(figure_value(member, x)), colour))
    return parts


def _seeds(chart: Chart, member: Member, x: str, y: str) -> list[str]:
    """Each seed by itself, as a small open mark."""
    point = member.aggregate
    if len(point.seeds) < 2:
        return []
    shape, colour = ROLES[point.trial["role"]]
    pairs = zip(point.per_seed[x], point.per_seed[y], strict=True)
    return [
        mark(shape, chart.x(a), chart.y(b), 3.2, f"open {colour}")
        for a, b in pairs
        if a is not None and b is not None
    ]


def _numbers(
    chart: Chart, front: Front, members: Sequence[Member], x: str, y: str
) -> list[str]:
    """Each member's number in the tables, upper right of its mark; the knee by its name."""
    parts = []
    for index, member in enumerate(front.members):
        if member in members:
            word = f"{index + 1}{' knee' if index == front.knee else ''}"
            at = chart.x(figure_value(member, x)) + 9, chart.y(figure_value(member, y)) - 8
            parts.append(text(*at, word, "member-number"))
    return parts


def _legend(
    members: Sequence[Member], others: Sequence[Member], is_confirmed: bool
) -> list[Key]:
    entries = []
    for role, (shape, colour) in ROLES.items():
        if any(m.aggregate.trial["role"] == role for m in members):
            entries.append(Key(f"on the front: {role}", shape, colour, 8))
    for role, (shape, _) in ROLES.items():
        if any(m.aggregate.trial["role"] == role for m in others):
            name = f"other{', by the selecting seeds' if is_confirmed else ''}: {role}"
            entries.append(Key(name, shape, "other c-grey", 5.5))
    if any(len(m.aggregate.seeds) > 1 for m in members):
        entries.append(Key("one seed of a member", "circle", "open c-black", 3.2))
    return entries
