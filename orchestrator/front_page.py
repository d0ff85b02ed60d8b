"""The front as one interactive page that works offline: F1 against FATE, with hover, seeds, and a
table of the members.

Everything that was measured is drawn: members coloured and joined, the rest grey by role. Text of
the sweep is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.aggregate import Aggregate, spread
from orchestrator.front import Front, Member
from orchestrator.front_sure import sure_table
from orchestrator.front_table import group_f1, members_table
from orchestrator.judged_columns import columns_of
from orchestrator.judgement import Judgement
from orchestrator.objectives import maximised
from orchestrator.pareto import pareto_mask

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

Records = Mapping[str, Mapping[str, Any]]

COLOURS = {"treatment": "#0072B2", "control": "#D55E00", "baseline": "#009E73"}
"""Okabe and Ito's colours, which people with any kind of colour vision can tell apart."""

SYMBOLS = {"treatment": "circle", "control": "square", "baseline": "diamond"}
NAMES = {
    "fate_eodd_hardt": "FATE of equalized odds (Hardt)",
    "fate_eodd": "FATE of equalized odds (signed, as published)",
    "fate_eopp1": "FATE of equal opportunity, TPR",
    "fate_eopp0": "FATE of equal opportunity, TNR",
    "f1": "F1, mean over groups",
}
GREY, INK, PALE = "#8A8F98", "#1F2933", "#E4E7EB"


@dataclass(frozen=True)
class Page:
    """What the page says beside the front."""

    sweep: str
    data: str
    version: str
    notes: tuple[str, ...]


def axes(objectives: Sequence[str]) -> tuple[str, str]:
    """Figures on the horizontal and the vertical axis: a FATE, and F1 unless two FATEs were asked
    for.
    """
    fates = [name for name in objectives if name.startswith("fate_")]
    if len(fates) == 2 and "f1" not in objectives:
        return fates[0], fates[1]
    return (fates[0] if fates else "fate_eodd_hardt"), "f1"


def front_page(
    front: Front,
    records: Records,
    added: Sequence[Mapping[str, Any]],
    page: Page,
    judgement: Judgement | None = None,
) -> str:
    """HTML of the page, plotly.js inside.

    Args:
        front: with at least one member.
        records: of the sweep, for the figures of each group.
        added: the export's own columns, one mapping a member.
        page: names and notes.
        judgement: how sure the points are.
    """
    plot = _figure(front, records, judgement).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="front",
        default_height="600px",
        config={
            "responsive": True,
            "displaylogo": False,
            "modeBarButtonsToRemove": ["select2d", "lasso2d"],
        },
    )
    title = escape(f"Pareto front of {page.sweep}")
    summary = _summary(front)
    return _TEMPLATE.format(
        title=title,
        subtitle=escape(f"{page.data} · {_seeds(front)} · figures on the validation split"),
        summary=escape(summary),
        label=escape(f"Scatter plot. {summary} The table below holds the same figures."),
        plot=plot,
        facts=_facts(front, judgement),
        bars=_BARS_JUDGED if judgement and judgement.points else _BARS,
        table=members_table(front, records, added, judgement),
        sure=sure_table(front, judgement) if judgement else "",
        notes="".join(f"<li>{escape(note)}</li>" for note in page.notes),
        version=escape(page.version),
        ink=INK,
        pale=PALE,
    )


def _seeds(front: Front) -> str:
    numbers = sorted({len(member.aggregate.seeds) for member in front.members})
    text = " or ".join(map(str, numbers)) + f" seed{'' if numbers == [1] else 's'}"
    if not front.selected:
        return f"{text} a configuration"
    chosen = sorted({len(member.aggregate.seeds) for member in front.selected.values()})
    others = " or ".join(map(str, chosen))
    return f"{text} a member, which chose nothing; chosen by {others} others"


def _summary(front: Front) -> str:
    num = len(front.members) + len(front.dominated)
    best = front.members[0].aggregate.trial["label"]
    text = f"{len(front.members)} of {num} configurations are on the front"
    if len(front.members) > 1:
        text += (
            f"; best in {front.objectives[0]}: {best}, in {front.objectives[-1]}: {_best(front)}"
        )
    if front.knee is not None:
        text += f"; knee: {front.members[front.knee].aggregate.trial['label']}"
    return text + "."


def _best(front: Front) -> str:
    return str(max(front.members, key=lambda m: m.values[-1]).aggregate.trial["label"])


def _facts(front: Front, judgement: Judgement | None) -> str:
    point = ", ".join(
        f"{name} = {value:g}"
        for name, value in zip(front.objectives, front.reference_point, strict=True)
    )
    volume = judgement.hypervolume if judgement else None
    text = f" [{volume.low:.4f}, {volume.high:.4f}]" if volume else ""
    facts = [
        ("Hypervolume", f"{front.hypervolume:.4f}{text}"),
        ("Reference point of the hypervolume", point),
        ("Seeds", _seeds(front)),
        ("Split", "validation"),
        ("Not compared", f"{len(front.incomplete)} incomplete, {len(front.undefined)} undefined"),
    ]
    return "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)


def _figure(front: Front, records: Records, judgement: Judgement | None) -> Figure:
    import plotly.graph_objects as go

    x, y = axes(front.objectives)
    figure = go.Figure()
    for role in SYMBOLS:
        points = [m for m in front.dominated if m.aggregate.trial["role"] == role]
        drawn = _drawable(points, x, y)
        if drawn:
            name = f"{'other, by the selecting seeds' if front.selected else 'other'}: {role}"
            figure.add_trace(_points(drawn, x, y, records, role, judgement, name))
    members = _drawable(front.members, x, y)
    bounding = _undominated(members, front)
    if set(front.objectives) == {x, y} and len(bounding) > 1:
        figure.add_trace(_line(bounding, x, y))
    if members:
        figure.add_trace(_each_seed(members, x, y))
    for role in SYMBOLS:
        drawn = [m for m in members if m.aggregate.trial["role"] == role]
        if drawn:
            name = f"on the front: {role}"
            figure.add_trace(_points(drawn, x, y, records, role, judgement, name, on_front=True))
    if front.knee is not None and front.members[front.knee] in members:
        point = front.members[front.knee].aggregate
        figure.add_annotation(
            x=point.figures[x], y=point.figures[y], text="knee", showarrow=True,
            arrowhead=0, ax=34, ay=-34,
            arrowcolor=INK, font={"color": INK, "size": 13}, bgcolor="rgba(255,255,255,.8)",
        )  # fmt: skip
    if x.startswith("fate"):
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=0, y=1, yref="paper", text="reference: FATE 0", showarrow=False,
            xanchor="left", yanchor="bottom",
            font={"size": 11, "color": "#52606D"},
        )  # fmt: skip
    _layout(figure, x, y)
    return figure


def _undominated(members: Sequence[Member], front: Front) -> list[Member]:
    """On fresh seeds a member may be dominated by another."""
    if not members:
        return []
    values_NK = maximised(np.array([m.values for m in members]), front.objectives)
    return [m for m, best in zip(members, pareto_mask(values_NK), strict=True) if best]


def _drawable(points: Sequence[Member], x: str, y: str) -> list[Member]:
    """Members may be chosen by other objectives than the two that are drawn."""
    return [
        m
        for m in points
        if m.aggregate.figures.get(x) is not None and m.aggregate.figures.get(y) is not None
    ]


def _points(
    members: Sequence[Member],
    x: str,
    y: str,
    records: Records,
    role: str,
    judgement: Judgement | None,
    name: str,
    *,
    on_front: bool = False,
) -> Scatter:
    import plotly.graph_objects as go

    points = [member.aggregate for member in members]
    marker: dict[str, Any] = {"symbol": SYMBOLS[role], "size": 9, "color": GREY, "opacity": 0.55}
    error: dict[str, Any] = {"visible": False}  # bars of all would hide the members'
    if on_front:
        marker = {
            "symbol": SYMBOLS[role], "size": 14, "color": COLOURS[role],
            "line": {"width": 1.5, "color": "white"},
        }  # fmt: skip
        error = {"thickness": 1.4, "width": 4, "color": COLOURS[role]}
    return go.Scatter(
        x=[point.figures[x] for point in points],
        y=[point.figures[y] for point in points],
        error_x=error | {"array": [_half_width(point, x, judgement) for point in points]},
        error_y=error | {"array": [_half_width(point, y, judgement) for point in points]},
        mode="markers",
        name=name,
        marker=marker,
        text=[hover(point, records, x, judgement) for point in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _half_width(point: Aggregate, name: str, judgement: Judgement | None) -> float:
    """Of the interval; without any judgement one standard deviation over seeds, else nothing."""
    if not judgement or not judgement.points:
        return spread(point.per_seed.get(name, ()))[1] or 0.0
    row = columns_of(judgement, point.configuration)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return 0.0 if low is None or high is None else (high - low) / 2


def _line(members: Sequence[Member], x: str, y: str) -> Scatter:
    """The border of what the members dominate: down from each member, then across to the next."""
    import plotly.graph_objects as go

    ordered = sorted(members, key=lambda m: (m.aggregate.figures[x], m.aggregate.figures[y]))
    return go.Scatter(
        x=[m.aggregate.figures[x] for m in ordered],
        y=[m.aggregate.figures[y] for m in ordered],
        mode="lines",
        line={"shape": "vh", "color": INK, "width": 1.5},
        name="front",
        hoverinfo="skip",
    )


def _each_seed(members: Sequence[Member], x: str, y: str) -> Scatter:
    import plotly.graph_objects as go

    found = [
        (a, b, m.aggregate.trial["role"], f"{m.aggregate.trial['label']}, seed {seed}")
        for m in members
        for seed, a, b in zip(
            m.aggregate.seeds, m.aggregate.per_seed[x], m.aggregate.per_seed[y], strict=True
        )
        if a is not None and b is not None
    ]
    return go.Scatter(
        x=[a for a, _, _, _ in found],
        y=[b for _, b, _, _ in found],
        mode="markers",
        name="one seed of a member",
        marker={
            "size": 6, "color": [COLOURS[role] for _, _, role, _ in found],
            "symbol": [f"{SYMBOLS[role]}-open" for _, _, role, _ in found], "opacity": 0.75,
        },
        text=[escape(text) for _, _, _, text in found],
        hovertemplate=f"%{{text}}<br>{x} %{{x:.3f}}, {y} %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def hover(
    point: Aggregate, records: Records, fate: str, judgement: Judgement | None = None
) -> str:
    """What is shown beside a point: figures, each group's F1, what happened to the groups, how
    sure it is, each seed.
    """
    trial = point.trial
    ratio = "" if trial["ratio"] is None else f" · ratio {trial['ratio']:g}"
    site = "" if trial["site"] is None else f" · site {escape(trial['site'])}"
    groups = " · ".join(
        f"{escape(name)} {'not assessed' if value is None else f'{value:.3f}'}"
        for name, value in group_f1(point, records).items()
    )
    seeds = "".join(
        f"<br>  seed {seed}: F1 {_figure_text(f1)}, FATE {_figure_text(value)}"
        for seed, f1, value in zip(
            point.seeds, point.per_seed["f1"], point.per_seed[fate], strict=True
        )
    )
    row = columns_of(judgement, point.configuration)
    frequency = row["membership_frequency"]
    sure = "" if frequency is None else f"<br>on the front in {frequency:.0%} of redraws"
    sure += "".join(
        f"<br>{escape(row[name])}"
        for name in ("vs_none_verdict", "vs_random_verdict")
        if row[name] is not None
    )
    return (
        f"<b>{escape(trial['label'])}</b><br>{escape(trial['role'])} · n = "
        f"{trial['n']}{ratio}{site}"
        f"<br>F1 {_figure_text(point.figures['f1'])} · FATE {_figure_text(point.figures[fate])}"
        f"<br>F1 by group: {groups}<br>groups: {escape(', '.join(dict.fromkeys(point.tags)))}"
        f"{sure}"
        f"<br>{len(point.seeds)} seed{'' if len(point.seeds) == 1 else 's'}{seeds}"
    )


def _figure_text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _layout(figure: Figure, x: str, y: str) -> None:
    axis = {
        "gridcolor": PALE, "zeroline": False, "linecolor": GREY, "showline": True,
        "ticks": "outside",
        "tickcolor": GREY, "title": {"standoff": 12},
    }  # fmt: skip
    figure.update_layout(
        template="none",
        font={
            "family": "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
            "size": 14,
            "color": INK,
        },
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 76, "r": 24, "t": 32, "b": 128},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "xanchor": "left", "x": 0},
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": GREY,
            "font": {"color": INK, "size": 13},
            "align": "left",
        },
        hovermode="closest",
        xaxis=axis | {"title": {"text": f"{NAMES[x]} (higher is better)", "standoff": 12}},
        yaxis=axis | {"title": {"text": f"{NAMES[y]} (higher is better)", "standoff": 12}},
    )


_BARS = "Bars of members: one standard deviation over seeds."
_BARS_JUDGED = "Bars of members: 95 % intervals over seeds and patients, where there are any."

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 1280px; padding: 28px 24px 40px; background: white;
  color: {ink};
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; margin: 0; }}
h2 {{ font-size: 1.15rem; margin: 32px 0 8px; }}
p {{ margin: 6px 0; }}
.subtitle {{ color: #52606D; }}
dl {{ display: flex; flex-wrap: wrap; gap: 8px 36px; margin: 16px 0 8px; }}
dt {{ font-size: .78rem; color: #52606D; }}
dd {{ margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }}
figure {{ margin: 8px 0; }}
figcaption, .small {{ font-size: .88rem; color: #52606D; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-size: .88rem; color: #52606D; padding-bottom: 8px;
  max-width: 1180px; }}
th, td {{ padding: 7px 8px; border-bottom: 1px solid {pale}; text-align: right;
  white-space: nowrap; }}
thead th {{ vertical-align: bottom; white-space: normal; border-bottom: 2px solid {ink}; }}
th:first-child, td.text, th.text {{ text-align: left; }}
tbody th {{ font-weight: 600; white-space: normal; min-width: 14em; }}
td.tags {{ white-space: normal; min-width: 9em; }}
td.verdict {{ min-width: 18em; }}
.mark {{ display: inline-block; margin-left: 6px; padding: 0 7px; border: 1px solid currentColor;
  border-radius: 9px; font-size: .74rem; font-weight: 400; }}
li {{ margin: 3px 0; }}
@media print {{ .modebar {{ display: none; }} }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
<p>{summary}</p>
<dl>{facts}</dl>
<figure>
<div role="img" aria-label="{label}">{plot}</div>
<figcaption>Large marks: a configuration, F1 as the mean over seeds and FATE of the seed means.
{bars} Small open marks: each seed by itself.
The line bounds what the members dominate.</figcaption>
</figure>
<h2>Members of the front</h2>
<div class="wide" tabindex="0" role="region" aria-label="Table of the members">{table}</div>
{sure}
<h2>Notes</h2>
<ul class="small">{notes}</ul>
</main>
<footer class="small">fatefront {version}</footer>
</body>
</html>
"""
