"""Processes of a sweep that outlived their driver, known by notes in its folder."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import psutil


def enlist(folder: Path, pid: int | None = None) -> None:
    """Leave a note of a process (this one) beside the ledger (one machine only), so that a later
    start can end it.
    """
    if folder.is_dir():
        notes = folder / ".workers"
        notes.mkdir(exist_ok=True)
        process = psutil.Process(pid)
        note = {"host": platform.node(), "pid": process.pid, "created": started(process)}
        (notes / f"{process.pid}.json").write_text(json.dumps(note))


def started(process: psutil.Process) -> str:
    """When a process began: its boot, and clock ticks since then (proc(5)).

    psutil's ``create_time`` moves with the machine's clock: after a jump a process would be taken
    for another one that has its number.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(process.pid) from None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # the name, in parentheses, may hold blanks; what follows it begins with the third field
    return f"{boot} {stat.rpartition(')')[2].split()[19]}"


def end_leftovers(folder: Path) -> int:
    """End the worker processes of a former start that outlived their driver; returns how many
    there were.

    What they finished before is in the store and is found there; what they would still write can
    no longer race with us.
    """
    found = []
    for path in sorted((folder / ".workers").glob("*.json")):
        try:
            note = json.loads(path.read_text())
        except json.JSONDecodeError:  # it was killed while it wrote this
            note = {"host": None}
        path.unlink()
        if note["host"] != platform.node() or not psutil.pid_exists(note["pid"]):
            continue
        try:
            process = psutil.Process(note["pid"])
            if started(process) == note["created"] and _runs(process):
                process.kill()
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    _wait_ended(found, seconds=10)
    return len(found)


def _wait_ended(processes: list[psutil.Process], seconds: float) -> None:
    """Until none of them runs; a zombie has ended, and may stay one for ever where the first
    process of a container collects no orphans (``psutil.wait_procs`` would wait for it).
    """
    end = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < end:
        left = [process for process in left if _runs(process)]
        time.sleep(0.02 if left else 0)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
