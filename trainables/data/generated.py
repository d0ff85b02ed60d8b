"""The array of a data set that makes its images itself instead of naming files.

Such a source has ``VERSION`` (raised when a pixel changes) and ``images(config, table, progress)
-> uint8 NHWC`` for exactly the rows of ``table``, in their order.

Shape legend: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.data.array_file import open_array, write_array
from trainables.data.arrays import geometry
from trainables.data.base import DataConfig, DatasetSource, Progress, Table
from trainables.data.cache_folder import cache_failure, require_space
from trainables.errors import UserError

LISTS = {"further_attributes", "exclude", "keep", "duplicates"}
NOT_IN_PIXELS = {"attribute", "split", "limit", "malignant", "darken"} | LISTS
"""Fields that only say what is read off the images; the rows are in the key beside the others."""


def generated_array(
    source: Any,
    table: Table,
    config: DataConfig,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
) -> tuple[np.ndarray, str]:
    """The images of ``table`` in row order, from the cache where it has them.

    Returns:
        (read-only memory map NHWC of uint8, content digest).

    Raises:
        UserError: the source returned another shape or type, or the cache cannot be written.
    """
    key = _key(source, table.rows, config)
    shape = (len(table.rows), *geometry(config), 3)
    path = cache_dir / "arrays" / f"{key}.npy"
    try:
        array = open_array(path, shape)
        if array is None:
            require_space(cache_dir, shape)
            made_NHWC = source.images(config, table, progress)
            if made_NHWC.shape != shape or made_NHWC.dtype != np.uint8:
                raise UserError(
                    f"data set {source.name!r} made {made_NHWC.dtype} {made_NHWC.shape} images, "
                    f"uint8 {shape} are expected"
                )
            write_array(path, shape, [made_NHWC])
            array = open_array(path, shape)
    except OSError as error:
        raise cache_failure(cache_dir, error) from error
    if array is None:
        raise UserError(f"the image cache {path} is damaged right after writing: check the disk")
    return array, key


def makes_images(source: type[DatasetSource]) -> bool:
    """Whether the source makes its images itself."""
    return callable(getattr(source, "images", None))


def _key(source: Any, rows: pd.DataFrame, config: DataConfig) -> str:
    """Hash of what the pixels come from: source, version, dials and rows.

    Fractional columns are left out: they follow from the dials, and their last bits may differ
    between processors. The group is left out: the images must not depend on which attribute is
    read.
    """
    columns = sorted(
        column
        for column in rows
        if str(column).split(":")[0] != "group" and not pd.api.types.is_float_dtype(rows[column])
    )
    identity = {
        "source": source.name,
        "version": source.VERSION,
        "config": config.model_dump(mode="json", exclude=NOT_IN_PIXELS),
        "rows": {str(column): [str(value) for value in rows[column]] for column in columns},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
