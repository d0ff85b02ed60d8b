"""Runs a server beside Ray's head: it starts with it and ends with it.

``python -m orchestrator.cluster.beside_ray PIDFILE COMMAND...``, for the head's start commands.
`ray down` and `ray stop` know only Ray's own processes; on machines of one's own anything else
would be left running.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from orchestrator.running.leftovers import started

HEAD = "gcs_server"
"""The process that runs on a head, and on no other node."""
WATCH_SECONDS = 2.0
GRACE_SECONDS = 10.0


def run_beside(pid_file: Path, command: list[str], head: str = HEAD) -> int:
    """Start the command, wait until no head runs here, end the command and all it started.

    The one that a former call left is ended first. Returns 0, or the command's own exit code if
    it ended before Ray.
    """
    end_former(pid_file)
    note_own(pid_file)
    server = subprocess.Popen(command)
    try:
        while runs(head):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return server.wait(WATCH_SECONDS)
        return 0
    finally:
        end_tree(server.pid)
        pid_file.unlink(missing_ok=True)


def end_tree(pid: int) -> None:
    """End a process and all below it: asked first, then made to."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for action in ("terminate", "kill"):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, action)()
        end = time.monotonic() + GRACE_SECONDS
        while processes and time.monotonic() < end:
            processes = [process for process in processes if not has_ended(process)]
            time.sleep(0.05 if processes else 0)


def has_ended(process: psutil.Process) -> bool:
    """Gone, or a zombie: where nobody collects orphans it may stay one for ever."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def note_own(pid_file: Path) -> None:
    """Leave word of this process for ``end_former``."""
    own = psutil.Process()
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(f"{own.pid} {started(own)}\n")


def end_former(pid_file: Path) -> None:
    """End the process that left word there, and all below it, if it is still the same one."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        pid, _, created = pid_file.read_text().strip().partition(" ")
        former = psutil.Process(int(pid))
        if started(former) == created and former.pid != os.getpid():
            end_tree(former.pid)


def runs(name: str) -> bool:
    """Whether a process of that name (as the kernel has it) is there and no zombie."""
    return any(
        process.info["name"] == name and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["name", "status"])
    )


if __name__ == "__main__":
    sys.exit(run_beside(Path(sys.argv[1]).expanduser(), sys.argv[2:]))
