"""The front for papers: ``front.png``, ``front.pdf`` and ``front.tex``, by validation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fronts.front import Front, Member
from orchestrator.fronts.headline import headline
from orchestrator.fronts.sure import GAP_NAMES, gap_of, is_not_determined
from orchestrator.judging.columns import columns_of
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.front_chart import (
    NAMES,
    axes,
    drawable,
    figure_value,
    member_ends,
    undominated,
)
from orchestrator.pages.tips import group_changes, group_f1, tags_text
from orchestrator.tables.as_latex import as_latex
from orchestrator.tables.grid import Cell, Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Mapping[str, Mapping[str, Any]]

COLOURS = {"treatment": "#0072B2", "control": "#D55E00", "baseline": "#009E73"}
"""Okabe and Ito's, as on the pages."""
MARKERS = {"treatment": "o", "control": "s", "baseline": "D"}
GREY, INK = "#8A8F98", "#1F2933"
WIDTH, HEIGHT, DPI = 6.9, 4.6, 300
"""Inches, of a figure across both columns."""
TITLE_COLUMNS = 120
"""Letters of 7 points across it."""


def write_pictures(front: Front, judgement: Judgement | None, folder: Path) -> None:
    """Write ``front.png`` and ``front.pdf``; the same front gives the same bytes.

    Fonts are embedded as TrueType, which journals ask for.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"font.family": "DejaVu Sans", "font.size": 8, "pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure.subplots(), front, judgement)
        for name, metadata in (
            ("front.png", {"Software": None}),
            ("front.pdf", {"CreationDate": None, "Producer": None, "Creator": "fatefront"}),
        ):
            draft = folder / f".{name}"
            figure.savefig(draft, format=name[-3:], dpi=DPI, metadata=metadata)
            draft.replace(folder / name)


def _draw(plot: Axes, front: Front, judgement: Judgement | None) -> None:
    x, y = axes(front.objectives)
    members, others = drawable(front.members, x, y), drawable(front.dominated, x, y)
    plot.grid(color="#E4E7EB", linewidth=0.6)
    plot.set_axisbelow(True)
    if x.startswith("fate_"):
        plot.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    for role, marker in MARKERS.items():
        _points(plot, others, role, x, y, s=14, marker=marker, color=GREY, alpha=0.55,
                linewidths=0, label=f"other: {role}")  # fmt: skip
    bounding = sorted(
        (figure_value(m, x), figure_value(m, y)) for m in undominated(members, front)
    )
    if set(front.objectives) == {x, y} and len(bounding) > 1:
        plot.step(*zip(*bounding, strict=True), where="pre", color=INK, linewidth=1)
    for index, member in enumerate(front.members):
        if member in members:
            _member(plot, index, member, x, y, judgement)
    for role, marker in MARKERS.items():
        _points(plot, members, role, x, y, s=44, marker=marker, color=COLOURS[role],
                edgecolors="white", linewidths=0.8, zorder=4,
                label=f"on the front: {role}")  # fmt: skip
    said = [headline(front), *_without_interval(members, x, judgement)]
    lines = [line for text in said for line in textwrap.wrap(text, TITLE_COLUMNS)]
    plot.set_title("\n".join(lines), loc="left", fontsize=7, color=INK)
    plot.set_xlabel(f"{NAMES[x]} (higher is better)")
    plot.set_ylabel(f"{NAMES[y]} (higher is better)")
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(fontsize=7, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.13))


def _without_interval(
    members: Sequence[Member], x: str, judgement: Judgement | None
) -> list[str]:
    """A bar that is missing must not look like one of no length."""
    if judgement is None or not x.startswith("fate_"):
        return []
    ends = [member_ends(member, x, judgement) for member in members]
    if not ends or any(e is not None for e in ends):
        return []
    return [f"{NAMES[x]} has no interval: the reference's gap reaches its floor or has none."]


def _points(
    plot: Axes, found: Sequence[Member], role: str, x: str, y: str, **how: Any
) -> None:
    own = [m for m in found if m.aggregate.trial["role"] == role]
    if own:
        plot.scatter([figure_value(m, x) for m in own], [figure_value(m, y) for m in own], **how)


def _member(
    plot: Axes, index: int, member: Member, x: str, y: str, judgement: Judgement | None
) -> None:
    """Its intervals and its number in ``front.tex``."""
    at = figure_value(member, x), figure_value(member, y)
    colour = COLOURS[member.aggregate.trial["role"]]
    for axis, name in enumerate((x, y)):
        ends = member_ends(member, name, judgement)
        if ends is not None:
            error = [[max(0.0, at[axis] - ends[0])], [max(0.0, ends[1] - at[axis])]]
            plot.errorbar(
                *at, xerr=None if axis else error, yerr=error if axis else None, color=colour,
                linewidth=0.9, capsize=2, zorder=3,
            )  # fmt: skip
    plot.annotate(str(index + 1), at, xytext=(5, 4), textcoords="offset points", fontsize=8,
                  fontweight="bold", color=INK, zorder=5)  # fmt: skip


def latex_table(
    front: Front, records: Records, judgement: Judgement | None, caption: str
) -> str:
    """The members as a LaTeX table, numbered as in the picture."""
    gap, groups = gap_of(front), list(group_f1(front.members[0].aggregate, records))
    header = ["No.", "Configuration", "Seeds", "F1", f"FATE ({GAP_NAMES[gap]})"]
    header += [GAP_NAMES[gap], "Floor", "On the front"]
    header += [f"F1 {group} (change)" for group in groups] + ["Groups"]
    words = frozenset(("No.", "Configuration", "Groups"))
    notes = [
        "Validation. Square brackets: 95 % intervals over seeds and patients, where there are "
        "any. n.d.: the interval of the reference's gap reaches its floor. Floor: the gap of a "
        "classifier with equal per-class rates on these images. On the front: share of joint "
        "redraws of seeds and patients. Changes are against the reference of FATE."
    ]
    notes.insert(0, headline(front))
    grid = Grid(caption, header, notes, text_columns=words)
    grid.blocks = [
        [_line(index, one, records, judgement, gap) for index, one in enumerate(front.members)]
    ]
    return as_latex(grid)


def _line(
    index: int, member: Member, records: Records, judgement: Judgement | None, gap: str
) -> list[Cell]:
    point = member.aggregate
    row = columns_of(judgement, point.configuration)
    is_open = is_not_determined(judgement, point.configuration, f"fate_{gap}")
    changes = group_changes(point, records)
    frequency = row["membership_frequency"]
    return [
        Cell(str(index + 1)),
        Cell(str(point.trial["label"])),
        Cell(str(len(point.seeds))),
        _with_ends(point.figures["f1"], row, "f1"),
        Cell("n.d.") if is_open else _with_ends(point.figures[f"fate_{gap}"], row, f"fate_{gap}"),
        _with_ends(point.figures[gap], row, gap),
        Cell(_number(row[f"{gap}_floor"])),
        Cell("-" if frequency is None else f"{frequency:.0%}"),
        *(
            Cell(_number(value), f" ({_number(changes[name], '+')})")
            for name, value in group_f1(point, records).items()
        ),
        Cell(tags_text(point)),
    ]


def _with_ends(value: float | None, row: Mapping[str, Any], name: str) -> Cell:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return Cell(_number(value), ends)


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{round(value, 3) + 0.0:{sign}.3f}"
