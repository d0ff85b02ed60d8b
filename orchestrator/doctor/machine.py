"""Ports, shared memory, memory, and the limit on open files."""

from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from orchestrator.doctor.finding import Finding, fail, ok, warn

SHM = Path("/dev/shm")
RAY_BYTES = 200 << 20
"""Of Ray's object store beside the images (orchestrator/running/ray_session.py)."""
OVERHEAD = 1.3
USUAL_BYTES = 1 << 30
FILES_LEAST, FILES_GOOD = 1024, 4096
PORTS = {5000: "`fatefront server`", 8265: "`ray dashboard`"}


def check_ports(ports: dict[int, str] | None = None) -> Iterator[Finding]:
    """That this process may connect to itself, and whether the usual ports are free."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        yield fail(
            "ports", f"nothing can connect to 127.0.0.1: {error.strerror or error}",
            "bring the loopback interface up (`ip link set lo up`), or open it in the firewall",
        )  # fmt: skip
        return
    taken = [(port, user) for port, user in (ports or PORTS).items() if _is_taken(port)]
    for port, user in taken:
        yield warn(
            "ports", f"port {port} is taken ({user} would want it)",
            "sweeps do not need it; give that command another --port",
        )  # fmt: skip
    if not taken:
        yield ok("ports", "loopback works; 5000 and 8265 are free")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_shared_memory(image_bytes: int | None, shm: Path = SHM) -> Finding:
    """Room for the images in Ray's object store; ``image_bytes`` None: a usual set's."""
    needed = USUAL_BYTES if image_bytes is None else int(image_bytes * OVERHEAD) + RAY_BYTES
    try:
        free = shutil.disk_usage(shm).free
    except OSError:
        return warn("shared memory", f"{shm} is not there: Ray uses /tmp, which is slower",
                    "mount a tmpfs there")  # fmt: skip
    what = f"{free / 1e9:.1f} GB free in {shm}, {needed / 1e9:.1f} GB wanted"
    if free < needed:
        return warn(
            "shared memory", f"{what}: Ray uses /tmp instead, which is slower",
            f"docker run --shm-size={needed / 1e9 + 1:.0f}g, or `mount -o remount,size=...` {shm}",
        )  # fmt: skip
    return ok("shared memory", what)


def check_memory(image_bytes: int | None) -> Finding:
    """Room for the images and a process of PyTorch for each trial."""
    available = psutil.virtual_memory().available
    needed = 2 * 10**9 + (image_bytes or 0)
    text = f"{available / 1e9:.1f} GB of memory available"
    if available < needed:
        return warn("memory", f"{text}, {needed / 1e9:.1f} GB wanted",
                    "fewer --workers, a smaller data.image_size; end other programs")  # fmt: skip
    return ok("memory", text)


def check_open_files(limits: tuple[int, int] | None = None) -> Finding:
    """Ray and its workers hold many sockets and files open."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    can = "" if hard == resource.RLIM_INFINITY or hard >= FILES_GOOD else " (root: `ulimit -Hn`)"
    text = f"a process may open {soft} files"
    if soft < FILES_LEAST:
        return fail("open files", text, f"ulimit -n {FILES_GOOD}{can}")
    if soft < FILES_GOOD:
        return warn("open files", f"{text}: few where many trials run at once",
                    f"ulimit -n {FILES_GOOD}{can}")  # fmt: skip
    return ok("open files", text)
