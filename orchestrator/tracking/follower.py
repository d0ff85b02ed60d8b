"""The tracking process as its driver starts, awaits and stops it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GRACE = 120.0
"""Seconds to wait for the tracking process when the sweep is done; it can be run again at any
time.
"""


class Follower:
    """The tracking process: tails the events, writes MLflow; the sweep does not wait for it."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def started(self) -> bool:
        """Whether it was needed."""
        return self.process is not None

    def start(self) -> None:
        """Start it, once."""
        if self.uri != "none" and self.process is None:
            self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        log = (self.folder / "tracking.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "orchestrator.tracking",
            str(self.folder),
            "--uri",
            self.uri,
            "--follow",
        ]
        # a session of its own: Ctrl-C is for the driver, which then tells the follower to finish
        with log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def finish(self) -> str:
        """Wait until MLflow has everything; says ``done``, ``off`` or what went wrong.

        A process that was killed by someone else has a successor: what it wrote is found again.
        """
        if self.process is None:
            return "off"
        try:
            code = self.process.wait(GRACE)
            if code < 0:
                self.process = self._started()
                code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return f"still writing, see {self.folder}/tracking.log"
        return (
            "done"
            if code == 0
            else f"incomplete, see {self.folder}/tracking.log; run again to complete it"
        )

    def stop(self) -> None:
        """The driver is going: let the follower write what is there and leave."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
