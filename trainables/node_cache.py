"""Files of nodes from an object store, kept on this machine up to a limit of bytes.

A file is named by its SHA-256, so a copy is never out of date, and several processes may use one
folder at once: copies appear whole, the one used longest ago goes first, and one that goes while
it is wanted is fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from pathlib import Path

from trainables.errors import UserError

LIMIT, FOLDER = "FATEFRONT_CACHE_GB", "FATEFRONT_CACHE"
DEFAULT_GB = 10.0


def cache_limit_gb() -> float:
    """The limit in GB: ``FATEFRONT_CACHE_GB``, else 10; 0 keeps nothing.

    Raises:
        UserError: not a number of at least 0.
    """
    given = os.environ.get(LIMIT) or DEFAULT_GB
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(f"{LIMIT} must be a number of GB, at least 0, but got {given!r}")
    return limit


def set_limit_gb(limit: float) -> None:
    """Set the limit for this process and those it starts.

    Raises:
        UserError: below 0 or not finite.
    """
    if not 0 <= limit < float("inf"):
        raise UserError(f"--cache-gb must be at least 0 but got {limit:g}")
    os.environ[LIMIT] = repr(limit)


class NodeCache:
    """Content by its SHA-256 in one folder, at most ``max_bytes`` in all."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    @classmethod
    def of_this_machine(cls) -> NodeCache | None:
        """The cache in ``FATEFRONT_CACHE`` (``~/.cache/fatefront``); None with a limit of 0."""
        limit = cache_limit_gb()
        place = Path(os.environ.get(FOLDER) or "~/.cache/fatefront").expanduser()
        return cls(place / "nodes", int(limit * 1e9)) if limit else None

    def get(self, sha256: str) -> bytes | None:
        """The content, checked; None where it is not kept."""
        path = self.folder / sha256
        try:
            data = path.read_bytes()
            os.utime(path)  # used now
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return data

    def put(self, sha256: str, data: bytes) -> None:
        """Keep content, and let go of what was used longest ago; a full or broken disk is no
        error, the store still has everything.
        """
        if len(data) > self.max_bytes:
            return
        draft = self.folder / f".{sha256[:16]}.{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._make_room(len(data))
                try:
                    draft.write_bytes(data)
                    draft.replace(self.folder / sha256)
                finally:
                    draft.unlink(missing_ok=True)
        except OSError:
            return

    def _make_room(self, num_bytes: int) -> None:
        """Under the lock. Drafts are of writers that were killed: who writes holds the lock."""
        kept = []
        for entry in os.scandir(self.folder):
            if entry.name == ".lock":
                continue
            if entry.name.startswith("."):
                os.unlink(entry.path)
                continue
            found = entry.stat()
            kept.append((found.st_mtime_ns, found.st_size, entry.path))
        room = self.max_bytes - num_bytes - sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if room >= 0:
                return
            with contextlib.suppress(FileNotFoundError):  # damaged, and removed by a reader
                os.unlink(path)
            room += size
