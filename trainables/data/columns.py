"""Reading a table file and naming the columns it should have."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from trainables.data.parse import nearest
from trainables.errors import UserError
from trainables.plain_file import check_plain

MAX_ROWS = 2_000_000
"""Of a table; the array of so many images at 128 pixels has 98 GB."""

WHOLE_NUMBER = re.compile(r"-?\d+\.0+")


def read_table(path: Path) -> pd.DataFrame:
    """Read Parquet, or CSV (.tsv: tab) with every cell as text; empty cells are empty strings.

    Raises:
        UserError: no such file (the nearest name in the folder is shown), or it cannot be read.
    """
    try:
        check_plain(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        return _read_csv(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    except (FileNotFoundError, NotADirectoryError):
        near: list[str] = []
        if path.parent.is_dir():
            names = [other.name for other in path.parent.iterdir() if other.is_file()]
            near = difflib.get_close_matches(path.name, names, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no such table: {path}{hint}") from None
    except UnicodeError as error:
        raise UserError(f"cannot read the table {path}: not text in UTF-8 ({error})") from None
    except (ValueError, OSError) as error:  # Arrow's parser errors are ValueErrors
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read the table {path}: {reason}") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    from pyarrow import parquet

    check_rows(parquet.read_metadata(path).num_rows)
    return pd.read_parquet(path)


def _read_csv(path: Path, separator: str) -> pd.DataFrame:
    """By pyarrow, which refuses a line with a value too many or too few (pandas takes the first
    column for an index, or fills the line), and block by block, so that a file of any length is
    refused after ``MAX_ROWS``.
    """
    import pyarrow
    from pyarrow import csv as arrow_csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    if not header:
        raise ValueError("it is empty")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ValueError(f"column {twice[0]!r} stands there twice")
    blocks, num_rows = [], 0
    with arrow_csv.open_csv(
        path,
        # one thread: only then does an error name its row
        read_options=arrow_csv.ReadOptions(use_threads=False),
        parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pyarrow.string()), strings_can_be_null=False
        ),
    ) as reader:
        schema = reader.schema
        for block in reader:
            blocks.append(block)
            num_rows += len(block)
            check_rows(num_rows)
    frame: pd.DataFrame = pyarrow.Table.from_batches(blocks, schema).to_pandas()
    return frame


def check_rows(num_rows: int) -> None:
    """Refuse a table of more than ``MAX_ROWS``.

    Raises:
        ValueError: it is longer.
    """
    if num_rows > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows, the limit")


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
