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
from pathlib import Path

import psutil

HEAD = "gcs_server"
"""The process that runs on a head, and on no other node."""
WATCH_SECONDS = 2.0
GRACE_SECONDS = 10.0


def run_beside(pid_file: Path, command: list[str], head: str = HEAD) -> int:
    """Start the command, wait until no head runs here, end the command and all it started.

    The one that a former call left is ended first. Returns 0, or the command's own exit code if
    it ended before Ray.
    """
    _end_former(pid_file)
    own = psutil.Process()
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(f"{own.pid} {own.create_time()}\n")
    server = subprocess.Popen(command)
    try:
        while _runs(head):
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
        _, processes = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
        if not processes:
            return


def _end_former(pid_file: Path) -> None:
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        pid, created = pid_file.read_text().split()
        former = psutil.Process(int(pid))
        if abs(former.create_time() - float(created)) < 1 and former.pid != os.getpid():
            end_tree(former.pid)


def _runs(name: str) -> bool:
    """Whether a process of that name (as the kernel has it) is there and no zombie."""
    return any(
        process.info["name"] == name and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["name", "status"])
    )


if __name__ == "__main__":
    sys.exit(run_beside(Path(sys.argv[1]).expanduser(), sys.argv[2:]))
