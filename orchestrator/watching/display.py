"""The display of a sweep: a line for each trial that ends, and one status line below them that is
drawn anew in its place where somebody watches a terminal.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from rich.live import Live
from rich.text import Text

from orchestrator.console import stderr
from orchestrator.watching.log import Log
from orchestrator.watching.outcome import outcome_document, outcome_line, outcome_of
from orchestrator.watching.progress import Event
from orchestrator.watching.standing import Standing, status_line
from orchestrator.watching.view import SweepView

REDRAWN = 1.0
"""Seconds between two drawings of the status line."""
SAID = 30.0
"""Seconds between two ``standing`` events of a log in JSON."""


class SweepDisplay:
    """Shows a sweep that is followed by ``take``; ``alive`` says whether its driver is."""

    def __init__(
        self, view: SweepView, log: Log, *, in_place: bool, alive: Callable[[], bool]
    ) -> None:
        self.view, self._log, self._alive = view, log, alive
        self._in_place = in_place and stderr.is_terminal and not stderr.is_dumb_terminal
        self._live: Live | None = None
        self._wake = threading.Event()
        self._noted: set[str] = set()

    def take(self, events: Sequence[Event], *, silently: bool = False) -> None:
        """Take in further events; a line for each trial that ended in them."""
        for event in events:
            self.view.take([event])
            outcome = None if silently else outcome_of(event, self.view.progress)
            if outcome is None:
                continue
            settled, to_go, seconds = self.view.counts()
            line = outcome_line(outcome, seconds, settled, to_go)
            self._log.event("trial", line, **outcome_document(outcome, settled, to_go))
            for note in outcome.notes:
                if note not in self._noted:
                    self._noted.add(note)
                    self._log.event("message", f"note: {note}", text=f"note: {note}")

    def say_standing(self, *, line: bool = False, exact: bool = False) -> Standing:
        """Say where it stands; to people only with ``line``."""
        standing = self.view.standing(alive=self._alive(), exact=exact)
        shown = status_line(standing) if line else None
        self._log.event("standing", shown, **standing.document())
        return standing

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the status line is there and is kept up to date by a thread of its own."""
        ended = threading.Event()
        with contextlib.ExitStack() as stack:
            if self._in_place:
                self._live = stack.enter_context(
                    Live(
                        Text(""), console=stderr, auto_refresh=False, transient=True,
                        redirect_stdout=False, vertical_overflow="crop",
                    )
                )  # fmt: skip
            thread = threading.Thread(
                target=self._keep_up, args=(ended,), name="status-line", daemon=True
            )
            thread.start()
            try:
                yield
            finally:
                ended.set()
                self._wake.set()
                thread.join(10)
                self._live = None

    def draw(self) -> None:
        """Ask for the status line to be drawn anew; whoever asks does not wait for it."""
        if self._live is not None:
            self._wake.set()

    def _keep_up(self, ended: threading.Event) -> None:
        while not ended.is_set():
            live = self._live
            if live is not None:
                line = status_line(self.view.standing(alive=self._alive()), stderr.width)
                live.update(Text(line, no_wrap=True, overflow="crop"), refresh=True)
            self._wake.wait(SAID if live is None else REDRAWN)
            self._wake.clear()
            if live is None and not ended.is_set():
                self.say_standing()
