"""One uint8 array in one ``.npy`` file that knows when it is damaged.

After the array comes a trailer with the CRC-32 of its bytes, so that array and checksum appear
together in one ``os.replace``; ``numpy.load`` reads such a file too (it ignores what follows the
array).
"""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

TRAILER = b"fatefront-crc32:%08x"
TRAILER_SIZE = len(TRAILER % 0)
CHUNK = 1 << 24  # bytes checked at once
STALE_SECONDS = 24 * 3600.0


def write_array(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Write consecutive uint8 blocks of rows as one array; the file appears whole or not at all.

    Written sequentially, not through a memory map: a full disk is then an ``OSError`` and not a
    SIGBUS. Two writers of one path do not disturb each other: each has its own temporary file.

    Raises:
        ValueError: the blocks do not add up to ``shape``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            checksum, num_rows = 0, 0
            for block in blocks:
                if block.dtype != np.uint8 or block.shape[1:] != shape[1:]:
                    raise ValueError(f"a block is {block.dtype} {block.shape}, not uint8 {shape}")
                data = np.ascontiguousarray(block).data
                file.write(data)
                checksum = zlib.crc32(data, checksum)
                num_rows += len(block)
            if num_rows != shape[0]:
                raise ValueError(f"{num_rows} rows were written, {shape[0]} announced")
            file.write(TRAILER % checksum)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_array(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """Map the array read-only; None where the file is absent, damaged or of another shape."""
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                return None
            found, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            num_bytes = int(np.prod(found, dtype=np.int64))
            if found != shape or fortran_order or dtype != np.uint8:
                return None
            if file.seek(0, os.SEEK_END) != offset + num_bytes + TRAILER_SIZE:
                return None
            file.seek(offset + num_bytes)
            trailer = file.read(TRAILER_SIZE)
        array = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=shape)
    except (OSError, ValueError):
        return None
    return array if trailer == TRAILER % _checksum(array) else None


def _checksum(array: np.ndarray) -> int:
    flat = array.reshape(-1)
    checksum = 0
    for start in range(0, flat.size, CHUNK):
        checksum = zlib.crc32(flat[start : start + CHUNK].data, checksum)
    return checksum


def _remove_stale(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for leftover in folder.glob(".*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()
        except FileNotFoundError:  # another process was faster
            continue
