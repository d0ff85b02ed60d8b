"""No figure is cut, however narrow the terminal is."""

import io
import re

import pytest
from rich.console import Console, Group
from rich.table import Table

from orchestrator.wrapped_table import fitted

FIGURES = [f"{i}.{i}{i}{i} [{i}.000, {i}.999]" for i in range(1, 9)]


def table():
    found = Table(title="a title", caption="a caption of some words")
    found.add_column("configuration")
    for number in range(8):
        found.add_column(f"figure number {number}", justify="right")
    found.add_column("words")
    for name in ("vanilla > snnl 5 % x 1", "vanilla"):
        found.add_row(name, *FIGURES, "worse-served group does not gain (3 of 5 seeds)")
    found.add_section()
    found.add_row("all", *FIGURES, "")
    return found


def printed(shown, width):
    file = io.StringIO()
    Console(file=file, width=width).print(fitted(shown, width), crop=False)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 400])
def test_every_figure_is_whole_and_every_line_fits(width):
    text = printed(table(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for figure in FIGURES:
        assert text.count(figure) == 3, (figure, text)
    assert "a title" in text
    assert "a caption" in text


def test_each_part_names_its_rows():
    text = printed(Group(table(), "words in between"), 80)
    heads = len(re.findall("configuration", text))
    assert heads > 1
    assert text.count("vanilla > snnl") == heads
    assert text.count("words in between") == 1


def test_without_need_nothing_is_moved():
    assert len(re.findall("configuration", printed(table(), 400))) == 1
