"""Reading a table file and naming the columns it should have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from trainables.data.parse import nearest
from trainables.errors import UserError

WHOLE_NUMBER = re.compile(r"-?\d+\.0+")


def read_table(path: Path) -> pd.DataFrame:
    """Read Parquet, or CSV (.tsv: tab) with every cell as text; empty cells are empty strings.

    Raises:
        UserError: no such file (the nearest name in the folder is shown), or it cannot be read.
    """
    if not path.is_file():
        near: list[str] = []
        if path.parent.is_dir():
            names = [other.name for other in path.parent.iterdir() if other.is_file()]
            near = difflib.get_close_matches(path.name, names, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no such table: {path}{hint}")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise UserError(f"cannot read the table {path}: {' '.join(str(error).split())}") from error


def require_columns(rows: pd.DataFrame, names: Sequence[str], place: str) -> None:
    """Refuse a table that lacks columns; each absent one is shown with the nearest present one.

    Raises:
        UserError: columns are missing.
    """
    present = [str(column) for column in rows.columns]
    absent = [f"{name!r}{nearest(name, present)}" for name in names if name not in present]
    if absent:
        raise UserError(f"no column {'; no column '.join(absent)} ({place})")


def as_text(value: object) -> str:
    """A cell as text: 3.0 is "3" (as CSV and Parquet may write it), missing values are empty."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    text = str(value).strip()
    return text.split(".")[0] if WHOLE_NUMBER.fullmatch(text) else text


def text_columns(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """These columns with each cell as text (see ``as_text``), each different value read once."""
    columns = {name: rows[name].tolist() for name in names}
    text = {value: as_text(value) for values in columns.values() for value in set(values)}
    return pd.DataFrame(
        {name: pd.Series([text[v] for v in columns[name]], dtype=object) for name in names}
    )


def in_order(values: set[str]) -> tuple[str, ...]:
    """Sorted by value if all are numbers, else by name."""
    try:
        return tuple(sorted(values, key=lambda value: (float(value), value)))
    except ValueError:
        return tuple(sorted(values))
