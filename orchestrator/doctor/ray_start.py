"""Whether Ray starts on this machine, runs a task, and listens on loopback alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from orchestrator.doctor.finding import Finding, fail, ok, warn

PATIENCE = 120
PROGRAM = "orchestrator.doctor.ray_probe"


def check_ray() -> list[Finding]:
    """In a process of its own, which is gone afterwards with all it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        _end(process)
        return [
            fail("ray", f"Ray did not start in {PATIENCE} s",
                 "free memory and cores; look into /tmp/ray/session_latest/logs")
        ]  # fmt: skip
    return [*read_answer(process.returncode, out, err), *_another_cluster()]


def read_answer(code: int, out: str, err: str) -> list[Finding]:
    """What the probe said."""
    lines = out.strip().splitlines()
    if code != 0 or not lines:
        said = (err.strip().splitlines() or ["no word"])[-1]
        return [
            fail("ray", f"Ray does not start: {said[:200]}",
                 "look into /tmp/ray/session_latest/logs; is /tmp/ray another user's, or full?")
        ]  # fmt: skip
    answer = json.loads(lines[-1])
    outside = [place for place in answer["listening"] if not is_loopback(place)]
    if outside:
        return [
            warn("ray", f"Ray listens beyond this machine: {', '.join(outside[:3])}",
                 "unset RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, or keep a firewall before it")
        ]  # fmt: skip
    num, seconds = len(answer["listening"]), answer["seconds"]
    return [ok("ray", f"Ray started in {seconds:.0f} s, {num} ports, all on loopback")]


def is_loopback(place: str) -> bool:
    """Whether ``ADDRESS:PORT`` can be reached from this machine alone."""
    address = place.rpartition(":")[0]
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _another_cluster() -> list[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return []
    return [
        warn("ray", f"RAY_ADDRESS names a cluster ({address}), which `run` does not use by itself",
             "--address auto uses it; unset RAY_ADDRESS otherwise")
    ]  # fmt: skip


def _end(process: subprocess.Popen[str]) -> None:
    """The probe and all that it started."""
    import psutil

    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.kill()
    process.communicate()
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
