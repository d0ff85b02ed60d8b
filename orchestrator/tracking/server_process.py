"""Servers as processes: started, waited for, and ended with everything that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from trainables.errors import UserError

START_SECONDS = 180.0
END_SECONDS = 15.0


@dataclass
class Server:
    """One server in a session of its own; use ``until_interrupted``."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    health: str  # an address that answers 200 once it is up
    log: Path
    process: subprocess.Popen[bytes] | None = None
    seen: dict[int, psutil.Process] = field(default_factory=dict)

    def start(self) -> None:
        """Start it; what it says goes to its log."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                list(self.command), env=dict(self.environment), stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            UserError: it ended, or did not answer in ``START_SECONDS``.
        """
        address = self.health.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.has_ended:
                raise UserError(f"{self.name} did not start: {self._last_line()} ({self.log})")
            with (
                contextlib.suppress(OSError),  # URLError is one
                urllib.request.urlopen(address, timeout=5) as answer,
            ):
                if answer.status == 200:
                    return
            time.sleep(0.3)
        raise UserError(f"{self.name} did not answer in {START_SECONDS:g} s (see {self.log})")

    @property
    def has_ended(self) -> bool:
        """Whether it is no longer there."""
        return self.process is None or self.process.poll() is not None

    def check(self) -> None:
        """Note what runs below it now: some of MLflow's processes make sessions of their own.

        Raises:
            UserError: it has ended by itself.
        """
        self.look()
        if self.has_ended:
            raise UserError(f"{self.name} ended by itself: {self._last_line()} ({self.log})")

    def look(self) -> None:
        """Note what runs below it now."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.seen.setdefault(child.pid, child)

    def end(self) -> None:
        """Ask first, then make sure; nothing that it started is left."""
        if self.process is None:
            return
        self.look()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        left = [child for child in self.seen.values() if child.is_running()]
        _, left = psutil.wait_procs(left, timeout=3)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _last_line(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "no reason given")[:300]


def until_interrupted(servers: Sequence[Server], ready: Callable[[], None]) -> None:
    """Start servers, call ``ready`` once all of them answer, and wait for Ctrl-C or SIGTERM; then
    end them all, whatever happened.

    Raises:
        UserError: one did not come up, or ended by itself; the reason is in its log.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_ready()
        ready()
        while True:
            for server in servers:
                server.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers:
            server.end()
        signal.signal(signal.SIGTERM, before)
