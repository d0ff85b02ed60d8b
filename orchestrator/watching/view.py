"""A sweep that is being looked at: its progress, its forecast and its front so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from orchestrator.fronts.front import sweep_front
from orchestrator.ledger.records import project
from orchestrator.watching.forecast import Forecast, Remaining
from orchestrator.watching.gpu_use import GpuMeter, GpuUse
from orchestrator.watching.progress import Event, SweepProgress, steady
from orchestrator.watching.standing import Standing, state_of
from search_spaces.sweep_spec import SweepSpec

FRONT_SHARE = 0.05
"""Of the time, at most, that is spent on computing the front for the line."""


class SweepView:
    """Takes in events, says where the sweep stands; several threads may ask."""

    def __init__(
        self, spec: SweepSpec, manifest: dict[str, Any], folder: str, gpu: GpuMeter | None = None
    ) -> None:
        self.spec, self.manifest, self.folder = spec, manifest, folder
        self.progress = SweepProgress()
        self._forecast = Forecast(spec, manifest)
        self._gpu = gpu
        self._lock = threading.Lock()
        self._hypervolume: float | None = None
        self._num_in_front = 0
        self._next_front = 0.0
        self._looked = (time.time(), time.monotonic())
        """A moment in the seconds of the ledger, and by the clock of this process."""

    def take(self, events: Iterable[Event]) -> None:
        """Take in further events, in their order."""
        new = list(events)
        with self._lock:
            self.progress.take(new)
            if new:
                since = max(0.0, time.time() - new[-1]["time"])  # the clock may have been set back
                self._looked = (steady(new[-1]) + since, time.monotonic())

    def _now(self) -> float:
        """In the seconds of the ledger; whoever sets the clock from now on does not matter."""
        then, began = self._looked
        return then + time.monotonic() - began

    def counts(self) -> tuple[int, int | None, float]:
        """Trials that are settled, trials to go (None: unknown), seconds since the start."""
        with self._lock:
            now, settled = self._now(), len(self.progress.settled)
            total = self._forecast.remaining(self.progress, now).num_trials
            begun = self.progress.start.time if self.progress.start else now
            seconds = max(0.0, now - begun)
            return settled, None if total is None else max(0, total - settled), seconds

    def standing(self, *, alive: bool = True, exact: bool = False) -> Standing:
        """Where it stands now; ``exact``: the front is not one of a moment ago."""
        # what takes long is done without the lock: the driver must never wait for its own line
        hypervolume = self._front(exact)
        with self._lock:
            runs = state_of(self.progress, alive) == "running"
        gpu = self._gpu.use() if self._gpu and runs else None
        with self._lock:
            return self._standing(self._now(), alive, hypervolume, gpu)

    def _standing(
        self, now: float, alive: bool, hypervolume: float | None, gpu: GpuUse | None
    ) -> Standing:
        progress = self.progress
        state = state_of(progress, alive)
        end = progress.end or (progress.events[-1] if progress.events else None)
        until = now if state == "running" or end is None else steady(end)
        begun = progress.start.time if progress.start else until
        left = self._remaining(now, state == "running")
        return Standing(
            sweep=self.spec.name,
            folder=self.folder,
            state=state,
            num_trials=left.num_trials,
            at_most=left.at_most,
            num_done=progress.num("done"),
            num_running=len(progress.running) if state == "running" else 0,
            num_cached=len(progress.cached),
            num_failed=progress.num("failed"),
            seconds=max(0.0, until - begun),
            seconds_left=left.seconds,
            measured=left.measured,
            hypervolume=hypervolume,
            gpu=gpu,
            stopped=progress.end.get("stopped") if progress.end else None,
        )

    def _remaining(self, now: float, runs: bool) -> Remaining:
        if runs:
            return self._forecast.remaining(self.progress, now)
        if self.progress.end is not None and self.progress.end["event"] == "finished":
            return Remaining(len(self.progress.settled), False, None, True)
        left = self._forecast.remaining(self.progress, now)
        return Remaining(left.num_trials, left.at_most, None, left.measured)

    def _front(self, exact: bool) -> float | None:
        """Its hypervolume, computed anew where trials came in and it is not too soon."""
        with self._lock:
            events = list(self.progress.events)
            num = len(self.progress.settled)
        began = time.monotonic()
        if num != self._num_in_front and (exact or began >= self._next_front):
            records = project([dict(event) for event in events])
            self._hypervolume = sweep_front(records, self.spec).hypervolume
            self._num_in_front = num
            ended = time.monotonic()
            self._next_front = ended + (ended - began) / FRONT_SHARE
        return self._hypervolume
