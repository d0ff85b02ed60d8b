"""Any data set that is a CSV or Parquet table of images, labels and a sensitive attribute."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Literal

import pandas as pd
from pydantic import Field

from trainables.data.attributes import Groups, add_groups, attribute_parts
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.check_table import spelled_alike
from trainables.data.columns import as_text, in_order, read_table, require_columns
from trainables.data.darken import TONE
from trainables.data.parse import nearest
from trainables.errors import UserError, shortened
from trainables.registry import datasets

MAX_GROUPS = 50
NUM_NAMED = 5


@datasets.register("table")
class TableFile(DatasetSource):
    """One line an image; columns are named in the config."""

    class Config(DataConfig):
        """The file, the folder of its images, and which column is what."""

        name: Literal["table"] = "table"
        path: str = Field(description="CSV (.tsv with tabs) or Parquet file")
        root: str | None = Field(None, description="folder of the images; default the table's")
        image: str = Field("path", description="column of the image's path, or of its bytes")
        suffix: str = Field("", description="appended to each path, for columns without .jpg")
        label: str = "label"
        threshold: float | None = Field(
            None, description="divides a numeric attribute in below and at least this value"
        )
        thresholds: dict[str, float] = Field(
            {}, description="likewise by column, for combined and further attributes"
        )
        patient: str | None = Field(None, description="column of what must not straddle splits")
        split_column: str | None = Field(None, description="read when split.by is column")
        image_id: str | None = Field(None, description="column of unique ids")
        unknown: tuple[str, ...] = Field(
            ("", "unknown", "nan", "na", "n/a", "none", "null", "-1"),
            description="values of the attribute that mean unknown, in lower case",
        )

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Read and check the table; no image is opened.

        Without ``patient`` every image counts as its own patient, with a warning. A row whose
        patient is unknown is its own patient.

        Raises:
            UserError: no such file or column, rows without label or image, ids repeated,
                an attribute with less than 2 or more than 50 values.
        """
        if not isinstance(config, cls.Config):
            raise TypeError(f"expected the config of the data set table, got {type(config)}")
        path = Path(config.path).expanduser()
        rows = read_table(path)
        if not len(rows):
            raise UserError(f"the table has no rows ({path})")
        split_column = config.split_column if config.split.by == "column" else None
        if config.split.by == "column" and split_column is None:
            raise UserError("data.split.by is column but data.split_column is not given")
        if config.split_column is not None and split_column is None:
            raise UserError(
                f"data.split_column is {config.split_column!r} but data.split.by is "
                f"{config.split.by!r}: set data.split.by=column to use it, or leave it out"
            )
        columns = {str(column) for column in rows.columns}
        attributes = [
            part
            for attribute in (config.attribute, *config.further_attributes)
            for part in attribute_parts(attribute, columns)
            if config.darken is None or part != TONE
        ]
        thresholds = _thresholds(config, attributes)
        wanted = [config.image, config.label, *attributes]
        wanted += [name for name in (config.patient, split_column, config.image_id) if name]
        require_columns(rows, wanted, str(path))
        _refuse_nested(rows, wanted[1:], path)
        labels = [as_text(value) for value in rows[config.label]]
        _refuse_empty(labels, "label", config.label, path)
        table, image_ids = _images(rows, config, path)
        warnings = _padded(rows, (config.label, *attributes))
        if config.patient is None:
            patients = image_ids
            warnings.append("no patient column (data.patient): images count as independent")
        else:
            given = [as_text(value) for value in rows[config.patient]]
            patients = [
                patient or f"image:{image_id}"
                for patient, image_id in zip(given, image_ids, strict=True)
            ]
            if "" in given:
                warnings.append(
                    f"{given.count('')} rows have no {config.patient}: each is its own patient"
                )
        table = table.assign(
            image_id=image_ids,
            label=labels,
            patient_id=patients,
        )
        table, names, further = add_groups(
            table,
            config,
            lambda name: _groups(
                [as_text(value) for value in rows[name]], config, name, thresholds.get(name)
            ),
            columns,
        )
        if split_column:
            table["split"] = [as_text(value) for value in rows[split_column]]
        classes = in_order(set(labels))
        if len(classes) < 2:
            raise UserError(
                f"column {config.label!r} has 1 class, {shortened(classes[0])}: at least 2 are "
                f"needed ({path})"
            )
        return Table(table, classes, names, tuple(warnings), further_groups=further)


def _padded(rows: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """A line a column whose text ``as_text`` makes one value of, white space around it apart."""
    lines: list[str] = []
    for name in dict.fromkeys(names):
        texts = (value for value in rows[name] if isinstance(value, str))
        lines += spelled_alike(texts, f"values of {name!r}", meaning="read as one", fold=False)
    return lines


def _refuse_nested(rows: pd.DataFrame, names: list[str], path: Path) -> None:
    """A cell of a Parquet file may hold a list or a mapping, which is no name of anything."""
    for name in names:
        for number, value in enumerate(rows[name]):
            if value is not None and not pd.api.types.is_scalar(value):
                raise UserError(
                    f"column {name!r} must hold text or numbers but row {number + 1} has "
                    f"{shortened(value)} ({path})"
                )


def _refuse_empty(values: list[str], what: str, column: str, path: Path) -> None:
    empty = [number for number, value in enumerate(values) if not value]
    if empty:
        shown = ", ".join(str(number + 1) for number in empty[:NUM_NAMED])
        more = ", ..." if len(empty) > NUM_NAMED else ""
        raise UserError(
            f"{len(empty)} rows have no {what} in column {column!r}: row {shown}{more} ({path})"
        )


def _thresholds(config: TableFile.Config, attributes: list[str]) -> dict[str, float]:
    unused = sorted(set(config.thresholds) - set(attributes))
    if unused:
        hint = nearest(unused[0], attributes)
        raise UserError(f"data.thresholds: {unused[0]!r} is no attribute{hint}")
    if config.threshold is None:
        return config.thresholds
    if config.attribute not in attributes or config.attribute in config.thresholds:
        raise UserError(
            "data.threshold divides a single attribute; give data.thresholds by column instead"
        )
    return config.thresholds | {config.attribute: config.threshold}


def _groups(
    values: list[str], config: TableFile.Config, attribute: str, threshold: float | None
) -> Groups:
    known = [None if value.lower() in config.unknown else value for value in values]
    groups, names = known, in_order({value for value in known if value is not None})
    if threshold is not None:
        below, above = f"below_{threshold:g}", f"at_least_{threshold:g}"
        strange = [value for value in names if not _is_number(value)]
        if strange:
            raise UserError(
                f"data.threshold: {attribute!r} must hold finite numbers but has "
                f"{', '.join(map(repr, strange[:NUM_NAMED]))} ({config.path})"
            )
        groups = [
            None if value is None else below if float(value) < threshold else above
            for value in known
        ]
        names = tuple(name for name in (below, above) if name in groups)
    if not 2 <= len(names) <= MAX_GROUPS:
        shown = ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")
        hint = "; is data.threshold missing?" if len(names) > MAX_GROUPS else ""
        raise UserError(
            f"data.attribute: {attribute!r} has {len(names)} known values ({shown}), "
            f"2 to {MAX_GROUPS} groups are possible{hint}"
        )
    return groups, names


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _images(
    rows: pd.DataFrame, config: TableFile.Config, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """A frame with the column ``bytes`` or ``path``, and the image ids."""
    values = [
        value["bytes"] if isinstance(value, Mapping) and "bytes" in value else value
        for value in rows[config.image]
    ]
    given = None
    if config.image_id is not None:
        given = [as_text(value) for value in rows[config.image_id]]
        _refuse_empty(given, "image id", config.image_id, path)
    if any(isinstance(value, bytes) for value in values):
        empty = ["x" if isinstance(value, bytes) and value else "" for value in values]
        _refuse_empty(empty, "bytes", config.image, path)
        if given is None:
            raise UserError(
                f"column {config.image!r} holds bytes: data.image_id must name a column ({path})"
            )
        return pd.DataFrame({"bytes": pd.Series(values, dtype=object)}), given
    names = ["" if pd.isna(value) else str(value).strip() for value in values]
    _refuse_empty(names, "image", config.image, path)
    root = path.parent if config.root is None else Path(config.root).expanduser()
    if not root.is_dir():
        raise UserError(f"data.root: no such folder: {root}")
    if given is None:
        stems = [PurePath(name).stem for name in names]
        given = stems if len(set(stems)) == len(stems) else names
    paths = [str(root / f"{name}{config.suffix}") for name in names]
    _refuse_outside(paths, root, path)
    return pd.DataFrame({"path": paths}), given


def _refuse_outside(paths: list[str], root: Path, table: Path) -> None:
    """A table from elsewhere must not name any file of this machine; links in the folder may."""
    inside = os.path.join(os.path.abspath(root), "")
    for number, name in enumerate(paths):
        if not os.path.abspath(name).startswith(inside):
            raise UserError(
                f"image {shortened(name)} in row {number + 1} is outside of the folder "
                f"{inside} (data.root names another; {table})"
            )
