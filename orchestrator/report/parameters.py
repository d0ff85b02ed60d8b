"""Which parameters mattered: importances, and parallel coordinates of every configuration."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from orchestrator.fronts.objectives import directions
from orchestrator.pages.document import figure, paragraph
from orchestrator.pages.svg import (
    Chart,
    Scale,
    bar,
    line,
    polyline,
    scale_of,
    text,
)
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section
from orchestrator.report.study import StudyTrial, StudyView, study_view

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1180, 90, 130, 46, 340
MAX_LINES = 400


def parameters_section(facts: Facts) -> Section:
    """Optuna's importances, and lines through every axis of the space."""
    title = "Parameters of the search"
    view = study_view(facts)
    names = _varied(view.trials)
    if not names:
        return Section("parameters", title, "", "no parameter of this space varies")
    body = paragraph(
        "From the Optuna study that the ledger rebuilds: one trial a configuration, values by "
        "the seeds that select."
    )
    if view.importances:
        told = (
            f"Importance of each parameter for each objective (PED-ANOVA, {len(view.trials)} "
            "configurations): how much the best configurations differ in it from all. It says "
            "where the search found differences, noise included, not why."
        )
        body += figure(_importances(view), told)
    elif view.problem:
        body += paragraph(f"No importances: {view.problem}.", "small")
    drawn = view.trials[:MAX_LINES]
    told = (
        "Parallel coordinates: one line a configuration, from its parameters to its objectives; "
        "members of the front in colour. An arrow says which end is better."
    )
    if len(view.trials) > MAX_LINES:
        told += f" The first {MAX_LINES} of {len(view.trials)} are drawn."
    body += figure(_parallel(facts, view, drawn, names), told)
    return Section("parameters", title, body)


def _varied(trials: Sequence[StudyTrial]) -> list[str]:
    """Parameters with more than one value; a branch that a trial does not have counts as one."""
    names = dict.fromkeys(name for trial in trials for name in trial.parameters)
    return [n for n in names if len({str(trial.parameters.get(n)) for trial in trials}) > 1]


def _importances(view: StudyView) -> str:
    rows = [
        (objective, name, share)
        for objective, found in view.importances.items()
        for name, share in found.items()
    ]
    left, step, top = 330, 22, 6
    bottom = top + step * len(rows) + 4
    chart = Chart(WIDTH, bottom + 46, Scale(0, 1, left, WIDTH - 60), Scale(0, 1, bottom, top))
    chart.axes("share of the importance for this objective", grid="x")
    for index, (objective, name, share) in enumerate(rows):
        at = top + step * (index + 0.5) + 2
        colour = "c-blue" if objective == view.objectives[0] else "c-vermilion"
        chart.add(
            text(left - 12, at + 4, f"{objective}: {name}", anchor="end"),
            bar(left, at - 7, chart.x(share) - left, 14, f"bar {colour}"),
            text(chart.x(share) + 6, at + 4, f"{share:.2f}", "soft"),
        )
    told = "; ".join(f"{o}: {n} {s:.2f}" for o, n, s in rows)
    return chart.svg("Importance of each parameter", told)


def _parallel(
    facts: Facts, view: StudyView, drawn: Sequence[StudyTrial], names: Sequence[str]
) -> str:
    axes: list[tuple[str, list[Any]]] = [
        (name, [trial.parameters.get(name) for trial in drawn]) for name in names
    ]
    axes += [(n, [trial.values[k] for trial in drawn]) for k, n in enumerate(view.objectives)]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(axes) - 1)
    chart = Chart(WIDTH, BOTTOM + 34, Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, BOTTOM, TOP))
    places = []
    labels: list[str] = []
    for index, (name, values) in enumerate(axes):
        x = LEFT + index * step
        parts, heights = _axis(x, values, is_measured=index >= len(names))
        labels += parts
        better = ""
        if index >= len(names):
            better = " ↑" if directions([name]) == ["maximize"] else " ↓"
        chart.add(text(x, TOP - 22 if index % 2 == 0 else TOP - 8, name + better, anchor="middle"))
        places.append([(x, height) for height in heights])
    members = {m.aggregate.configuration for m in facts.front.members}
    order = sorted(range(len(drawn)), key=lambda i: drawn[i].configuration in members)
    for i in order:
        key = drawn[i].configuration
        on_front = key in members
        more = ""
        if key in facts.points:
            name = f"{facts.label(key)}: " + ", ".join(
                f"{axis} {_value_text(values[i])}" for axis, values in axes
            )
            more = f' data-c="{key}" role="button" tabindex="-1" aria-label="{escape(name)}"'
        classes = "line c-blue" if on_front else "line thin c-grey"
        chart.add(polyline([place[i] for place in places], classes, more))
    chart.add(*labels)
    return chart.svg("Parallel coordinates", "Each configuration is a line from left to right.")


def _axis(
    x: float, values: Sequence[Any], *, is_measured: bool
) -> tuple[list[str], list[float]]:
    """Line, ticks and the height of each value; words and missing branches are spread evenly."""
    parts = [line(x, TOP, x, BOTTOM, "axis")]
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct = sorted(set(values)) if is_number else sorted({_value_text(v) for v in values})
    if is_measured or (is_number and len(distinct) > 6):
        scale = scale_of([float(v) for v in values], BOTTOM, TOP, pad=0.02)
        for tick in scale.ticks:
            parts.append(text(x + 6, scale(tick) + 4, scale.tick_text(tick), "soft halo"))
        return parts, [scale(float(v)) for v in values]
    room = (BOTTOM - TOP) / (len(distinct) + 1)
    height = {v: BOTTOM - room * (i + 1) for i, v in enumerate(distinct)}
    for v, y in height.items():
        parts.append(text(x + 6, y + 4, _value_text(v), "soft halo"))
    return parts, [height[v if is_number else _value_text(v)] for v in values]


def _value_text(value: Any) -> str:
    if value is None:
        return "not there"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
