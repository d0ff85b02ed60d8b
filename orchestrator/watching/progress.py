"""What the ledger has said so far, kept up to date event by event. Nothing is read or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.search.proposals import Proposal
from orchestrator.search.tree import Configuration

Event = Mapping[str, Any]

MOST_WAITING = 1800.0
"""Seconds between a trial's handing out and its result, less those of its work, above which the
machine's clock was set or the machine slept; neither says how long the next one takes.
"""


def steady(event: Event) -> float:
    """Seconds at which an event was written, by a clock that nobody sets and that began with its
    driver; Unix time for events of an older version.
    """
    return float(event.get("elapsed", event["time"]))


@dataclass(frozen=True)
class Start:
    """The driver's last start: when (``steady``), how many trials at once, and its budget."""

    time: float
    workers: int
    budget: Mapping[str, float]


@dataclass
class SweepProgress:
    """State of every node, and of the sweep, after the events taken in.

    Attributes:
        events: all of them, oldest first.
        settled: key -> ``done`` or ``failed``.
        running: key -> when it was handed out (``steady``).
        cached: keys that another sweep had computed.
        seconds: key -> seconds from handing out to result, of computed ones; those of their work
            alone of ``cold`` ones, and where the clock was set meanwhile.
        cold: keys that were handed out before the workers had started.
        proposed: configurations that were opened, oldest first.
        stopped_chains: keys of configurations after which a chain is not continued.
        labels: key -> (label, seed) of every trial that was handed out.
        start: of the last driver; None before the first.
        end: the driver's last event, ``finished`` or ``interrupted``; None while it runs.
    """

    events: list[Event] = field(default_factory=list)
    settled: dict[str, str] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    cold: set[str] = field(default_factory=set)
    proposed: list[Configuration] = field(default_factory=list)
    stopped_chains: set[str] = field(default_factory=set)
    labels: dict[str, tuple[str, int]] = field(default_factory=dict)
    start: Start | None = None
    end: Event | None = None
    num_computed: int = 0
    is_warm: bool = False

    def take(self, events: Iterable[Event]) -> None:
        """Take in further events, in their order."""
        for event in events:
            self.events.append(event)
            method = getattr(self, f"_{event['event']}", None)
            if method is not None:
                method(event)

    def _started(self, event: Event) -> None:
        self.start = Start(steady(event), event.get("workers", 1), event.get("budget", {}))
        self.end, self.is_warm = None, False
        self.running.clear()  # whoever ran them is gone

    def _finished(self, event: Event) -> None:
        self.end = event

    _interrupted = _finished

    def _proposal(self, event: Event) -> None:
        if event["chosen_by"] != "repeat":
            self.proposed.append(Proposal.from_event(dict(event)).configuration)

    def _stopped(self, event: Event) -> None:
        self.stopped_chains.add(event["configuration"])

    def _scheduled(self, event: Event) -> None:
        if self.settled.pop(event["key"], None) is not None:  # a failure that is tried again
            self.num_computed -= 1
        self.running[event["key"]] = steady(event)
        if not self.is_warm:
            self.cold.add(event["key"])
        self._name(event)

    def _retry(self, event: Event) -> None:
        self.running.pop(event["key"], None)

    def _done(self, event: Event) -> None:
        begun = self.running.pop(event["key"], None)
        if self.settled.get(event["key"]) == "done":
            return  # the first result of a key holds
        self._name(event)
        self.settled[event["key"]] = event["event"]
        execution = event.get("execution") or {}
        if execution.get("cached"):
            self.cached.add(event["key"])
            return
        self.num_computed += 1
        if begun is not None:
            self.is_warm = True
            work = sum((execution.get("seconds") or {}).values())
            is_cold = event["key"] in self.cold
            waited = steady(event) - begun - work
            holds = not is_cold and 0 <= waited <= MOST_WAITING
            self.seconds[event["key"]] = work + waited if holds else work

    _failed = _done

    def _name(self, event: Event) -> None:
        self.labels[event["key"]] = (event["trial"]["label"], event["trial"]["seed"])

    def num(self, status: str) -> int:
        """Nodes that are ``done`` or ``failed``."""
        return sum(state == status for state in self.settled.values())
