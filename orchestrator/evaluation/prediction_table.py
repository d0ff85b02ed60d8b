"""Predictions of any model, read from CSV or Parquet, with labels and groups as the file has them.

Shape legend: N rows, C classes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.check_table import CONTROL
from trainables.data.columns import check_rows
from trainables.errors import UserError, shortened
from trainables.plain_file import check_plain

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 200
"""Characters of a class or group; longer ones are no names that anyone reads."""

Name = int | str
"""A class or group as the file says it: an integer, else text."""

# No leading zeros: "007" is a name, not the number 7.
_INTEGER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0*)?")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what."""

    label: str
    prediction: str
    group: tuple[str, ...]  # several: a group is what a row has in all of them
    patient: str | None
    probabilities: tuple[str, ...]
    image: str | None = None
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class PredictionTable:
    """The rows of one file whose group is known; lists of N values each."""

    path: str
    label_N: list[Name]
    prediction_N: list[Name] | None  # None: to be taken from the probabilities
    group_N: list[Name]
    patient_N: list[str | None] | None
    probability_NC: np.ndarray | None  # float64, in the order of the columns named
    num_unknown_group: int
    image_N: list[str] | None = None
    within_N: tuple[list[str], ...] = ()  # an empty text where the value is missing


def _name(value: Any) -> Name:
    """Read 3, 3.0, "3" and "3.0" as the integer 3 and everything else as text."""
    text = str(value).strip()
    match = _INTEGER.fullmatch(text) if len(text) <= LONGEST_NAME else None
    return int(match[1]) if match else text


def _names(column: pd.Series) -> list[Any]:
    """One name a row, None where the value is missing; each distinct value is read once."""
    try:
        code_N, distinct = column.factorize()
    except TypeError:  # lists and mappings of a Parquet file
        raise UserError(f"{column.name} must hold text or numbers but has lists") from None
    known = [_name(value) for value in distinct]
    for name in known:
        if isinstance(name, str) and (len(name) > LONGEST_NAME or CONTROL.search(name)):
            raise UserError(
                f"{column.name} must hold names without control characters, of at most "
                f"{LONGEST_NAME} characters, but has {shortened(name)}"
            )
    return [None if code < 0 else known[code] for code in code_N.tolist()]


def sorted_names(names: Iterable[Name]) -> list[Name]:
    """Distinct names, numerically when all are integers, else as text by the alphabet."""
    distinct = set(names)
    if all(isinstance(name, int) for name in distinct):
        return sorted(distinct)
    return sorted({str(name) for name in distinct})


def indices(names: Sequence[Name], known: Sequence[Name]) -> np.ndarray:
    """Position of each name among the known ones, int64."""
    place: dict[Name, int] = {}
    for position, name in enumerate(known):
        place[name] = position
        place.setdefault(str(name), position)
    return np.array([place[n] if n in place else place[str(n)] for n in names], np.int64)


def probability_names(
    columns: Sequence[str], labels: Sequence[Name], places: Sequence[Name]
) -> tuple[list[Name], bool]:
    """Which class each probability column is of, and whether only its position says so.

    By name when the columns, less a common beginning such as ``p_``, name every true label;
    else by position among the classes seen.
    """
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*columns, strict=False))
    start = "".join(letters[0] for letters in alike)
    for cut in [0, *(i + 1 for i, letter in enumerate(start) if letter in "_.:- ")]:
        rest = [column[cut:] for column in columns]
        if {str(label) for label in labels} <= set(rest):
            return [_name(text) for text in rest], False
    if len(columns) == len(places):
        return list(places), True
    raise UserError(
        f"--probabilities names {len(columns)} columns but there are {len(places)} classes "
        f"and the columns are not named after them ({', '.join(columns[:4])}, ...)"
    )


def _csv(path: str, usecols: Sequence[str] | None, numbers: Sequence[str]) -> Any:
    """Read a CSV with pyarrow: unlike pandas it refuses a line with a value too many."""
    from pyarrow import Table, csv, string

    parse = csv.ParseOptions(newlines_in_values=True)
    if usecols is None:
        with csv.open_csv(path, parse_options=parse) as reader:
            return reader.schema.names
    convert = csv.ConvertOptions(
        include_columns=list(usecols),
        column_types={name: string() for name in usecols if name not in numbers},
        strings_can_be_null=True,
    )
    # one thread: only then does an error name its row
    read = csv.ReadOptions(use_threads=False)
    blocks, num_rows = [], 0
    with csv.open_csv(
        path, read_options=read, parse_options=parse, convert_options=convert
    ) as reader:
        schema = reader.schema
        for block in reader:
            blocks.append(block)
            num_rows += len(block)
            check_rows(num_rows)
    return Table.from_batches(blocks, schema).to_pandas()


def _open(path: str, usecols: Sequence[str] | None, numbers: Sequence[str] = ()) -> Any:
    """Read the named columns (None: the header only), text as text so that nothing is guessed."""
    try:
        check_plain(path)
        with open(path, "rb") as file:
            start = file.read(4)
        if not start:
            raise UserError(f"{path} is empty")
        if start != b"PAR1":
            return _csv(path, usecols, numbers)
        from pyarrow import parquet

        if usecols is None:
            return parquet.read_schema(path).names
        check_rows(parquet.read_metadata(path).num_rows)
        return parquet.read_table(path, columns=list(usecols)).to_pandas()
    except FileNotFoundError:
        parent = Path(path).parent
        beside = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        raise UserError(f"no file {path}{_near(Path(path).name, beside)}") from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors of parsing are among these
        line = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read {path} as CSV or Parquet: {line}") from None


def _near(name: str, known: Sequence[str]) -> str:
    """Name the nearest known one, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _check_present(wanted: Sequence[str], header: Sequence[str], path: str) -> None:
    for name in wanted:
        if name not in header:
            shown = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
            hint = _near(name, header) or f" (columns: {shown})"
            raise UserError(f"no column {name!r} in {path}{hint}")


def _check_filled(values: Sequence[Any], row_N: np.ndarray, name: str, path: str) -> None:
    empty = [i for i, value in enumerate(values) if value is None]
    if empty:
        raise UserError(
            f"{name} must be given in every row but {len(empty)} are missing, "
            f"the first in data row {row_N[empty[0]] + 1} ({path})"
        )


def _check_once(values: Sequence[Any], row_N: np.ndarray, name: str, path: str) -> None:
    """An image counts once; a second row of it is a second answer, and nobody said which holds."""
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if value in first:
            raise UserError(
                f"{name} must name each image once but {value!r} is in data rows "
                f"{row_N[first[value]] + 1} and {row_N[i] + 1} ({path}); further seeds are "
                "further files"
            )
        first[value] = i


def _probabilities(
    frame: pd.DataFrame, names: Sequence[str], path: str, label_N: Sequence[Name]
) -> np.ndarray:
    """The (N, C) probabilities, checked: finite, in [0, 1], rows that add up to 1.

    Fewer columns than classes among the labels leave one out.
    """
    try:
        value_NC = frame[list(names)].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise UserError(f"probabilities must be numbers ({path}: {', '.join(names)})") from None
    # Half precision is the coarsest that predictions are stored in: its sums are off by 1e-3.
    bad = np.argwhere(~((value_NC >= 0) & (value_NC <= 1 + 1e-3)))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"probabilities must be in [0, 1] but got {value_NC[row, column]:g} "
            f"({path}: {names[column]}, data row {frame.index[row] + 1})"
        )
    off = np.flatnonzero(np.abs(value_NC.sum(1) - 1) > 0.01)
    if len(off) and len(names) < len(set(label_N)):
        raise UserError(
            f"--probabilities names {len(names)} columns ({', '.join(names)}) but the labels have "
            f"{len(set(label_N))} classes: one is missing ({path})"
        )
    if len(off):
        raise UserError(
            f"probabilities of a row must add up to 1 but give {value_NC[off[0]].sum():.4g} "
            f"({path}: data row {frame.index[off[0]] + 1})"
        )
    return value_NC


def group_columns(group: str, header: Sequence[str]) -> tuple[str, ...]:
    """The column of that name, else those that it names between commas."""
    if group in header:
        return (group,)
    return tuple(name.strip() for name in group.split(",") if name.strip())


def header_of(path: str | Path) -> list[str]:
    """Names of the columns of a file.

    Raises:
        UserError: no such file, or neither CSV nor Parquet.
    """
    return list(_open(str(path), None))


def _known(column: pd.Series) -> pd.Series:
    """Where a value is given; a blank is unknown in Parquet too, where it is not null."""
    blank_N = column.map(lambda value: isinstance(value, str) and not value.strip())
    return column.notna() & ~blank_N.astype(bool)


def _texts(column: pd.Series) -> list[str | None]:
    known_N = column.notna()
    return [
        str(value) if known else None
        for value, known in zip(column.tolist(), known_N, strict=True)
    ]


def _groups(frame: pd.DataFrame, columns: Sequence[str]) -> list[Name]:
    """The group of each row; of several columns ``female x old``."""
    if len(columns) == 1:
        return _names(frame[columns[0]])
    parts = [_names(frame[name]) for name in columns]
    return [" x ".join(map(str, names)) for names in zip(*parts, strict=True)]


def read_predictions(
    path: str | Path, columns: Columns, *, probabilities: bool = True
) -> PredictionTable:
    """Read one file of predictions; rows without a group are dropped and counted.

    Labels, predictions and groups may be integers or text; see ``sorted_names`` for their order.
    The prediction column may be absent when probabilities are named; with ``probabilities=False``
    they are read only in that case.

    Raises:
        UserError: no such file or column, nothing to read, a label, prediction or probability
            that is missing or impossible.
    """
    path = str(path)
    header = header_of(path)
    has_prediction = columns.prediction in header
    numbers = columns.probabilities if probabilities or not has_prediction else ()
    wanted = [columns.label, *columns.group, *numbers, *columns.within]
    wanted += [name for name in (columns.patient, columns.image) if name]
    wanted += [columns.prediction] if has_prediction or not numbers else []
    _check_present(wanted, header, path)
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise UserError(f"column {twice[0]!r} is in {path} more than once")
    frame = _open(path, list(dict.fromkeys(wanted)), numbers)
    frame = frame.reset_index(drop=True)
    if not len(frame):
        raise UserError(f"{path} has no rows")
    known_N = _known(frame[columns.group[0]])
    for name in columns.group[1:]:
        known_N &= _known(frame[name])
    num_unknown = int((~known_N).sum())
    frame = frame[known_N]
    if not len(frame):
        raise UserError(f"{' x '.join(columns.group)} is missing in every row of {path}")
    row_N = frame.index.to_numpy()
    label_N = _names(frame[columns.label])
    _check_filled(label_N, row_N, columns.label, path)
    prediction_N = _names(frame[columns.prediction]) if has_prediction else None
    if prediction_N is not None:
        _check_filled(prediction_N, row_N, columns.prediction, path)
    image_N = _texts(frame[columns.image]) if columns.image else None
    if columns.image and image_N is not None:
        _check_filled(image_N, row_N, columns.image, path)
        _check_once(image_N, row_N, columns.image, path)
    return PredictionTable(
        path=path,
        label_N=label_N,
        prediction_N=prediction_N,
        group_N=_groups(frame, columns.group),
        patient_N=_texts(frame[columns.patient]) if columns.patient else None,
        probability_NC=_probabilities(frame, numbers, path, label_N) if numbers else None,
        num_unknown_group=num_unknown,
        image_N=[str(name) for name in image_N] if image_N is not None else None,
        within_N=tuple([text or "" for text in _texts(frame[name])] for name in columns.within),
    )
