"""Where a sweep stands at one moment, as one line or as one document."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.plan import duration
from orchestrator.watching.gpu_use import GpuUse
from orchestrator.watching.progress import SweepProgress

State = Literal["running", "finished", "interrupted", "lost"]
"""``lost``: the driver is gone without a word; the same command goes on."""


@dataclass(frozen=True)
class Standing:
    """One look. ``num_trials`` is None where nothing limits them; ``at_most``: fewer may be run.

    ``num_done`` holds the cached ones. ``seconds_left`` is None where it is not known, and once
    the sweep is over; ``measured``: trials that are done say so, not the plan alone.
    """

    sweep: str
    folder: str
    state: State
    num_trials: int | None
    at_most: bool
    num_done: int
    num_running: int
    num_cached: int
    num_failed: int
    seconds: float
    seconds_left: float | None
    measured: bool
    hypervolume: float | None
    gpu: GpuUse | None
    stopped: str | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        for name, digits in (("seconds", 1), ("seconds_left", 1), ("hypervolume", 6)):
            if document[name] is not None:
                document[name] = round(document[name], digits)
        return document


def state_of(progress: SweepProgress, alive: bool) -> State:
    """What the ledger's last word and the driver's lock say together."""
    if progress.end is not None:
        return "finished" if progress.end["event"] == "finished" else "interrupted"
    return "running" if alive else "lost"


WORDS: dict[State, str] = {
    "running": "", "finished": "finished", "interrupted": "interrupted",
    "lost": "the driver is gone; the same command goes on",
}  # fmt: skip


def status_line(standing: Standing, width: int | None = None) -> str:
    """The line, to fit into ``width`` columns: in short words, then without what matters least."""
    parts = _parts(standing)
    line = _joined(standing, parts)
    if width is None or len(line) <= width:
        return line
    parts = [(rank, _short(text)) for rank, text in parts]
    while len(parts) > 1:
        line = _joined(standing, parts)
        if len(line) <= width:
            return line
        parts.remove(max(parts))
    return parts[0][1][:width]


def _joined(standing: Standing, parts: list[tuple[int, str]]) -> str:
    return f"{standing.sweep}  " + "  ".join(text for _, text in parts)


def _short(text: str) -> str:
    return re.sub(r"^(\d+) of (\d+) done$", r"\1/\2 done", text).replace("hypervolume", "HV")


def _parts(standing: Standing) -> list[tuple[int, str]]:
    """(rank, text): the higher its rank, the sooner a part is left out."""
    num, total = standing.num_done, standing.num_trials
    bound = "at most " if standing.at_most else ""
    parts = [(0, f"{num} done" if total is None else f"{num} of {bound}{total} done")]
    if WORDS[standing.state]:
        parts.append((1, WORDS[standing.state]))
    if standing.stopped:
        parts.append((2, f"stopped early: {standing.stopped}"))
    if standing.state == "running":
        parts.append((3, f"{standing.num_running} running"))
    parts += [(7, f"{standing.num_cached} cached"), (2, f"{standing.num_failed} failed")]
    if standing.state == "running":
        parts.append((4, _left(standing)))
    if standing.hypervolume is not None:
        parts.append((5, f"hypervolume {standing.hypervolume:.4f}"))
    if standing.gpu is not None:
        named = f"{standing.gpu.num} GPUs" if standing.gpu.num > 1 else "GPU"
        parts.append((6, f"{named} {standing.gpu.percent:.0f} %"))
    return parts


def _left(standing: Standing) -> str:
    if standing.seconds_left is None:
        return "end unknown"
    how = "" if standing.measured else " as planned"
    return f"{'at most ' if standing.at_most else ''}{duration(standing.seconds_left)} left{how}"
