"""A grid of cells as one Markdown table, its footnotes and notes as a list below."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.tables.grid import Cell, Grid


def as_markdown(grid: Grid) -> str:
    """The caption, the table, what stands below."""
    rule = [":---" if is_text else "---:" for is_text in grid.texts]
    lines = [f"**{escape(grid.caption)}**", "", _line(map(escape, grid.header)), _line(rule)]
    lines += [_line(map(_cell, cells)) for block in grid.blocks for cells in block]
    below = [*grid.footnotes, *grid.notes]
    return "\n".join([*lines, "", *(f"* {escape(text)}" for text in below)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = {"bold": f"**{text}**", "underline": f"<u>{text}</u>"}.get(cell.mark, text)
    note = f"<sup>{cell.notes}</sup>" if cell.notes else ""
    return f"{text}{escape(cell.rest)}{note}"


def escape(text: str) -> str:
    """Text in which nothing is markup and no sign ends a cell."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)
