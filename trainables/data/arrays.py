"""All images of a table as one uint8 array, decoded once and kept under a key of its content.

Shape legend: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from trainables.data.array_file import open_array, write_array
from trainables.data.base import DataConfig, Progress, Table
from trainables.data.cache_folder import cache_failure, require_space
from trainables.data.content_index import (
    MAX_IMAGE_BYTES,
    MISSING,
    file_digests,
    forget_digests,
    read_failure,
)
from trainables.data.decode import DECODER_VERSION, DecodeError, decode_image, quiet_pillow
from trainables.errors import UserError
from trainables.plain_file import read_plain

BLOCK = 256  # images held in memory between decoding and writing
CHANGED = "changed while it was being read (run again)"
NUM_NAMED = 20  # unusable images named in the error; the rest is counted


def geometry(config: DataConfig) -> tuple[int, int]:
    """(height, width) of the array, in pixels."""
    return config.image_size, round(config.image_size * config.aspect)


def build_array(
    table: Table,
    config: DataConfig,
    *,
    cache_dir: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, str]:
    """The decoded images of ``table`` in row order, from the cache where it has them.

    The key is a hash of the decoder's version, the geometry and each image's SHA-256 in row order;
    it is the same on every host. A damaged cache file is built anew. ``progress`` is called only
    while images are decoded.

    Returns:
        (read-only memory map NHWC of uint8, content digest).

    Raises:
        UserError: images missing or unusable (all in one message), or the cache cannot be written.
    """
    workers = workers or min(32, available_cores())
    names, read = _readers(table)
    try:
        digests, problems = _digests(table, cache_dir, workers)
        height, width = geometry(config)
        identity = [DECODER_VERSION, height, width, *digests]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        shape = (len(names), height, width, 3)
        path = cache_dir / "arrays" / f"{key}.npy"
        array = None if problems else open_array(path, shape)
        if array is None:
            require_space(cache_dir, shape)
            blocks = _decode(read, digests, problems, shape, workers, progress)
            try:
                with quiet_pillow():
                    if problems:  # the other images are decoded all the same, to name all at once
                        for _ in blocks:
                            pass
                    else:
                        write_array(path, shape, _until_a_problem(blocks, names, problems))
                _refuse(names, problems, config)
            finally:
                if CHANGED in problems.values():
                    forget_digests(names, cache_dir)
            array = open_array(path, shape)
    except OSError as error:
        raise cache_failure(cache_dir, error) from error
    if array is None:
        raise UserError(f"the image cache {path} is damaged right after writing: check the disk")
    return array, key


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _readers(table: Table) -> tuple[list[str], list[Callable[[], bytes]]]:
    """For each row the name to report and the function that returns its bytes."""
    rows = table.rows
    if "bytes" in rows:
        contents = [bytes(content) for content in rows["bytes"]]
        names = [str(image_id) for image_id in rows["image_id"]]
        return names, [lambda content=content: content for content in contents]  # type: ignore[misc]
    paths = [str(path) for path in rows["path"]]
    return paths, [partial(read_plain, Path(path), MAX_IMAGE_BYTES) for path in paths]


def _digests(
    table: Table, cache_dir: Path, workers: int
) -> tuple[list[str | None], dict[int, str]]:
    if "bytes" in table.rows:
        return [hashlib.sha256(content).hexdigest() for content in table.rows["bytes"]], {}
    return file_digests([str(path) for path in table.rows["path"]], cache_dir, workers)


def _decode(
    read: Sequence[Callable[[], bytes]],
    digests: Sequence[str | None],
    problems: dict[int, str],
    shape: tuple[int, ...],
    workers: int,
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """Blocks of decoded rows in order; rows that fail are noted in ``problems`` and left zero.

    Threads are enough: Pillow and hashlib work outside the interpreter's lock.
    """
    num_images, height, width, _ = shape

    def one(row: int, target_HWC: np.ndarray) -> None:
        if row in problems:
            return
        try:
            data = read[row]()
            if hashlib.sha256(data).hexdigest() != digests[row]:
                problems[row] = CHANGED
                return
            target_HWC[:] = decode_image(data, height, width)
        except OSError as error:
            problems[row] = read_failure(error)
        except DecodeError as error:
            problems[row] = str(error)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, num_images, BLOCK):
            stop = min(start + BLOCK, num_images)
            block = np.zeros((stop - start, *shape[1:]), dtype=np.uint8)
            for done, _ in enumerate(pool.map(one, range(start, stop), block), start + 1):
                if progress is not None:
                    progress(done, num_images)
            yield block


def _until_a_problem(
    blocks: Iterator[np.ndarray], names: Sequence[str], problems: dict[int, str]
) -> Iterator[np.ndarray]:
    """Pass blocks on; from the first unusable image on only look for others, then refuse."""
    for block in blocks:
        if problems:
            for _ in blocks:
                pass
            _refuse(names, problems)
        yield block


def _refuse(
    names: Sequence[str], problems: dict[int, str], config: DataConfig | None = None
) -> None:
    """Name the unusable images; with ``config`` also the option that leaves missing ones out."""
    if not problems:
        return
    shown = [f"{names[row]}: {problems[row]}" for row in sorted(problems)[:NUM_NAMED]]
    if len(problems) > NUM_NAMED:
        shown.append(f"and {len(problems) - NUM_NAMED} more")
    if MISSING in problems.values() and hasattr(config, "missing_images"):
        shown.append("to leave missing ones out: data.missing_images=skip")
    raise UserError(f"{len(problems)} of {len(names)} images cannot be used: {'; '.join(shown)}")
