"""What every data set's table must keep, whoever wrote the data set."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from trainables.data.base import DataConfig, Table
from trainables.errors import UserError, shortened

NUM_NAMED = 5
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def checked_table(table: Table, config: DataConfig) -> Table:
    """The table in the order of its image ids, if it keeps the contract of ``Table``.

    Unknown groups (None, NaN) become None. Classes or groups that differ in case or white space
    only are a warning of the table: they may be meant as one.

    Raises:
        UserError: columns missing, ids repeated, labels or groups outside the declared ones.
    """
    rows = table.rows
    needed = ["image_id", "label", "group", "patient_id"]
    needed += ["split"] if config.split.by in ("column", "paper") else []
    further = {name: f"group:{name}" for name in config.further_attributes}
    absent = [column for column in needed if column not in rows]
    place = f"data set {config.name}"
    if absent == ["split"] and config.split.by == "paper":
        raise UserError(f"data.split.by is paper but the {place} has no published split")
    if absent == ["split"]:
        raise UserError(f"data.split.by is column but the table has no split column ({place})")
    if absent:
        raise UserError(f"the table lacks the columns {', '.join(absent)} ({place})")
    unread = [name for name, column in further.items() if column not in rows]
    if unread or set(further) - set(table.further_groups):
        asked = ", ".join(config.further_attributes)
        raise UserError(f"data.further_attributes: {asked} is not read by the {place}")
    if not len(rows):
        raise UserError(f"the table has no rows ({place})")
    groups = {
        column: [None if pd.isna(group) else str(group) for group in rows[column]]
        for column in ("group", *further.values())
    }
    declared = {"group": table.groups} | {
        column: table.further_groups[name] for name, column in further.items()
    }
    problems = [
        _named("image ids that occur twice", _repeated(rows["image_id"])),
        _named("labels that are no class", set(map(str, rows["label"])) - set(table.classes)),
        *(
            _named("groups that are not declared", {g for g in of if g} - set(declared[column]))
            for column, of in groups.items()
        ),
    ]
    if rows["patient_id"].isna().any() or (rows["patient_id"].astype(str) == "").any():
        problems.append("rows without a patient_id")
    if table.coarse and len(table.coarse) != len(table.classes):
        problems.append(
            f"{len(table.coarse)} coarse categories for {len(table.classes)} classes"
        )
    for what, of in (("image ids", "image_id"), ("labels", "label"), ("patients", "patient_id")):
        problems.append(_named(f"{what} with control characters", _unprintable(rows[of])))
    for named in groups.values():
        strange = _unprintable(group for group in named if group)
        problems.append(_named("groups with control characters", strange))
    found = [problem for problem in problems if problem]
    if found:
        raise UserError(f"{'; '.join(found)} ({place})")
    rows = rows.assign(
        **{column: pd.Series(of, index=rows.index, dtype=object) for column, of in groups.items()}
    )
    order = sorted(range(len(rows)), key=[str(name) for name in rows["image_id"]].__getitem__)
    attribute_of = {"group": config.attribute} | {of: name for name, of in further.items()}
    alike = list(spelled_alike(map(str, rows["label"]), "classes"))
    for column, named in groups.items():
        known = (group for group in named if group)
        alike += spelled_alike(known, f"groups of {attribute_of[column]}")
    return dataclasses.replace(
        table,
        rows=rows.iloc[order].reset_index(drop=True),
        warnings=(*table.warnings, *alike),
    )


def spelled_alike(
    values: Iterable[str], what: str, *, meaning: str = "counted apart", fold: bool = True
) -> tuple[str, ...]:
    """One line of the values that differ in case or white space only, or none.

    Args:
        values: one an image.
        what: whose values they are, for the line.
        meaning: what was made of them.
        fold: else only those that differ in white space around them.
    """
    counts = Counter(values)
    spellings: dict[str, list[str]] = {}
    for value in sorted(counts):
        alike = " ".join(value.casefold().split()) if fold else value.strip()
        spellings.setdefault(alike, []).append(value)
    found = [
        " and ".join(f"{shortened(name)} ({counts[name]} images)" for name in names)
        for alike, names in spellings.items()
        if alike and len(names) > 1
    ]
    if not found:
        return ()
    rest = f"; and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
    differ = "case or white space" if fold else "surrounding white space"
    shown = "; ".join(found[:NUM_NAMED])
    return (f"{what} that differ in {differ} only are {meaning}: {shown}{rest}",)


def _repeated(values: Iterable[object]) -> set[str]:
    return {name for name, count in Counter(map(str, values)).items() if count > 1}


def _unprintable(values: Iterable[object]) -> set[str]:
    """Names that would break a line, steer a terminal, or turn the direction of reading."""
    return {name for name in set(map(str, values)) if CONTROL.search(name)}


def _named(what: str, names: set[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in sorted(names)[:NUM_NAMED])
    rest = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{len(names)} {what}: {shown}{rest}"
