"""One HTML file that works offline: the shell, the style and the tables of every page.

``front.html``, the page of ``evaluate`` and the report share it: one style sheet for both colour
schemes and for print, no network (the page's own policy forbids it), every text escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: as it is to be read; it is escaped here.
        classes: of the style sheet: ``text`` (left), ``tags`` (folded), ``verdict`` (wide).
        marks: words in a small frame behind the text.
        style: of the element, from figures alone.
    """

    text: str
    classes: str = ""
    marks: tuple[str, ...] = ()
    style: str = ""


def html_document(
    title: str, body: str, *, version: str, trials: Mapping[str, Any] | None = None
) -> str:
    """A whole page.

    Args:
        title: of the window.
        body: HTML.
        version: of fatefront, for the foot.
        trials: what the script shows of each configuration (``pages/tips.py``); None: the page
            has nothing to point at, and no script.
    """
    style = files("orchestrator.pages").joinpath("style.css").read_text(encoding="utf-8")
    script = ""
    if trials is not None:
        code = files("orchestrator.pages").joinpath("interact.js").read_text(encoding="utf-8")
        script = (
            f'<script type="application/json" id="trials">{script_json(trials)}</script>\n'
            f"<script>\n{code}</script>\n"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n{body}\n</main>\n"
        f'<footer class="small">fatefront {escape(version)}</footer>\n{script}</body>\n</html>\n'
    )


def script_json(document: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def table(
    caption: str, heads: Sequence[str | Cell], rows: Iterable[Sequence[str | Cell]], name: str
) -> str:
    """An accessible table; the first cell of each row is its heading.

    Args:
        caption: what the figures are.
        heads: of the columns; a ``Cell`` gives its column's class.
        rows: cells; a bare text is a figure (right-aligned).
        name: of the scrolling region, for people who do not see it.
    """
    head = "".join(f'<th scope="col"{_attributes(cell)}>{_content(cell)}</th>' for cell in heads)
    body = "".join(f"<tr>{_row(row)}</tr>\n" for row in rows)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str | Cell]) -> str:
    first, *rest = cells
    return f'<th scope="row"{_attributes(first)}>{_content(first)}</th>' + "".join(
        f"<td{_attributes(cell)}>{_content(cell)}</td>" for cell in rest
    )


def _attributes(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return ""
    found = f' class="{escape(cell.classes)}"' if cell.classes else ""
    return found + (f' style="{escape(cell.style)}"' if cell.style else "")


def _content(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    marks = "".join(f'<span class="mark-word">{escape(mark)}</span>' for mark in cell.marks)
    return escape(cell.text) + marks


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values side by side."""
    found = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="facts">{found}</dl>'


def bullets(texts: Iterable[str]) -> str:
    """A list in small print."""
    return f'<ul class="small">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>'


def paragraph(text: str, classes: str = "") -> str:
    """One paragraph."""
    return f"<p{f' class={classes!r}' if classes else ''}>{escape(text)}</p>"


def figure(drawing: str, caption: str) -> str:
    """A drawing that scrolls on narrow screens, with its caption."""
    return (
        f'<figure><div class="scroll">{drawing}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def folded(summary: str, content: str, *, is_long: bool = False) -> str:
    """Content that opens on demand; in print it is open, unless it ``is_long``."""
    kind = ' class="long"' if is_long else ""
    return f"<details{kind}><summary>{escape(summary)}</summary>{content}</details>"
