"""``driver.json`` beside a stored ledger: who drives the sweep, renewed while it does.

A courtesy, so that a second start is refused at once and the first goes on; what makes two
drivers harmless is that every event can be created only once (`stored_ledger`). No clock of any
machine is trusted: a lease is alive if it changes while one looks.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from trainables.errors import UserError
from trainables.storage import Storage

RENEWED = 5.0
"""Seconds between two renewals."""
LAPSED = 25.0
"""Seconds without a renewal after which a driver is taken for dead."""


class DriverLease:
    """Held by at most one driver at a time, as long as its storage answers."""

    def __init__(
        self, storage: Storage, path: str, *, renewed: float = RENEWED, lapsed: float = LAPSED
    ) -> None:
        self.storage, self.path = storage, path
        self.token = uuid.uuid4().hex[:12]
        self._renewed, self._lapsed = renewed, lapsed
        self._num_renewals = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, say: Callable[[str], None] = lambda line: None) -> DriverLease:
        """Take it, waiting to see whether a former holder that did not give it back is alive.

        Raises:
            UserError: another driver is at work.
        """
        if not self.storage.put_if_absent(self.path, self._content()):
            self._wait_lapsed(say)
            self.storage.put(self.path, self._content())
        self._thread = threading.Thread(target=self._renew, name="driver-lease", daemon=True)
        self._thread.start()
        return self

    def _wait_lapsed(self, say: Callable[[str], None]) -> None:
        first = self._read()
        if first is None or _is_dead_here(first):
            return
        say(f"{self._holder(first)} did not end properly, or runs: looking for {self._lapsed:g} s")
        end = time.monotonic() + self._lapsed
        while time.monotonic() < end:
            time.sleep(min(1.0, self._renewed))
            seen = self._read()
            if seen is None:
                return
            if seen != first:
                raise UserError(
                    f"{self._holder(seen)} is at work on {self.storage.uri}: wait for it, or stop "
                    "it"
                )

    def _holder(self, lease: dict[str, Any]) -> str:
        return f"another `fatefront run` (host {lease['host']}, pid {lease['pid']})"

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.storage.read(self.path)))
        except (FileNotFoundError, ValueError):
            return None

    def _content(self) -> bytes:
        own = {
            "driver": self.token,
            "renewal": self._num_renewals,
            "host": platform.node(),
            "pid": os.getpid(),
            "machine": _machine(),
        }
        return json.dumps(own).encode()

    def _renew(self) -> None:
        while not self._ended.wait(self._renewed):
            self._num_renewals += 1
            try:
                self.storage.put(self.path, self._content())
            except OSError:  # the next event says what is wrong with the storage
                continue

    def give_back(self) -> None:
        """Stop renewing it, and remove it unless it has gone to somebody else."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(30)
            try:
                lease = self._read()
                if lease is not None and lease["driver"] == self.token:
                    self.storage.remove(self.path)
            except OSError:
                return


def _machine() -> str:
    """This boot of this machine and its space of process numbers; "" where they are not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead_here(lease: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if not lease["machine"] or lease["machine"] != _machine():
        return False
    try:
        return psutil.Process(lease["pid"]).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
