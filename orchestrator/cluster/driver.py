"""The driver of a Ray job: ``fatefront run``, started again when it was killed.

``python -m orchestrator.cluster.driver run SPACE ...``; for the head's shell, not for people.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.cluster.description import option
from orchestrator.ledger.records import read_events

RESTARTS = 3
"""Starts in a row that finish no trial, before it is given up."""
PAUSE = 5.0
OURS = 1


def keep_driving(
    arguments: Sequence[str],
    folder: Path,
    pause: float = PAUSE,
    say: Callable[[str], None] = print,
) -> int:
    """Run the command line until it ends by itself; returns its exit code.

    A driver that was killed (memory, an operator, a bug of native code), or that ended with our
    own fault before its sweep was finished, is started again: the same command resumes. A user's
    mistake (2) and a sweep that stopped by itself are not.
    """
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)  # the job is stopped: the driver gets the signal, too
    useless = 0
    while True:
        done = _num_done(folder)
        code = subprocess.call([sys.executable, "-m", "orchestrator", *arguments])
        if stopping:
            return 128 + signal.SIGTERM
        if not _crashed(code, folder):
            return code
        useless = 0 if _num_done(folder) > done else useless + 1
        if useless > RESTARTS:
            say(f"driver: ended with {code} {useless} times without finishing a trial; given up")
            return code if code > 0 else OURS
        say(f"driver: ended with {code}, started again")
        time.sleep(pause)


def _crashed(code: int, folder: Path) -> bool:
    """Killed by a signal, or our fault before the ledger says that the sweep ended."""
    if code < 0 or code > 128 + 2:  # 130 is Ctrl-C
        return True
    if code != OURS:
        return False
    events = list(read_events(folder)) if folder.is_dir() else []
    return not events or events[-1]["event"] != "finished"


def _num_done(folder: Path) -> int:
    events = list(read_events(folder)) if folder.is_dir() else []
    return sum(event["event"] == "done" for event in events)


if __name__ == "__main__":
    import shlex

    given = sys.argv[1:]
    sys.exit(keep_driving(given, Path(option(shlex.join(given), "--out") or ".")))
