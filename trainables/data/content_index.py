"""SHA-256 of image files, remembered by (path, size, times) so that no start reads them again."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainables.plain_file import check_plain, read_plain

MAX_IMAGE_BYTES = 512 << 20
SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was read is not remembered: it could change once more
within the resolution of its time stamp and look the same (git knows this as a racy timestamp)."""

MISSING = "missing"
"""Why a file that is not there cannot be read."""

Stamp = tuple[int, int, int]


def file_digests(
    paths: Sequence[str], cache_dir: Path, workers: int
) -> tuple[list[str | None], dict[int, str]]:
    """SHA-256 of each file's bytes, and why it could not be read for those that could not.

    The index is a JSON file per common folder in ``cache_dir``. It is replaced as a whole, so two
    processes can at worst lose each other's additions, which costs reading those files once more.

    Returns:
        (digests in order, None for unreadable files; {position: reason}).
    """
    index_path = _index_path(paths, cache_dir)
    index = _load(index_path)
    fresh: dict[str, list[object]] = {}

    def digest(path: str) -> tuple[str | None, str]:
        absolute = os.path.abspath(path)
        try:
            check_plain(absolute)
            stamp = _stamp(absolute)
            known = index.get(absolute)
            if known is not None and tuple(known[:3]) == stamp:
                return str(known[3]), ""
            found = hashlib.sha256(read_plain(Path(absolute), MAX_IMAGE_BYTES)).hexdigest()
            settled = time.time_ns() - max(stamp[1], stamp[2]) > SETTLED_NS
            if settled and _stamp(absolute) == stamp:
                fresh[absolute] = [*stamp, found]
            return found, ""
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            return None, read_failure(error)

    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(digest, paths))
    if fresh:
        _save(index_path, {**index, **fresh})
    problems = {row: reason for row, (found, reason) in enumerate(answers) if found is None}
    return [found for found, _ in answers], problems


def forget_digests(paths: Sequence[str], cache_dir: Path) -> None:
    """Drop the index of these files, so that the next start reads them."""
    _index_path(paths, cache_dir).unlink(missing_ok=True)


def read_failure(error: OSError | ValueError) -> str:
    """Say in words why a file cannot be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MISSING
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _stamp(path: str) -> Stamp:
    found = os.stat(path)
    # The time of the last status change sees a file replaced under a restored modification time.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _index_path(paths: Sequence[str], cache_dir: Path) -> Path:
    absolute = [os.path.dirname(os.path.abspath(path)) for path in paths]
    folder = os.path.commonpath(absolute)
    return cache_dir / "index" / f"{hashlib.sha256(folder.encode()).hexdigest()[:32]}.json"


def _load(path: Path) -> dict[str, list[object]]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or damaged: everything is read again
        return {}
    return index if isinstance(index, dict) else {}


def _save(path: Path, index: dict[str, list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(index), encoding="utf-8")
    os.replace(temporary, path)
