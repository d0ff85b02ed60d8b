"""Lists of images kept beside a data set: what to leave out, what to keep, what shows the same.

A list is a text file with one image a line, or a CSV with a column of images. Groups of
near-duplicates are a CSV with a column of images and one of groups (as ``fatefront data
duplicates`` writes it), or a text file with the images of one group on each line. An image is
named by its id, its file's name, or a name that ends in ``_`` and the first 8 characters of one
id (as the published clusters of Fitzpatrick17k do; Abhishek, Jain and Hamarneh 2024,
arXiv 2401.14497).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import pandas as pd

from trainables.data.base import DataConfig, Table
from trainables.data.columns import as_text, read_table
from trainables.data.parse import nearest
from trainables.errors import UserError

ID_COLUMNS = ("image_id", "md5hash", "hasher", "image", "img_id", "isic_id", "path", "filename")
GROUP_COLUMNS = ("duplicate_group", "group", "cluster")
TABLES = (".csv", ".tsv", ".parquet", ".pq")
PREFIX = 8
WORD = re.compile(r"[^\s,;\[\]()'\"]+")


def with_lists(table: Table, config: DataConfig) -> Table:
    """Leave out what ``keep`` and ``exclude`` say, put near-duplicates under one patient.

    Images that show the same get the first of their patients (by name) as patient, and so do all
    other images of these patients, so that no split by patient parts them.

    Raises:
        UserError: a list that is absent, has no column of images, or names no image of the table.
    """
    if not (config.keep or config.exclude or config.duplicates):
        return table
    ids = _Names(str(name) for name in table.rows["image_id"])
    rows, warnings = table.rows, []
    for field, path in (("keep", config.keep), ("exclude", config.exclude)):
        if path is None:
            continue
        listed, num_absent = ids.known(read_list(Path(path).expanduser()), f"data.{field}", path)
        inside = rows["image_id"].astype(str).isin(listed)
        kept = inside if field == "keep" else ~inside
        rows = rows[kept].reset_index(drop=True)
        absent = f"; {num_absent} of the list are not in the table" if num_absent else ""
        warnings.append(f"data.{field}: {(~kept).sum()} images were left out{absent}")
    if config.duplicates is not None:
        rows, line = _joined(rows, ids, config.duplicates)
        warnings.append(line)
    return dataclasses.replace(table, rows=rows, warnings=(*table.warnings, *warnings))


def read_list(path: Path) -> list[str]:
    """The images that a list names, as it names them.

    Raises:
        UserError: no such file, or a table without a column of images.
    """
    if path.suffix.lower() not in TABLES:
        return [line.strip(" '\",") for line in _lines(path)]
    rows = read_table(path)
    column = _column(rows, ID_COLUMNS)
    if column is None and len(rows.columns) == 1:  # one image a line without a header
        return [str(rows.columns[0]), *map(as_text, rows.iloc[:, 0])]
    if column is None:
        raise UserError(f"no column of images: {', '.join(ID_COLUMNS)} are known ({path})")
    return [as_text(value) for value in rows[column]]


def read_groups(path: Path) -> list[list[str]]:
    """The groups of near-duplicates that a file names, as it names their images.

    Raises:
        UserError: no such file, or a table without a column of images or of groups.
    """
    if path.suffix.lower() not in TABLES:
        return [WORD.findall(line) for line in _lines(path)]
    rows = read_table(path)
    image, group = _column(rows, ID_COLUMNS), _column(rows, GROUP_COLUMNS)
    if image is None or group is None:
        absent = GROUP_COLUMNS if group is None else ID_COLUMNS
        what = "groups" if group is None else "images"
        hint = nearest(absent[0], [str(column) for column in rows.columns])
        raise UserError(f"no column of {what}: {', '.join(absent)} are known{hint} ({path})")
    groups: dict[str, list[str]] = {}
    for name, number in zip(rows[image], rows[group], strict=True):
        if as_text(number):
            groups.setdefault(as_text(number), []).append(as_text(name))
    return list(groups.values())


class _Names:
    """The ids of a table, found by the names that lists use."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {name: name for name in ids}
        starts: dict[str, list[str]] = {}
        for name in self._ids:
            starts.setdefault(name[:PREFIX], []).append(name)
        self._starts = {start: names[0] for start, names in starts.items() if len(names) == 1}

    def find(self, name: str) -> str | None:
        file = PurePath(name).name
        stem = PurePath(file).stem
        for candidate in (name, file, stem):
            if candidate in self._ids:
                return candidate
        _, underscore, end = stem.rpartition("_")
        return self._starts.get(end) if underscore and len(end) == PREFIX else None

    def known(self, names: Sequence[str], field: str, path: str) -> tuple[set[str], int]:
        """The ids that are meant, and how many names mean none."""
        found = {name: self.find(name) for name in names if name}
        ids = {name for name in found.values() if name is not None}
        if not ids:
            shown = f", such as {next(iter(found))!r}" if found else ""
            raise UserError(f"{field}: none of the {len(found)} images is known{shown} ({path})")
        return ids, sum(name is None for name in found.values())


def _joined(rows: pd.DataFrame, ids: _Names, path: str) -> tuple[pd.DataFrame, str]:
    """Give each set of patients that share a group of near-duplicates one patient."""
    groups = read_groups(Path(path).expanduser())
    ids.known([name for names in groups for name in names], "data.duplicates", path)
    image_ids, patients = rows["image_id"].astype(str), rows["patient_id"].astype(str)
    patient_of = dict(zip(image_ids, patients, strict=True))
    label_of = dict(zip(image_ids, rows["label"].astype(str), strict=True))
    parent: dict[str, str] = {}

    def first(patient: str) -> str:
        while parent.get(patient, patient) != patient:
            patient = parent[patient]
        return patient

    num_groups = num_images = num_mixed = 0
    for names in groups:
        members = {name for name in map(ids.find, names) if name in patient_of}
        if len(members) < 2:
            continue
        num_groups += 1
        num_images += len(members)
        num_mixed += len({label_of[name] for name in members}) > 1
        firsts = {first(patient_of[name]) for name in members}
        parent |= dict.fromkeys(firsts, min(firsts))
    mixed = f", {num_mixed} of them with more than one class" if num_mixed else ""
    line = f"data.duplicates: {num_images} images in {num_groups} groups are kept together{mixed}"
    return rows.assign(patient_id=[first(patient) for patient in patients]), line


def _column(rows: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in rows), None)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"no such list: {path}")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path}: {error}") from None
    return [line for line in lines if line.strip()]
