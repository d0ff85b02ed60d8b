"""The front as one page that works offline: the chart with its tips and chains, and tables of the
members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from orchestrator.fronts.front import Front
from orchestrator.fronts.headline import headline
from orchestrator.fronts.sure import gap_of, sure_table
from orchestrator.fronts.table import members_table
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.document import bullets, facts, figure, html_document, paragraph
from orchestrator.pages.front_chart import MAX_DRAWN, axes, drawn_points, front_chart
from orchestrator.pages.tips import chain_heads, group_f1, trials_document

Records = Mapping[str, Mapping[str, Any]]

_BARS = "Bars of members: one standard deviation over seeds."
_BARS_JUDGED = "Bars of members: 95 % intervals over seeds and patients, where there are any."


@dataclass(frozen=True)
class Page:
    """What the page says beside the front."""

    sweep: str
    data: str
    version: str
    notes: tuple[str, ...]


def front_page(
    front: Front,
    records: Records,
    added: Sequence[Mapping[str, Any]],
    page: Page,
    judgement: Judgement | None = None,
) -> str:
    """HTML of the page.

    Args:
        front: with at least one member.
        records: of the sweep, for the figures of each group.
        added: the export's own columns, one mapping a member.
        page: names and notes.
        judgement: how sure the points are.
    """
    title = f"Pareto front of {page.sweep}"
    subtitle = f"{page.data} · {seeds_text(front)} · figures on the validation split"
    sure = sure_table(front, judgement) if judgement else ""
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            paragraph(subtitle, "subtitle"),
            paragraph(headline(front)),
            facts(front_facts(front, judgement)),
            front_figure(front, records, judgement),
            "<h2>Members of the front</h2>",
            members_table(front, records, added, judgement),
            f"<h2>How sure this is</h2>{sure}" if sure else "",
            "<h2>Notes</h2>",
            bullets(page.notes),
        ]
    )
    trials = front_trials(front, records, judgement)
    return html_document(title, body, version=page.version, trials=trials)


def front_trials(
    front: Front, records: Records, judgement: Judgement | None
) -> dict[str, Any]:
    """What the script shows of every configuration that is drawn."""
    fate = axes(front.objectives)[0]
    return trials_document(front, drawn_points(front), records, fate, judgement)


def front_figure(front: Front, records: Records, judgement: Judgement | None) -> str:
    """The chart with its caption, and the panel that shows a chosen chain."""
    summary = headline(front)
    is_judged = judgement is not None and bool(judgement.points)
    caption = (
        "Large marks: a configuration on the front, with its number in the tables, F1 as the mean "
        f"over seeds and FATE of the seed means. {_BARS_JUDGED if is_judged else _BARS} Small "
        "open marks: each seed by itself. Grey: all other configurations. The line bounds what "
        "the members dominate."
    )
    num = len(front.members) + len(front.dominated)
    if num > MAX_DRAWN:
        caption += f" {MAX_DRAWN} of {num} configurations are drawn, the best in the first "
        caption += "objective."
    description = f"{summary} The tables below hold the same figures."
    return (
        figure(front_chart(front, judgement, description), caption)
        + '<p class="small screen">Point at a mark, or reach it by the tabulator and the arrow '
        "keys, to see its figures; click it, or press Enter, to follow its chain; Escape lets it "
        "go.</p>" + _chain_panel(front, records)
    )


def _chain_panel(front: Front, records: Records) -> str:
    groups = group_f1(front.members[0].aggregate, records)
    heads = "".join(
        f'<th scope="col"{"" if isinstance(head, str) else f" class={head.classes!r}"}>'
        f"{escape(head if isinstance(head, str) else head.text)}</th>"
        for head in chain_heads(groups, gap_of(front))
    )
    return (
        '<section id="chosen" aria-live="polite" hidden><h3></h3><div class="wide" tabindex="0" '
        'role="region" aria-label="The chosen chain"><table><thead><tr>'
        f"{heads}</tr></thead><tbody></tbody></table></div>"
        '<p><button type="button">Let go</button></p></section>'
    )


def seeds_text(front: Front) -> str:
    """How many seeds the figures are of, and which of them chose."""
    numbers = sorted({len(member.aggregate.seeds) for member in front.members})
    text = " or ".join(map(str, numbers)) + f" seed{'' if numbers == [1] else 's'}"
    if not front.selected:
        return f"{text} a configuration"
    chosen = sorted({len(member.aggregate.seeds) for member in front.selected.values()})
    others = " or ".join(map(str, chosen))
    return f"{text} a member, which chose nothing; chosen by {others} others"


def front_facts(front: Front, judgement: Judgement | None) -> list[tuple[str, str]]:
    """The figures of the front as a whole."""
    point = ", ".join(
        f"{name} = {value:g}"
        for name, value in zip(front.objectives, front.reference_point, strict=True)
    )
    volume = judgement.hypervolume if judgement else None
    ends = f" [{volume.low:.4f}, {volume.high:.4f}]" if volume else ""
    if front.selection_hypervolume is not None:
        ends += f" on the fresh seeds; {front.selection_hypervolume:.4f} on those that chose"
    return [
        ("Hypervolume", f"{front.hypervolume:.4f}{ends}"),
        ("Reference point of the hypervolume", point),
        ("Seeds", seeds_text(front)),
        ("Split", "validation"),
        ("Not compared", f"{len(front.incomplete)} incomplete, {len(front.undefined)} undefined"),
    ]
