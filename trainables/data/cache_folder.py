"""Whether the folder of the array cache can be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from trainables.errors import DiskFull, UserError, room_missing


def require_space(cache_dir: Path, shape: tuple[int, ...]) -> None:
    """Refuse, before decoding, to fill the disk."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    need, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(cache_dir).free
    if need > free:
        raise UserError(
            f"the image cache needs {need / 1e9:.2f} GB but {cache_dir} has {free / 1e9:.2f} "
            "GB free (set FATEFRONT_CACHE to another folder, or a smaller data.image_size)"
        )


def cache_failure(cache_dir: Path, error: OSError) -> UserError | DiskFull:
    """The error of a cache folder that cannot be used."""
    reason = error.strerror or str(error)
    if room_missing(error) is not None:
        return DiskFull(f"{reason}: the image cache {cache_dir} (or set FATEFRONT_CACHE)")
    return UserError(f"cannot write the image cache {cache_dir}: {reason} (set FATEFRONT_CACHE)")
