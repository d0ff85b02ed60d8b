"""A file system of its own that is as full as one likes."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    """A tmpfs of so many megabytes; needs root."""
    folder.mkdir()
    size = f"size={int(megabytes * MEGABYTE)}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """Leave so many bytes."""
    state = os.statvfs(folder)
    path = folder / "filling"
    with path.open("wb") as file:
        free = state.f_bavail * state.f_frsize - left
        while free > 0:
            free -= file.write(b"\0" * min(free, MEGABYTE))
    return path
