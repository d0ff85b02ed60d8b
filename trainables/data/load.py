"""From a data config to images, labels, groups and splits in memory.

Shape legend: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from trainables.data.arrays import build_array
from trainables.data.base import (
    UNKNOWN_GROUP,
    DataConfig,
    Dataset,
    FurtherAttribute,
    Progress,
    Table,
)
from trainables.data.check_table import checked_table
from trainables.data.comparable import comparability_warnings, split_counts
from trainables.data.darken import darken_warnings, melanin_of
from trainables.data.darkened_array import darkened_array
from trainables.data.generated import generated_array, makes_images
from trainables.data.image_lists import with_lists
from trainables.data.limit import limited_rows
from trainables.data.parse import nearest, parse_data
from trainables.data.splits import (
    assign_splits,
    check_no_leak,
    splits_of_column,
)
from trainables.errors import UserError
from trainables.registry import datasets

__all__ = ["default_cache_dir", "load_dataset", "parse_data"]


def default_cache_dir() -> Path:
    """Where decoded arrays are kept: ``FATEFRONT_CACHE``, else ``~/.cache/fatefront``."""
    return Path(os.environ.get("FATEFRONT_CACHE") or "~/.cache/fatefront").expanduser()


def load_dataset(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """Read the table, choose rows, split, and decode each image once.

    Rows are put in the order of their image ids, so the order of the table's lines changes
    nothing. ``limit`` keeps whole patients and every class (see ``trainables.data.limit``) and
    comes before splitting. Rows of unknown group stay: only what reads the group leaves them out.

    Args:
        config: which data set, where, and how it is split.
        cache_dir: folder of the array cache; ``default_cache_dir()`` if not given.
        progress: called while images are decoded, not when the cache has them.

    Raises:
        UserError: anything wrong with files, table, config or splits, before any training.
    """
    cache_dir = cache_dir or default_cache_dir()
    source = datasets.get(config.name)
    table, split_N, split_warnings = load_rows(config)
    melanin_N = None if config.darken is None else melanin_of(table.rows, config.name)
    if makes_images(source):
        images_NHWC, content = generated_array(
            source, table, config, cache_dir=cache_dir, progress=progress
        )
    else:
        images_NHWC, content = build_array(table, config, cache_dir=cache_dir, progress=progress)
    if melanin_N is not None:
        images_NHWC, content = darkened_array(
            images_NHWC, content, melanin_N, cache_dir=cache_dir
        )
    class_number = {name: number for number, name in enumerate(table.classes)}
    label_N = np.array([class_number[name] for name in table.rows["label"]], dtype=np.int64)
    group_N = _numbered(table.rows["group"], table.groups)
    further = {
        name: FurtherAttribute(
            table.further_groups[name],
            _numbered(table.rows[f"group:{name}"], table.further_groups[name]),
        )
        for name in config.further_attributes
    }
    count_SCG = split_counts(label_N, group_N, split_N, len(table.classes), len(table.groups))
    image_id_N = np.array([str(name) for name in table.rows["image_id"]], dtype=np.str_)
    patient_id_N = np.array([str(name) for name in table.rows["patient_id"]], dtype=np.str_)
    group_arrays = [group_N, *(each.group_N for each in further.values())]
    for array in (label_N, split_N, image_id_N, patient_id_N, *group_arrays):
        array.flags.writeable = False
    return Dataset(
        name=config.name,
        attribute=config.attribute,
        image_size=config.image_size,
        classes=table.classes,
        groups=table.groups,
        images_NHWC=images_NHWC.view(np.ndarray),
        label_N=label_N,
        group_N=group_N,
        split_N=split_N,
        image_id_N=image_id_N,
        patient_id_N=patient_id_N,
        fingerprint=_digest(
            content,
            image_id_N.tolist(),
            label_N.tolist(),
            patient_id_N.tolist(),
            split_N.tolist(),
            table.classes,
            *((table.coarse,) if table.coarse else ()),
        ),
        group_digest=_digest(
            group_N.tolist(),
            table.groups,
            *([name, of.groups, of.group_N.tolist()] for name, of in sorted(further.items())),
        ),
        malignant=config.malignant or table.malignant,
        warnings=(
            *table.warnings,
            *(() if config.darken is None else darken_warnings(table.rows)),
            *_unknown_groups(group_N, config.attribute),
            *(line for name, of in further.items() for line in _unknown_groups(of.group_N, name)),
            *split_warnings,
            *comparability_warnings(count_SCG, table.classes, table.groups),
        ),
        coarse=table.coarse,
        further=further,
    )


def load_rows(config: DataConfig) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The checked table, the split of each row, and warnings of the split; no image is opened.

    Raises:
        UserError: anything wrong with the table, config or splits.
    """
    source = datasets.get(config.name)
    if config.darken is not None and makes_images(source):
        raise UserError(
            f"data.darken darkens photographs but the data set {config.name} makes its own images"
        )
    table = _limit(checked_table(with_lists(source.table(config), config), config), config)
    _check_malignant(table, config)
    split_N, split_warnings = _split(table.rows, config)
    return table, split_N, split_warnings


def rows_warnings(table: Table, split_N: np.ndarray) -> tuple[str, ...]:
    """Of the groups of a table and their split: what cannot be compared; no image is opened."""
    label_N = _numbered(table.rows["label"], table.classes)
    group_N = _numbered(table.rows["group"], table.groups)
    count_SCG = split_counts(label_N, group_N, split_N, len(table.classes), len(table.groups))
    return comparability_warnings(count_SCG, table.classes, table.groups)


def _numbered(group_of_row: pd.Series, groups: tuple[str, ...]) -> np.ndarray:
    number = {name: position for position, name in enumerate(groups)}
    return np.array([number.get(name, UNKNOWN_GROUP) for name in group_of_row], dtype=np.int64)


def _limit(table: Table, config: DataConfig) -> Table:
    if config.limit is None or config.limit >= len(table.rows):
        return table
    rows = table.rows
    label_N = rows["label"].tolist()
    if config.split.by in ("column", "paper"):  # these splits must keep their classes, too
        label_N = [f"{split}/{label}" for split, label in zip(rows["split"], label_N, strict=True)]
    kept = limited_rows(rows["patient_id"].tolist(), label_N, config.limit)
    return dataclasses.replace(table, rows=rows.iloc[kept].reset_index(drop=True))


def _split(rows: pd.DataFrame, config: DataConfig) -> tuple[np.ndarray, tuple[str, ...]]:
    patient_id_N = rows["patient_id"].tolist()
    if config.split.by in ("column", "paper"):
        split_N = splits_of_column(rows["split"].tolist(), f"data set {config.name}")
    else:
        unit_N = patient_id_N if config.split.by == "patient" else rows["image_id"].tolist()
        split_N = assign_splits(unit_N, rows["label"].tolist(), config.split)
    return split_N, check_no_leak(patient_id_N, split_N, config.split)


def _check_malignant(table: Table, config: DataConfig) -> None:
    for name in config.malignant:
        if name not in table.classes:
            raise UserError(
                f"data.malignant: unknown class {name!r}{nearest(name, table.classes)}"
            )


def _unknown_groups(group_N: np.ndarray, attribute: str) -> tuple[str, ...]:
    num_unknown = int((group_N == UNKNOWN_GROUP).sum())
    if not num_unknown:
        return ()
    return (
        f"{num_unknown} of {len(group_N)} images have no known {attribute}: "
        "left out of every score and metric",
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
