"""MLflow, written from the ledger: a parent run a sweep, a child run a node, models of the front.

``sync`` brings MLflow up to date and may be killed at any moment: a run is found again by
``tracking.jsonl``, else by its tags, and is complete only when it carries the tag
``fatefront.synced``, which is set last. As a program (``python -m orchestrator.tracking DIR --uri
URI --follow``) it is the tracking process of a running sweep, so that no sweep waits for MLflow or
fails with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from orchestrator.ledger.records import read_events
from orchestrator.tracking.client import TrackingError, lock, quiet, tracking_errors
from orchestrator.tracking.one_pass import LIFE, Pass, TrackModels
from trainables.errors import UserError

__all__ = ["TrackModels", "TrackingError", "default_uri", "follow", "main", "sync"]

POLL, MAX_PAUSE = 2.0, 30.0
LAST_ATTEMPTS = 3


def sync(
    folder: Path, tracking_uri: str, *, final: bool = False, track_models: TrackModels = "front"
) -> dict[str, int]:
    """Write into MLflow what the ledger has and MLflow has not; doing it again changes nothing.

    Args:
        folder: of the sweep.
        tracking_uri: a database (``sqlite:////path/mlflow.db``; made if missing, artifacts in
            DIR/mlartifacts) or a server (``http://...``; artifacts where the server keeps them).
        final: the sweep is over: also its front, and the models of ``track_models``.
        track_models: nodes whose nets are logged: those of the front's members, all, or none.

    Returns:
        Counts: ``created``, ``completed`` and ``unchanged`` runs, ``deleted`` ones (in MLflow, by
        somebody: left so), and with ``final`` ``models`` newly registered and ``not_exported``
        (weights logged without a ``pt2`` graph).

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
        UserError: the ledger is damaged.
    """
    folder = Path(folder)
    with quiet(), lock(folder), tracking_errors(tracking_uri):
        return Pass(folder, tracking_uri).run(final, track_models)


def follow(
    folder: Path, tracking_uri: str, *, track_models: TrackModels = "front", poll: float = POLL
) -> int:
    """Sync as the ledger grows, until the sweep ends, SIGTERM comes or the parent process is gone;
    then once more.

    Returns:
        0 if MLflow has everything, 1 if it could not be written to the end.
    """
    parent, ended = os.getppid(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ledger = _Ledger(folder)
    synced, pause, said, num_failures = -1, poll, "", 0
    while True:
        # asked before the ledger is read: what was written before the end is then in it
        gone = ended.is_set() or os.getppid() != parent
        size, life = ledger.look()
        over = gone or life in ("finished", "interrupted")
        if over and size < 0:
            return 0
        if size >= 0 and (over or size != synced):
            try:
                sync(folder, tracking_uri, final=life == "finished", track_models=track_models)
                synced, pause, said, num_failures = size, poll, "", 0
                if over and ledger.look()[0] == synced:
                    return 0
                continue
            except TrackingError as error:
                num_failures += 1
                pause = min(MAX_PAUSE, 2 * pause)
                if str(error) != said:
                    said = str(error)
                    print(f"tracking: {said}; trying again", file=sys.stderr, flush=True)
        if over and num_failures >= LAST_ATTEMPTS:
            return 1
        if over:
            time.sleep(poll)
        else:
            ended.wait(pause)


class _Ledger:
    """The ledger seen from outside; read only when it has grown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size, self.life = -1, ""

    def look(self) -> tuple[int, str]:
        """Size of the ledger (-1: no sweep yet) and the last event of the sweep's life."""
        path = self.folder / "events.jsonl"
        if not path.exists() or not (self.folder / "manifest.json").exists():
            return -1, ""
        size = path.stat().st_size
        if size != self.size:
            life = [e["event"] for e in read_events(self.folder) if e["event"] in LIFE]
            self.size, self.life = size, life[-1] if life else ""
        return self.size, self.life


def main(arguments: list[str] | None = None) -> int:
    """``python -m orchestrator.tracking DIR [--uri URI] [--follow]``: a sweep into MLflow."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.tracking", description=main.__doc__
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--uri", help="default: sqlite, DIR/mlflow.db")
    parser.add_argument("--follow", action="store_true", help="go on until the sweep ends")
    parser.add_argument("--models", choices=("front", "all", "none"), default="front")
    given = parser.parse_args(arguments)
    folder = given.folder
    uri = given.uri or default_uri(folder)
    try:
        if given.follow:
            return follow(folder, uri, track_models=given.models)
        size, life = _Ledger(folder).look()
        if size < 0:
            raise UserError(f"no sweep in {folder}: it has no events.jsonl")
        counts = sync(folder, uri, final=life == "finished", track_models=given.models)
    except UserError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 2
    except TrackingError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return 0


def default_uri(folder: Path) -> str:
    """The sweep's own database."""
    return f"sqlite:///{(folder / 'mlflow.db').absolute()}"
