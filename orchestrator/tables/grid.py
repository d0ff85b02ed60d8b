"""The paper's layout as a grid of cells: one line a group of each method, then Avg and Diff.

Markdown and LaTeX are written from the same grid, so they always say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.tables.published import AVG, DIFF, SCORES

SHOWN_GAPS = {"eopp0": "Eopp0", "eopp1": "Eopp1", "eodd": "Eodd"}
Document = Mapping[str, Any]


@dataclass
class Cell:
    """Text, how its first part is set off, and letters of its footnotes."""

    text: str = ""
    rest: str = ""
    mark: str = ""  # "", "bold", "underline"
    notes: str = ""


@dataclass
class Grid:
    """A rectangle of cells, lines grouped by method, and what stands below."""

    caption: str
    header: list[str]
    notes: list[str]
    blocks: list[list[list[Cell]]] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    text_columns: frozenset[str] | None = None  # those of the paper's layout if not given

    @property
    def texts(self) -> list[bool]:
        """Whether each column holds words, not figures."""
        if self.text_columns is not None:
            return [name in self.text_columns for name in self.header]
        first = self.header.index("Group") + 1
        words = ("FATE baseline", "Groups")
        return [k < first or name in words for k, name in enumerate(self.header)]


def grid_of(document: Document) -> Grid:
    """Every row of the document, each followed by its published ones; others at the end."""
    paper = document["style"] == "paper"
    up, down = (" ↑", " ↓") if paper else ("", "")
    header = ["Method", *(("pr", "pr_c", "n") if paper else ()), "Group"]
    header += [f"{name}{up}" for name in ("Precision", "Recall", "F1")]
    for title in SHOWN_GAPS.values():
        header += [f"{title}{down}", f"FATE({title}){up}" if not paper else f"FATE{up}"]
    header += ["FATE baseline", "Groups"] if paper else ["Groups"]
    caption = f"{document['sweep']}: {document['dataset']} by {document['attribute']}"
    grid = Grid(f"{caption}, {document['backbone']}", header, list(document["notes"]))
    for row in document["rows"]:
        grid.blocks.append(_block(row, document))
        grid.blocks += [_published(block, grid, paper) for block in row["published"]]
    grid.blocks += [_published(block, grid, paper) for block in document["published"]]
    return grid


def _block(row: Mapping[str, Any], document: Document) -> list[list[Cell]]:
    paper = document["style"] == "paper"
    name = row["configuration"] + (" (control)" if row["role"] == "control" else "")
    lines: list[list[Cell]] = []
    for line, scores in row["lines"].items():
        cells = [Cell(name if not lines else "")]
        if paper:
            settings = [row["pr"], row["pr_c"], row["n"] or None] if not lines else [None] * 3
            cells += [Cell("" if value is None else f"{value:g}") for value in settings]
        cells.append(Cell(_line_name(line, row["better_served_group"], paper)))
        cells += [_figure(scores[score], 3, paper) for score in SCORES]
        for gap in SHOWN_GAPS:
            if line == AVG:
                cells.append(_gap(row["gaps"][gap], paper))
                cells.append(_fate(row["fates"][gap], row["tag"] == "reference", paper))
            else:
                cells += [Cell(), Cell()]
        cells += [Cell(row["fate_baseline"] if line == AVG else "")] if paper else []
        cells.append(Cell(row["tag"] if line == AVG else ""))
        lines.append(cells)
    return lines


PRIVILEGED = {"fitzpatrick17k": "Dark", "isic2019": "Female"}
"""Of the published rows, by data set (the supplement of arXiv 2405.08681)."""


def _line_name(line: str, better_served: str | None, paper: bool) -> str:
    if not paper:
        return line
    if line == DIFF:
        return f"{line} ↓"
    return f"{line} (privileged)" if line == better_served else line


def _figure(figure: Mapping[str, Any], places: int, paper: bool, sign: str = "") -> Cell:
    if figure["value"] is None:
        return Cell("-")
    rest = ""
    if figure["high"] is not None:
        up, down = (
            f"{abs(figure[end] - figure['value']):.{places}f}" for end in ("high", "low")
        )
        # the interval of a gap over seeds and patients is on the log scale: not ± anything
        between = f" [{figure['low']:.{places}f}, {figure['high']:.{places}f}]"
        rest = f" ± {up}" if up == down else between
    mark = {1: "bold", 2: "underline"}.get(figure["rank"], "") if paper else ""
    if not paper and figure["tied"]:
        rest += " ≈"
    elif not paper and figure["rank"] == 1 and figure["tied"] is False:
        mark = "bold"
    return Cell(f"{figure['value']:{sign}.{places}f}", rest, mark)


def _gap(gap: Mapping[str, Any], paper: bool) -> Cell:
    """A gap beside what a classifier with equal per-class rates would show."""
    cell = _figure(gap, 4, paper)
    if not paper and gap["floor"] is not None:
        told = "" if gap["p_value"] is None else f", p {_p(gap['p_value'])}"
        cell.rest += f" (floor {gap['floor']:.4f}{told})"
    return cell


def _fate(fate: Mapping[str, Any], is_reference: bool, paper: bool) -> Cell:
    if is_reference and fate["value"] is not None:  # 0 by definition, without an interval
        fate = {**fate, "high": None}
        return replace(_figure(fate, 3, paper), text="0")
    if paper or fate["determined"] or fate["value"] is None:
        return _figure(fate, 3, paper, sign="+")
    return Cell(f"n.d. (Δ {fate['change']['value']:+.4f})")


def _published(block: Mapping[str, Any], grid: Grid, paper: bool) -> list[list[Cell]]:
    """A published row as printed; a letter leads from a known misprint to its footnote."""
    letters: dict[tuple[str, str], str] = {}
    for misprint in block["misprints"]:
        letter = _letter(len(grid.footnotes))
        grid.footnotes.append(
            f"{letter}: {block['table']} {block['method']}, {' '.join(misprint['columns'])}: "
            f"{misprint['note']}"
        )
        for column in misprint["columns"]:
            key = (misprint["group"], column)
            letters[key] = letters.get(key, "") + letter
    lines: list[list[Cell]] = []
    for line, printed in block["lines"].items():
        cells = [Cell()]
        if not lines:
            notes = "".join(letters.get((g, "method"), "") for g in block["lines"])
            cells = [Cell(f"published: {block['method']} ({block['table']})", notes=notes)]
        if paper:
            settings = [block[name] for name in ("pr", "pr_c", "n")] if not lines else [""] * 3
            cells += [Cell(value) for value in settings]
        cells.append(Cell(_line_name(line, PRIVILEGED.get(block["dataset"]), paper)))
        names = [*SCORES, *(n for gap in SHOWN_GAPS for n in (gap, f"fate_{gap}"))]
        cells += [Cell(printed[n], notes=letters.get((line, n), "")) for n in names]
        cells += [Cell(block["fate_baseline"] if line == AVG else "")] if paper else []
        tag = block["tag"] + (f" ({block['tag_note']})" if block["tag_note"] else "")
        cells.append(Cell(tag if line == AVG else ""))
        lines.append(cells)
    return lines


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    head, tail = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("a") + tail)


def _p(p_value: float) -> str:
    """Two places; a permutation test cannot say 0."""
    return "<.01" if p_value < 0.005 else f"{p_value:.2f}"
