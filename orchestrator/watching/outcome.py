"""One line a trial that ended, from its event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.plan import duration
from orchestrator.search.lost_data import DATA_LOST
from orchestrator.search.memory_retries import OUT_OF_MEMORY
from orchestrator.watching.progress import Event, SweepProgress

AGAIN = {
    DATA_LOST: "the object store has lost the images, will be run again",
    OUT_OF_MEMORY: "out of memory, will be run again with fewer at once",
}
LOST = "worker lost, will be run again"


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended; figures are those of validation, None where undefined or not done.

    ``trial`` is its label; ``reason`` says what went wrong.
    """

    key: str
    trial: str
    seed: int
    status: Literal["done", "failed", "retried"]
    f1: float | None = None
    eodd_hardt: float | None = None
    seconds: float | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()


def outcome_of(event: Event, progress: SweepProgress) -> Outcome | None:
    """Of an event that ends an attempt; None for others, and for trials found in the store."""
    if event["event"] not in ("done", "failed", "retry"):
        return None
    label, seed = progress.labels.get(event["key"], (event["key"][:8], 0))
    if event["event"] == "retry":
        reason = AGAIN.get(event["error"].get("type"), LOST)
        return Outcome(event["key"], label, seed, "retried", reason=reason)
    execution = event.get("execution") or {}
    if execution.get("cached"):
        return None
    notes = tuple(execution.get("notes", ()))
    if event["event"] == "failed":
        reason = f"{event['error']['type']}: {event['error']['reason']}"
        return Outcome(event["key"], label, seed, "failed", reason=reason, notes=notes)
    figures = event["result"]["metrics"]["validation"]
    return Outcome(
        event["key"], label, seed, "done", figures["f1"], figures["eodd_hardt"],
        round(sum((execution.get("seconds") or {}).values()), 3), notes=notes,
    )  # fmt: skip


def outcome_line(outcome: Outcome, seconds: float, num_settled: int, to_go: int | None) -> str:
    """For people; ``seconds`` since the driver's start."""
    if outcome.status == "done":
        text = "  ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} undefined"
            for name, value in (("f1", outcome.f1), ("eodd_hardt", outcome.eodd_hardt))
        )
        text += f"  {outcome.seconds:.1f} s"
    else:
        text = f"FAILED {outcome.reason}" if outcome.status == "failed" else str(outcome.reason)
    left = "" if to_go is None else f", {to_go:3d} to go"
    return (
        f"[{duration(seconds):>6}] {num_settled:4d} settled{left}  "
        f"{outcome.trial} (seed {outcome.seed}): {text}"
    )


def outcome_document(outcome: Outcome, num_settled: int, to_go: int | None) -> dict[str, Any]:
    """As JSON."""
    return {
        "key": outcome.key,
        "trial": outcome.trial,
        "seed": outcome.seed,
        "status": outcome.status,
        "f1": outcome.f1,
        "eodd_hardt": outcome.eodd_hardt,
        "seconds": outcome.seconds,
        "reason": outcome.reason,
        "num_settled": num_settled,
        "num_to_go": to_go,
    }
