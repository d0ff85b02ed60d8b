"""A grid of cells as a LaTeX table of booktabs, its footnotes and notes in small print below."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.tables.grid import Cell, Grid

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$",
    ">": "$>$", "|": "$|$", "[": "{[}", "]": "{]}", "±": r"$\pm$", "≈": r"$\approx$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$",
}  # fmt: skip
"""What LaTeX reads as a command, or has only in mathematics; a bracket would be read as the
argument of the line break before it.
"""


def as_latex(grid: Grid) -> str:
    """A ``table`` environment that needs booktabs and graphicx."""
    columns = "".join("l" if is_text else "r" for is_text in grid.texts)
    lines = [
        r"% in the preamble: \usepackage{booktabs} \usepackage{graphicx}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(grid.caption)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(map(escape, grid.header)),
    ]
    for block in grid.blocks:
        lines += [r"\midrule", *(_line(map(_cell, cells)) for cells in block)]
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        r"\begin{minipage}{\textwidth}",
        r"\footnotesize\raggedright",
        *(rf"{escape(text)}\par" for text in (*grid.footnotes, *grid.notes)),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    command = {"bold": "textbf", "underline": "underline"}.get(cell.mark)
    text = rf"\{command}{{{text}}}" if command else text
    note = rf"\textsuperscript{{{cell.notes}}}" if cell.notes else ""
    return f"{text}{escape(cell.rest)}{note}"


def escape(text: str) -> str:
    """Text with every special sign written out; the sign of a number becomes a real one."""
    text = "".join(SIGNS.get(sign, sign) for sign in re.sub(r"\s+", " ", text))
    return re.sub(r"(?<![\w.$])([+-])(?=\d)", r"$\1$", text)
