"""One bar a group with its interval, row by row: configurations, or figures of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.pages.svg import (
    COLOURS,
    SHAPES,
    Chart,
    Key,
    Scale,
    bar,
    interval,
    legend,
    mark,
    scale_of,
    text,
)

LEFT, RIGHT, TOP, BAR, GAP = 330, 24, 8, 15, 12


@dataclass(frozen=True)
class Valued:
    """A figure with the ends of its interval, where it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def text(self) -> str:
        """The figure with its interval."""
        if self.value is None:
            return "not assessed"
        ends = "" if self.ends is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{ends}"


@dataclass(frozen=True)
class BarRow:
    """One row; ``key`` is the configuration it belongs to, if it is one's."""

    name: str
    groups: Mapping[str, Valued]
    key: str = ""


def group_bars(
    rows: Sequence[BarRow], groups: Sequence[str], title: str, x_name: str = ""
) -> str:
    """The chart, bars from 0; a mark of the group's own shape is at the end of each bar."""
    width, each = 1180, BAR * len(groups) + GAP
    found = [
        v for row in rows for g in groups for one in [row.groups[g]]
        for v in (one.value, *(one.ends or ())) if v is not None
    ]  # fmt: skip
    bottom = TOP + each * len(rows)
    chart = Chart(
        width, 0, scale_of(found, LEFT, width - RIGHT, zero=True), Scale(0, 1, bottom, TOP)
    )
    chart.axes(x_name, grid="x")
    zero = chart.x(0.0)
    for number, row in enumerate(rows):
        top = TOP + number * each + GAP / 2
        chart.add(text(LEFT - 12, top + BAR * len(groups) / 2 + 4, row.name, anchor="end"))
        for g, group in enumerate(groups):
            one, middle = row.groups[group], top + BAR * (g + 0.5)
            colour = f"c-{COLOURS[g % len(COLOURS)]}"
            if one.value is None:
                chart.add(text(zero + 6, middle + 4, f"{group}: not assessed", "soft"))
                continue
            end = chart.x(one.value)
            chart.add(bar(min(zero, end), middle - BAR / 2 + 1, abs(end - zero), BAR - 3,
                          f"bar {colour}"))  # fmt: skip
            if one.ends:
                chart.add(interval(chart, *one.ends, middle, "c-black"))
            name = f"{row.name}, {group}: {one.text}"
            shape = SHAPES[g % len(SHAPES)]
            chart.add(mark(shape, end, middle, 5, colour, key=row.key, name=name))
    entries = [
        Key(group, SHAPES[g % len(SHAPES)], f"c-{COLOURS[g % len(COLOURS)]}")
        for g, group in enumerate(groups)
    ]
    parts, height = legend(entries, LEFT, bottom + 66, width - LEFT - RIGHT)
    chart.add(*parts)
    chart.height = bottom + 50 + height
    told = "; ".join(f"{r.name}: " + ", ".join(f"{g} {r.groups[g].text}" for g in groups)
                     for r in rows[:20])  # fmt: skip
    return chart.svg(title, told)
