"""How the front grew: its hypervolume over trials and over hours of work, from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.ledger.records import project

MAX_POINTS = 60
Volume = Callable[[Mapping[str, Mapping[str, Any]]], float]


def hypervolume_history(
    events: Sequence[Mapping[str, Any]], volume: Volume
) -> list[dict[str, float]]:
    """``num_trials``, ``hours`` and ``hypervolume`` after at most ``MAX_POINTS`` finished trials.

    Hours are those that trials took, summed over workers (GPU-hours where each had a GPU; a trial
    that shared one counts its whole time); cached trials are counted and took none.

    Args:
        events: of the ledger, oldest first.
        volume: hypervolume of the front of some records.
    """
    done = [number for number, event in enumerate(events) if event["event"] == "done"]
    if not done:
        return []
    step = max(1, -(-len(done) // MAX_POINTS))
    shown = {*range(step - 1, len(done), step), len(done) - 1}
    history, hours = [], 0.0
    for number, place in enumerate(done):
        execution = events[place].get("execution") or {}
        if not execution.get("cached"):
            hours += sum((execution.get("seconds") or {}).values()) / 3600
        if number in shown:
            records = project([dict(event) for event in events[: place + 1]])
            history.append(
                {
                    "num_trials": number + 1,
                    "hours": round(hours, 4),
                    "hypervolume": volume(records),
                }
            )
    return history
