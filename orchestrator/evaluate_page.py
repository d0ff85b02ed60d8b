"""The document of ``evaluate_file`` as one page that works offline.

Shape legend: G groups, C classes; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.evaluate_view import BESIDE, figures_shown, group_value, interval_text
from trainables.errors import UserError
from trainables.metrics.fairness import GAPS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, which people with any kind of colour vision can tell apart."""
MAX_MATRICES = 12


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _gap_table(result: dict[str, Any]) -> str:
    head = ("metric", "gap", "95 % interval", *(name.replace("_", " ") for name in BESIDE), "")
    rows = []
    for gap in GAPS:
        cells = [_text(result[gap]), interval_text(result["interval"][gap])]
        cells += [_text(result[name][gap]) for name in BESIDE]
        cells += [result["verdict"][gap] or ""]
        rows.append(f"<tr><th>{gap}</th>" + "".join(f"<td>{escape(c)}</td>" for c in cells))
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _bars(result: dict[str, Any]) -> Figure:
    """One bar a figure and group, with its interval."""
    import plotly.graph_objects as go

    figures = figures_shown(result)
    plot = go.Figure()
    for g, name in enumerate(result["groups"]):
        value = [group_value(result, name, figure) for figure in figures]
        ends = [result["group_interval"][name].get(figure, {}) for figure in figures]
        above, below = (
            [
                0.0 if v is None or e.get(end) is None else abs(e[end] - v)
                for v, e in zip(value, ends, strict=True)
            ]
            for end in ("high", "low")
        )
        plot.add_bar(
            x=[figure.replace("_", " ") for figure in figures], y=value, name=escape(name),
            marker_color=COLOURS[g % len(COLOURS)],
            error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1.2},
        )  # fmt: skip
    plot.update_layout(template="plotly_white", height=460, margin={"t": 30}, barmode="group")
    return plot


def _matrices(result: dict[str, Any]) -> Figure:
    """Shares of each true class that are predicted as each class, one matrix a group."""
    from plotly.subplots import make_subplots

    names = list(result["groups"])[:MAX_MATRICES]
    classes = list(map(str, result["classes"]))
    count_GCC = result["_counts"]
    num_columns = min(2, len(names))
    num_rows = -(-len(names) // num_columns)
    titles = [f"{escape(name)} (n = {result['groups'][name]['num_samples']})" for name in names]
    plot = make_subplots(
        num_rows, num_columns, subplot_titles=titles, vertical_spacing=0.3 / num_rows
    )
    for g in range(len(names)):
        count_CC = np.asarray(count_GCC[g], dtype=float)
        total_C1 = count_CC.sum(1, keepdims=True)
        share_CC = np.divide(
            count_CC, total_C1, out=np.full(count_CC.shape, np.nan), where=total_C1 > 0
        )
        plot.add_heatmap(
            z=[[None if np.isnan(v) else round(v, 4) for v in row] for row in share_CC.tolist()],
            x=classes, y=classes, zmin=0, zmax=1, colorscale="Blues", showscale=g == 0,
            customdata=count_CC.astype(int).tolist(),
            hovertemplate="true %{y}, predicted %{x}<br>%{z:.2f} (%{customdata})<extra></extra>",
            row=g // num_columns + 1, col=g % num_columns + 1,
        )  # fmt: skip
    plot.update_xaxes(type="category", title_text="predicted")
    plot.update_yaxes(type="category", title_text="true", autorange="reversed")
    plot.update_layout(template="plotly_white", height=470 * num_rows, margin={"t": 50})
    return plot


def page(result: dict[str, Any]) -> str:
    """HTML with plotly.js inside; ``result`` must hold ``_counts``."""
    bars = _bars(result).to_html(full_html=False, include_plotlyjs=True, div_id="groups")
    matrices = _matrices(result).to_html(full_html=False, include_plotlyjs=False, div_id="counts")
    lines = [f"{name}: {text}" for name, text in result["not_assessed"].items()] + result["notes"]
    if len(result["groups"]) > MAX_MATRICES:
        lines.append(f"the first {MAX_MATRICES} groups have a confusion matrix here")
    return _TEMPLATE.format(
        title=escape(f"Evaluation of {Path(result['predictions']).name}"),
        subtitle=escape(
            f"{result['num_samples']} images, {result['num_classes']} classes, "
            f"{result['num_groups']} groups, {result['num_seeds']} seed(s)"
        ),
        gaps=_gap_table(result), bars=bars, matrices=matrices,
        notes="".join(f"<li>{escape(line)}</li>" for line in lines),
    )  # fmt: skip


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write the page.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(page(result), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 1280px; padding: 28px 24px 40px; color: #1F2933;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0; }}
h2 {{ font-size: 1.15rem; margin: 32px 0 8px; }}
.small {{ font-size: .88rem; color: #52606D; }}
table {{ border-collapse: collapse; width: 100%; font-size: .88rem; }}
th, td {{ padding: 7px 8px; border-bottom: 1px solid #E4E7EB; text-align: right; }}
th:first-child, td:last-child {{ text-align: left; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="small">{subtitle}</p>
<h2>Gaps between groups</h2>
{gaps}
<p class="small">Floor: what a classifier with equal per-class rates shows on this test set.
Excess is not an estimate of the gap.</p>
<h2>Groups, with 95 % intervals</h2>
{bars}
<h2>Confusion matrices: share of each true class</h2>
{matrices}
<h2>Notes</h2>
<ul class="small">{notes}</ul>
</body>
</html>
"""
