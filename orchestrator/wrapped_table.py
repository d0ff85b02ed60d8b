"""Tables in a narrow terminal: columns go into further tables below, so that no figure is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Column, Table

TEXT_WIDTH = 24
"""A column of text may be folded down to this, or to its longest word."""
BORDER, PADDING = 1, 2


def fitted(shown: Any, width: int) -> Any:
    """The same with every table of it fitted into so many characters; other things unchanged."""
    from rich.console import Group
    from rich.table import Table

    if isinstance(shown, Group):
        return Group(*(fitted(part, width) for part in shown.renderables))
    if not isinstance(shown, Table):
        return shown
    parts = _parts([_least(column) for column in shown.columns], width)
    if len(parts) == 1 and not shown.caption:
        for column in shown.columns:
            _keep_whole(column)
        return shown
    tables = [_part(shown, part) for part in parts]
    tables[0].title = shown.title
    return Group(*tables, *([str(shown.caption), ""] if shown.caption else []))


def _lines(column: Column) -> list[str]:
    cells = [column.header, *column.cells]
    return [line for cell in cells for line in str(cell).splitlines()]


def _is_figure(column: Column) -> bool:
    return column.justify == "right"


def _least(column: Column) -> int:
    """The least width without borders that cuts nothing."""
    from rich.cells import cell_len

    lines = _lines(column)
    whole = max(map(cell_len, lines), default=0)
    if _is_figure(column):
        body = [line for cell in column.cells for line in str(cell).splitlines()]
        words = [word for line in str(column.header).splitlines() for word in line.split()]
        return max(map(cell_len, [*body, *words]), default=0)
    words = [word for line in lines for word in line.split()]
    return max(min(whole, TEXT_WIDTH), max(map(cell_len, words), default=0))


def _parts(least: Sequence[int], width: int) -> list[list[int]]:
    """Numbers of the columns of each table; the first column is in all of them."""
    room = width - BORDER - (least[0] + PADDING + BORDER if least else 0)
    parts: list[list[int]] = [[0]]
    left = room
    for number, wide in enumerate(least[1:], 1):
        needed = wide + PADDING + BORDER
        if needed > left and len(parts[-1]) > 1:
            parts.append([0])
            left = room
        parts[-1].append(number)
        left -= needed
    return parts


def _keep_whole(column: Column) -> None:
    """Rich takes the missing width from columns that do not say how wide they must be."""
    column.min_width = _least(column)
    column.overflow = "fold"


def _part(table: Table, numbers: Sequence[int]) -> Table:
    from rich.table import Table

    part = Table()
    for number in numbers:
        column = table.columns[number]
        part.add_column(column.header, justify=column.justify)
    cells = [list(table.columns[number].cells) for number in numbers]
    for row, line in zip(table.rows, zip(*cells, strict=True), strict=True):
        part.add_row(*line, end_section=row.end_section)
    for column in part.columns:
        _keep_whole(column)
    return part
