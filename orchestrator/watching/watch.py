"""``fatefront watch``: a sweep that runs elsewhere, shown here until it ends; never writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from orchestrator.watching.display import SweepDisplay
from orchestrator.watching.gpu_use import GpuMeter
from orchestrator.watching.ledger_source import FolderSource, LedgerSource, open_source
from orchestrator.watching.log import Format, make_log
from orchestrator.watching.view import SweepView
from trainables.errors import UserError
from trainables.storage import StorageError, reason


def look(where: str) -> dict[str, Any]:
    """Where the sweep stands now, as the verb's document.

    Raises:
        UserError: there is no sweep.
    """
    try:
        source = open_source(where)
        view = _view(source)
        view.take(source.new_events())
        return view.standing(alive=source.is_alive(), exact=True).document()
    except StorageError as error:
        raise UserError(reason(error)) from None


def watch(where: str, format: Format = "text") -> None:
    """Show it until its driver ends; returns at once where it has.

    Raises:
        UserError: there is no sweep, or its store does not answer.
    """
    try:
        _follow(open_source(where), format)
    except StorageError as error:
        raise UserError(reason(error)) from None


def _follow(source: LedgerSource, format: Format) -> None:
    events, is_alive = source.new_events(), source.is_alive()
    alive = [is_alive]
    log = make_log(format)
    display = SweepDisplay(_view(source), log, in_place=format == "text", alive=lambda: alive[0])
    display.take(events, silently=True)
    if is_alive and display.view.progress.end is None:
        display.say_standing(line=True, exact=True)
        with display.shown():
            try:
                _until_the_end(source, display, alive)
            except KeyboardInterrupt:
                log.event("message", "the sweep goes on", text="the sweep goes on")
                return
    display.say_standing(line=True, exact=True)


def _until_the_end(source: LedgerSource, display: SweepDisplay, alive: list[bool]) -> None:
    display.draw()
    while True:
        time.sleep(source.pause)
        is_alive = source.is_alive()  # first: what it said before it went is then all there
        events: Sequence[Any] = source.new_events()
        display.take(events)
        alive[0] = is_alive
        if display.view.progress.end is not None or not is_alive:
            return


def _view(source: LedgerSource) -> SweepView:
    manifest = source.manifest()
    is_here = isinstance(source, FolderSource)  # a store is read from anywhere
    gpu = GpuMeter() if is_here and manifest["device"] == "cuda" else None
    return SweepView(source.spec(), manifest, source.place, gpu)
