"""The display of ``fatefront run``: fed by the driver itself, from its own ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger
from orchestrator.running.sweep import Progress
from orchestrator.search.schedule import Schedule
from orchestrator.watching.display import SweepDisplay
from orchestrator.watching.gpu_use import GpuMeter
from orchestrator.watching.log import Log, TextLog
from orchestrator.watching.view import SweepView


class RunDisplay:
    """Lines on stderr while a sweep runs; the status line begins when the schedule is there."""

    def __init__(self, folder: Path, log: Log, *, quiet: bool, is_here: bool) -> None:
        """``is_here``: trials run on this machine, whose GPUs can be asked."""
        self._folder, self._log, self._is_here = folder, log, is_here
        self._in_place = isinstance(log, TextLog) and not quiet
        self._display: SweepDisplay | None = None
        self._ledger: Ledger | None = None
        self._num_taken = 0
        self._open = contextlib.ExitStack()

    def say(self, line: str) -> None:
        """One line."""
        self._log.event("message", line, text=line)

    def note(self, line: str | None) -> None:
        """One line, if there is anything to say."""
        if line is not None:
            self.say(f"note: {line}")

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """As long as the sweep runs; at the end what became of it is said."""
        with self._open:
            yield
        if self._display is not None:
            self._take()
            self._display.say_standing(exact=True)

    def progress(self, begin: Callable[[], None]) -> Progress:
        """Hooks for the driver; ``begin`` is called when the sweep has begun."""

        def started(schedule: Schedule) -> None:
            begin()
            self._started(schedule)

        return Progress(
            started=started,
            settled=lambda schedule, key, status: self._take(),
            say=self.say,
            tick=lambda schedule: self._take(),
        )

    def _started(self, schedule: Schedule) -> None:
        manifest = read_manifest(self._folder)
        gpu = GpuMeter() if self._is_here and manifest["device"] == "cuda" else None
        view = SweepView(schedule.spec, manifest, str(self._folder), gpu)
        self._display = SweepDisplay(view, self._log, in_place=self._in_place, alive=lambda: True)
        self._ledger = schedule.ledger
        self._num_taken = len(schedule.ledger.events)
        self._display.take(schedule.ledger.events, silently=True)
        known = len(schedule.settled)
        if known:
            self.say(f"{self._folder}: {known} trials known already")
        standing = self._display.say_standing()
        if standing.num_trials is not None:
            bound = "at most " if standing.at_most else ""
            whole = "in the whole grid" if schedule.spec.search.sampler == "grid" else "in all"
            self.say(f"{schedule.spec.name}: {bound}{standing.num_trials} trials {whole}")
        self._open.enter_context(self._display.shown())
        self._display.draw()

    def _take(self) -> None:
        assert self._display is not None
        assert self._ledger is not None
        events = self._ledger.events[self._num_taken :]
        self._num_taken += len(events)
        self._display.take(events)
        self._display.draw()
