"""A bar on stderr for what takes a while; nothing is drawn where nobody watches a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.console import stderr

T = TypeVar("T")


def make_bar() -> Progress:
    """It vanishes when it is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # where nobody watches, a bar would leave an empty line before an error
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def counted(things: Iterable[T], total: int, name: str) -> Iterator[T]:
    """The same things one by one; the bar counts those that are behind."""
    with make_bar() as bar:
        task = bar.add_task(name, total=total)
        for thing in things:
            yield thing
            bar.advance(task)
