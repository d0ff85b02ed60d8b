"""A ledger that somebody else writes, read as it grows: in a sweep's folder, or in its store.

Nothing is written and nothing is locked out, so that any number may read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from orchestrator.ledger.driver_lease import LAPSED
from orchestrator.ledger.manifest import nearest_sweep, read_manifest, read_sweep
from orchestrator.ledger.records import is_running
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.specs import validate
from trainables.storage import Storage, StorageError, reason

PATIENCE = 20.0
"""Seconds for which a store that does not answer is asked again."""


class LedgerSource(Protocol):
    """Where a sweep's ledger is read; ``pause``: seconds between two looks."""

    place: str
    pause: float

    def spec(self) -> SweepSpec:
        """The sweep as it was last started."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What the sweep is about."""
        ...

    def new_events(self) -> Sequence[dict[str, Any]]:
        """Events since the last call, oldest first."""
        ...

    def is_alive(self) -> bool:
        """Whether a driver seems to be at work."""
        ...


class FolderSource:
    """``events.jsonl`` of a folder, from where the last look ended."""

    pause = 1.0

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)
        self._read = 0

    def spec(self) -> SweepSpec:
        """Of ``sweep.yaml``."""
        return read_sweep(self.folder)

    def manifest(self) -> dict[str, Any]:
        """Of ``manifest.json``."""
        return read_manifest(self.folder)

    def new_events(self) -> Sequence[dict[str, Any]]:
        """Whole lines that were not there before; one being written comes with the next look."""
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [_event(line, self.place) for line in whole.splitlines()]

    def is_alive(self) -> bool:
        """Whether its lock is held, on this machine or where the file system tells."""
        return is_running(self.folder)


class StoreSource:
    """``STORE/sweeps/NAME`` of a shared folder or an object store: one object an event."""

    pause = 3.0

    def __init__(self, storage: Storage) -> None:
        self._storage, self.place = storage, storage.uri
        self._num_read = 0
        self._lease: bytes | None = None
        self._changed = time.monotonic()

    def spec(self) -> SweepSpec:
        """Of the copy that the driver keeps beside the events."""
        document = yaml.safe_load(self._file("sweep.yaml"))
        return validate(SweepSpec, document, place=f"{self.place}/sweep.yaml")

    def manifest(self) -> dict[str, Any]:
        """Of the copy beside the events."""
        return dict(json.loads(self._file("manifest.json")))

    def _file(self, name: str) -> bytes:
        try:
            return self._storage.read(f"{self._storage.root}/{name}")
        except FileNotFoundError:
            raise UserError(f"no sweep in {self.place}: it has no {name} (yet)") from None

    def new_events(self) -> Sequence[dict[str, Any]]:
        """Events whose numbers follow; many at once where one lists them for the first time."""
        folder = f"{self._storage.root}/events"
        if not self._num_read:
            names = {path.rpartition("/")[2] for path in self._storage.sizes(folder)}
            num = 0
            while f"{num:08d}.json" in names:
                num += 1
            paths = [f"{folder}/{seq:08d}.json" for seq in range(num)]
            lines = self._storage.read_all(paths)
        else:
            lines = []
            while (line := self._next(folder, self._num_read + len(lines))) is not None:
                lines.append(line)
        self._num_read += len(lines)
        return [_event(line, self.place) for line in lines]

    def _next(self, folder: str, seq: int) -> bytes | None:
        try:
            return self._storage.read(f"{folder}/{seq:08d}.json")
        except FileNotFoundError:
            return None

    def is_alive(self) -> bool:
        """Whether the driver's lease is there and was renewed while we looked."""
        try:
            lease = self._storage.read(f"{self._storage.root}/driver.json")
        except FileNotFoundError:
            return False
        if lease != self._lease:
            self._lease, self._changed = lease, time.monotonic()
        return time.monotonic() - self._changed < LAPSED


def open_source(where: str) -> LedgerSource:
    """The ledger at a folder of a sweep, or at ``STORE/sweeps/NAME``.

    Raises:
        UserError: there is no sweep; the nearest name of one is said.
    """
    if "://" not in where:
        folder = Path(where)
        if folder.is_file():
            raise UserError(f"DIR {where} is a file")
        if (folder / "manifest.json").exists() and not (folder / "events").is_dir():
            return FolderSource(folder)
        if not folder.is_dir():
            raise UserError(f"no sweep in {where}: no such folder{nearest_sweep(folder)}")
    storage = Storage(where.rstrip("/"), patience=PATIENCE)
    try:
        if storage.exists(f"{storage.root}/manifest.json"):
            return StoreSource(storage)
        found = storage.sizes(f"{storage.root}/sweeps")
    except StorageError as error:
        raise UserError(reason(error)) from None
    begins = f"{storage.root}/sweeps/"
    names = sorted(
        {path.removeprefix(begins).partition("/")[0] for path in found if path.startswith(begins)}
    )
    if names:
        place = f"{where.rstrip('/')}/sweeps"
        raise UserError(f"{where} is a store: watch one of {place}: {', '.join(names)}")
    raise UserError(f"no sweep in {where}: it has no manifest.json")


def _event(line: bytes, place: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise UserError(f"{place}: an event is not JSON; the ledger was edited or damaged")
    return event
