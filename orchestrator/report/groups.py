"""Figures of each group, each gap beside its floor, and what each group gained or lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.fronts.aggregate import GAPS
from orchestrator.fronts.sure import GAP_NAMES, number, p_text
from orchestrator.pages.document import Cell, figure, folded, paragraph, table
from orchestrator.pages.group_bars import BarRow, Valued, group_bars
from orchestrator.pages.svg import Chart, Key, Scale, interval, legend, line, mark, scale_of, text
from orchestrator.pages.tips import signed
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section
from orchestrator.tables.published import AVG, SCORES

MAX_BARS = 16
LEFT, WIDTH, STEP = 330, 1180, 26


def _valued(figure_: Mapping[str, Any]) -> Valued:
    return Valued(figure_["value"], figure_["low"], figure_["high"])


def _share(figure_: Mapping[str, Any]) -> Valued:
    """A score, whose interval is cut at its range."""
    low, high = figure_["low"], figure_["high"]
    return Valued(
        figure_["value"],
        None if low is None else max(0.0, low),
        None if high is None else min(1.0, high),
    )


def _intervals(facts: Facts) -> str:
    if facts.shown_judgement.points:
        return "95 % intervals over seeds and patients"
    return "95 % intervals over seeds alone (Student's t): predictions are not at hand"


def _gaps(facts: Facts) -> tuple[str, ...]:
    """All gaps, that of the front first."""
    return (facts.gap, *(gap for gap in GAPS if gap != facts.gap))


def _shown(facts: Facts) -> list[str]:
    return [name for name in facts.focus if name in facts.rows]


def groups_section(facts: Facts) -> Section:
    """F1 of each group as bars; precision, recall and F1 as a table."""
    title = f"Groups by {facts.attribute}"
    names, groups = _shown(facts), facts.groups
    rows = [
        BarRow(
            facts.label(name),
            {g: _share(facts.rows[name]["lines"][g]["f1"]) for g in groups},
            name,
        )
        for name in names[:MAX_BARS]
    ]
    told = (
        f"F1 of each group on {facts.split}: the reference of FATE, the members of the front, "
        f"the best configuration of each criterion, and what they are compared with. "
        f"Whiskers: {_intervals(facts)}."
    )
    if len(names) > MAX_BARS:
        told += f" {MAX_BARS} of {len(names)} are drawn; the table has all."
    lines: list[list[str | Cell]] = [
        [
            facts.label(name),
            Cell(group, "text"),
            *(_share(facts.rows[name]["lines"][group][score]).text for score in SCORES),
        ]
        for name in names
        for group in (*groups, AVG)
    ]
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), Cell("Group", "text"),
        *(score.capitalize() if score != "f1" else "F1" for score in SCORES),
    ]  # fmt: skip
    grid = table(f"Figures of each group, {facts.split}.", heads, lines, "Figures of each group")
    return Section(
        "groups", title,
        figure(group_bars(rows, groups, "F1 of each group", "F1"), told)
        + folded("Precision, recall and F1 of each group", grid),
    )  # fmt: skip


def gaps_section(facts: Facts) -> Section:
    """The gap of each configuration beside what a classifier with equal rates would show."""
    title = "Gaps against their floors"
    names = _shown(facts)
    rows = [(name, facts.rows[name]["gaps"]) for name in names]
    told = paragraph(
        "Floor: the gap that a classifier with equal per-class rates in all groups would show on "
        "these images, with p of the permutation test. A gap at its floor does not show that "
        "there is no gap, only that this split cannot show one below the smallest detectable: a "
        "gap of the true rates on the same scale, without the noise that is in the value, found "
        "with 80 % power."
    )
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), Cell("Gap", "text"), "Value", "Floor", "p", "Excess",
        "Without sampling noise", "Smallest detectable",
    ]  # fmt: skip
    lines: list[list[str | Cell]] = [
        [
            facts.label(name),
            Cell(GAP_NAMES[gap], "text"),
            _valued(gaps[gap]).text if gaps[gap]["value"] is not None else "undefined",
            number(gaps[gap]["floor"]),
            p_text(gaps[gap]["p_value"]),
            signed(gaps[gap]["excess"]),
            number(gaps[gap]["debiased"]),
            number(gaps[gap]["detectable"]),
        ]
        for name, gaps in rows
        for gap in _gaps(facts)
    ]
    caption = (
        f"{facts.split.capitalize()}. Excess is value less floor, which is not an estimate of "
        f"the gap. Intervals: {_intervals(facts)}."
    )
    body = told + figure(_gap_chart(facts, rows[:40]), f"{GAP_NAMES[facts.gap]}. {caption}")
    body += folded("All gaps", table(caption, heads, lines, "Gaps against their floors"))
    if all(gaps[facts.gap]["floor"] is None for _, gaps in rows):
        body = paragraph(
            "No floors: the predictions of this sweep are not at hand, and counts alone do not "
            "say which images belong to one patient.", "notice",
        ) + body  # fmt: skip
    return Section("gaps", title, body)


def _gap_chart(facts: Facts, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    found = [
        v
        for _, gaps in rows
        for key in ("value", "low", "high", "floor", "detectable")
        if (v := gaps[facts.gap][key]) is not None
    ]
    top, bottom = 10, 10 + STEP * len(rows) + 6
    chart = Chart(
        WIDTH, bottom + 80, scale_of(found, LEFT, WIDTH - 24, zero=True), Scale(0, 1, bottom, top)
    )
    chart.axes(f"gap ({GAP_NAMES[facts.gap]}), lower is better", grid="x")
    for index, (name, gaps) in enumerate(rows):
        at, gap = top + STEP * (index + 0.5) + 3, gaps[facts.gap]
        chart.add(text(LEFT - 12, at + 4, facts.label(name), anchor="end"))
        for what, kind in (("floor", "floor"), ("detectable", "detectable")):
            if gap[what] is not None:
                x = chart.x(gap[what])
                chart.add(line(x, at - 9, x, at + 9, kind))
        if gap["low"] is not None:
            chart.add(interval(chart, gap["low"], gap["high"], at, "c-blue"))
        if gap["value"] is not None:
            floor = "" if gap["floor"] is None else (
                f", floor {gap['floor']:.3f}, p {p_text(gap['p_value'])}"
            )  # fmt: skip
            chart.add(
                mark("circle", chart.x(gap["value"]), at, 5.5, "c-blue", key=name,
                     name=f"{facts.label(name)}: gap {_valued(gap).text}{floor}")
            )  # fmt: skip
    y = bottom + 66
    parts, _ = legend([Key("gap, with its interval", "circle", "c-blue")], LEFT, y, 400)
    chart.add(*parts)
    if any(gaps[facts.gap]["floor"] is not None for _, gaps in rows):
        chart.add(
            line(LEFT + 230, y - 12, LEFT + 230, y + 4, "floor"), text(LEFT + 240, y, "floor"),
            line(LEFT + 300, y - 12, LEFT + 300, y + 4, "detectable"),
            text(LEFT + 310, y, "smallest true gap that this split finds with 80 % power"),
        )  # fmt: skip
    return chart.svg("Gap of each configuration beside its floor", "The table below says it all.")


def changes_section(facts: Facts) -> Section:
    """Every FATE with each group's own change and its tag."""
    title = "FATE and what each group gained or lost"
    names = _shown(facts)
    rest = [name for name in facts.points if name in facts.rows and name not in names]
    told = paragraph(
        "FATE can rise while every group gets worse. So beside every FATE stands the change of "
        "each group's F1 against the reference, and the tag: both gain; worse-served group gains "
        "(another does not); levelling down (no group gains and at least one loses). Intervals "
        "of the changes are over seeds alone."
    )
    if not facts.shown_judgement.points:
        told += paragraph(
            "The floor of the reference's gap is not known without predictions: a FATE may stand "
            "here as determined that is not.", "notice",
        )  # fmt: skip
    body = told + _changes_table(facts, names, "Reference, members and their controls")
    if rest:
        body += folded(
            f"The other {len(rest)} configurations",
            _changes_table(facts, rest[:500], "Other configurations"),
            is_long=True,
        )
    return Section("changes", title, body)


def _changes_table(facts: Facts, names: Iterable[str], name: str) -> str:
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), Cell("Groups", "text"),
        *(f"F1 {group}: change" for group in facts.groups),
        *(f"FATE ({GAP_NAMES[gap]})" for gap in _gaps(facts)),
    ]  # fmt: skip
    rows: list[list[str | Cell]] = []
    for key in names:
        row = facts.rows[key]
        changes = [row["group_changes"][group]["f1"] for group in facts.groups]
        rows.append(
            [
                Cell(facts.label(key), marks=("adaptive",) if row["adaptive"] else ()),
                Cell(row["tag"], "text tags"),
                *("–" if row["tag"] == "reference" else _signed(change) for change in changes),
                *(_fate(row, gap) for gap in _gaps(facts)),
            ]
        )
    caption = (
        f"{facts.split.capitalize()}. n.d.: not determined, the interval of the reference's gap "
        "reaches its floor or 0; the change of the gap (Δ) stands instead."
    )
    return table(caption, heads, rows, name)


def _signed(figure_: Mapping[str, Any]) -> str:
    ends = figure_["low"], figure_["high"]
    text_ = signed(figure_["value"])
    return text_ if ends[0] is None else f"{text_} [{signed(ends[0])}, {signed(ends[1])}]"


def _fate(row: Mapping[str, Any], gap: str) -> str:
    fate = row["fates"][gap]
    if row["tag"] == "reference":
        return "0, the reference"
    if fate["value"] is None:
        return "undefined"
    return _signed(fate) if fate["determined"] else f"n.d. (Δ {signed(fate['change']['value'])})"
