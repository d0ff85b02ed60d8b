"""A sweep's ledger in its store: every event once, as an object that is never written again.

It is what a new head goes on from when the folder of the sweep is gone with the old one. And it
is the driver's lock: event number n can be created once, so of two drivers one is refused at its
next event, whatever their clocks and networks do. `DriverLease` refuses most of them sooner.
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.ledger.driver_lease import DriverLease
from orchestrator.ledger.records import Ledger, event_line
from trainables.errors import UserError
from trainables.storage import Storage, write_whole
from trainables.store import Store


def is_outside(store: Store, folder: Path) -> bool:
    """Whether a store outlives the sweep's folder, so that the ledger is kept there too."""
    return not store.is_local or not Path(store.root).resolve().is_relative_to(folder.resolve())


@contextlib.contextmanager
def open_ledger(
    folder: Path, store: Store, say: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Ledger, StoredLedger | None]]:
    """The ledger of a folder, open for appending by this process alone, with what its store has
    beyond it; None where the store lies in the folder.

    Raises:
        UserError: another driver is at work, or the store holds another sweep or history.
    """
    ledger = Ledger(folder).open()
    try:
        if not is_outside(store, folder):
            yield ledger, None
            return
        stored = StoredLedger(store.storage, folder)
        lease = DriverLease(store.storage, f"{stored.folder}/driver.json").take(say)
        try:
            if num_new := stored.restore(ledger):
                say(f"{stored.place}: {num_new} events of this sweep taken over")
            yield ledger, stored
        finally:
            lease.give_back()
    finally:
        ledger.close()


class StoredLedger:
    """``STORE/sweeps/<name of the sweep's folder>/``: ``manifest.json`` and ``events/``."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage, self.sweep_folder = storage, folder
        name = urllib.parse.quote(folder.resolve().name, safe=" ")
        self.folder = f"{storage.root}/sweeps/{name}"
        self.place = f"{storage.uri.rstrip('/')}/sweeps/{name}"

    def restore(self, ledger: Ledger) -> int:
        """Bring the ledger of the folder up to the stored one; returns the number of new events.

        Raises:
            UserError: the folder holds another sweep or another history, or events are missing.
        """
        self._restore_manifest(ledger)
        stored = self._sizes()
        common = min(len(ledger.events), len(stored))
        for seq, event in enumerate(ledger.events[:common]):
            if len(event_line(event)) != stored[seq]:
                raise self._other(seq)
        # a line carries its time and number, and its driver put it after all before it
        last = [common - 1] if common else []
        paths = [self._event(seq) for seq in (*last, *range(common, len(stored)))]
        contents = self.storage.read_all(paths)
        if last and contents[0] != event_line(ledger.events[common - 1]):
            raise self._other(common - 1)
        ledger.extend(contents[len(last) :])
        return len(stored) - common

    def _sizes(self) -> list[int]:
        """Bytes of every stored event, by number."""
        found = self.storage.sizes(f"{self.folder}/events")
        by_name = {path.rpartition("/")[2]: size for path, size in found.items()}
        names = sorted(name for name in by_name if not name.startswith("."))
        if names != [f"{seq:08d}.json" for seq in range(len(names))]:
            raise UserError(f"{self.place}/events: events are missing; it was edited or damaged")
        return [by_name[name] for name in names]

    def _restore_manifest(self, ledger: Ledger) -> None:
        theirs = self._manifest()
        path = ledger.folder / "manifest.json"
        if theirs is None:
            return
        if not path.exists():
            if ledger.events:
                raise UserError(f"{ledger.folder}: events.jsonl without manifest.json")
            write_whole(path, json.dumps(theirs, indent=1).encode())
        elif (ours := json.loads(path.read_text()))["sweep_id"] != theirs["sweep_id"]:
            raise UserError(
                f"{self.place} holds another sweep ({theirs['sweep']}, {theirs['sweep_id']}) than "
                f"{ledger.folder} ({ours['sweep']}, {ours['sweep_id']}): choose another --out or "
                "--store"
            )

    def _manifest(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.storage.read(f"{self.folder}/manifest.json")))
        except FileNotFoundError:
            return None

    def mirror(self, ledger: Ledger, manifest: dict[str, Any]) -> None:
        """Put what is in the folder alone, and from now on every event before the folder has it.

        Raises:
            UserError: another driver was first.
        """
        content = json.dumps(manifest, indent=1).encode()
        if not self.storage.put_if_absent(f"{self.folder}/manifest.json", content):
            self._restore_manifest(ledger)
        for event in ledger.events[len(self._sizes()) :]:
            self.put(event["seq"], event_line(event))
        ledger.mirror(self.put)

    def put(self, seq: int, line: bytes) -> None:
        """Create one event.

        Raises:
            UserError: another driver has created it.
        """
        if not self.storage.put_if_absent(self._event(seq), line):
            raise self._other(seq)

    def keep(self, *names: str) -> None:
        """Put files of the folder beside the events, over older ones: what a person reads."""
        for name in names:
            path = self.sweep_folder / name
            if path.exists():
                self.storage.put(f"{self.folder}/{name}", path.read_bytes())

    def _event(self, seq: int) -> str:
        return f"{self.folder}/events/{seq:08d}.json"

    def _other(self, seq: int) -> UserError:
        return UserError(
            f"{self.place} holds another event {seq} than {self.sweep_folder}: another driver is "
            "at work, or has been since (then go on with an empty --out of the same name)"
        )
