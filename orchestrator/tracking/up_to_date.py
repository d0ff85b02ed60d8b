"""A sweep's runs in MLflow before somebody looks at them."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ledger.records import is_running, read_events
from orchestrator.tracking.one_pass import LIFE
from orchestrator.tracking.process import sync


def bring_up_to_date(folder: Path, uri: str) -> None:
    """Write what the ledger has and MLflow has not; a driver at work has its own process for it.

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
    """
    if is_running(folder):
        return
    life = [event["event"] for event in read_events(folder) if event["event"] in LIFE]
    sync(folder, uri, final=bool(life) and life[-1] == "finished")
