"""What a table seems to be: which column is the image, the class, the patient, the groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from orchestrator.starting.column_names import (
    ATTRIBUTES,
    LABEL,
    PATIENT,
    SPLIT,
    attribute_kind,
    by_rank,
    identifies,
    sounds_malignant,
)
from orchestrator.starting.image_column import ImageColumn, find_images, spread
from trainables.data.columns import as_text, require_columns
from trainables.data.splits import COLUMN_VALUES
from trainables.data.table import MAX_GROUPS, TableFile
from trainables.errors import UserError

MAX_CLASSES = 200
FEW = 10
"""With more different numbers than this an age is divided, with fewer it names groups."""
UNKNOWN = TableFile.Config.model_fields["unknown"].default


@dataclass(frozen=True)
class Given:
    """Columns that the user names; None: guess."""

    image: str | None = None
    label: str | None = None
    attribute: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Attribute:
    """A sensitive attribute; ``threshold`` divides ages; ``groups``: known values -> images."""

    column: str
    kind: str | None
    threshold: float | None
    groups: dict[str, int]


@dataclass
class Guess:
    """All that was found.

    ``sample``: some of the images' names; ``given``: what was not guessed but said; ``said`` and
    ``not_known``: sentences for people.
    """

    image: ImageColumn
    label: str
    classes: dict[str, int]
    attribute: Attribute
    further: list[Attribute]
    patient: str | None
    split: str | None
    malignant: list[str]
    sample: list[str]
    given: Given
    said: list[str] = field(default_factory=list)
    not_known: list[str] = field(default_factory=list)


def guess_table(rows: pd.DataFrame, table: Path, images: Path | None, given: Given) -> Guess:
    """Look at every column.

    Args:
        rows: of the table.
        table: its file.
        images: folder of the images, if the user says it.
        given: what the user says of columns.

    Raises:
        UserError: no column for image, label or attribute; the line says which option names it.
    """
    named = [n for n in (given.image, given.label, given.attribute, given.patient) if n]
    require_columns(rows, named, str(table))
    if not len(rows):
        raise UserError(f"{table} has no rows")
    image = find_images(rows, table, images, given.image)
    if image is None:
        place = str(images or table.parent)
        raise UserError(
            f"no column of {table} names image files in {place} (or a folder in it): "
            "say --images DIR, or --image COLUMN"
        )
    everything = {str(name): [as_text(value) for value in rows[name]] for name in rows.columns}
    columns = {
        name: values
        for name, values in everything.items()
        if name != image.column or name in named
    }
    label = given.label or _label(columns)
    if label is None:
        raise UserError(f"no column of {table} looks like a class: say --label, {_few(columns)}")
    classes = Counter(columns[label])
    attributes = _attributes({n: v for n, v in columns.items() if n != label}, given.attribute)
    if not attributes:
        raise UserError(
            f"no column of {table} looks like a sensitive attribute (skin tone, sex, race, age): "
            f"say --attribute, {_few(n for n in columns if n != label)}"
        )
    guess = Guess(
        image, label, dict(sorted(classes.items())), attributes[0], attributes[1:],
        given.patient or _patient(columns), _split(columns),
        [name for name in sorted(classes) if sounds_malignant(name)],
        spread([str(value).strip() for value in rows[image.column]]),
        given,
    )  # fmt: skip
    _explain(guess, columns, len(rows))
    return guess


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return f"one of {', '.join(listed[:12])}{', ...' if len(listed) > 12 else ''}"


def _label(columns: dict[str, list[str]]) -> str | None:
    for name in by_rank(columns, LABEL):
        different = set(columns[name])
        if "" not in different and 2 <= len(different) <= min(MAX_CLASSES, len(columns[name]) / 2):
            return name
    return None


def _attributes(columns: dict[str, list[str]], given: str | None) -> list[Attribute]:
    """The sweep's own first: as given, else by kind; of one kind the column with fewest groups."""
    found = []
    for name, values in columns.items():
        kind = attribute_kind(name)
        if kind is not None or name == given:
            attribute = _attribute(name, kind, values)
            if attribute is not None:
                found.append(attribute)
    if given is not None and given not in [a.column for a in found]:
        different = len({v for v in columns[given] if v.lower() not in UNKNOWN})
        raise UserError(
            f"--attribute {given}: it has {different} known values, 2 to {MAX_GROUPS} are possible"
        )
    order = list(ATTRIBUTES)
    found.sort(key=lambda a: (order.index(a.kind) if a.kind else len(order), len(a.groups)))
    found.sort(key=lambda a: a.column != given)
    kinds: set[str | None] = set()
    return [a for a in found if not (a.kind in kinds or kinds.add(a.kind))]  # type: ignore[func-returns-value]


def _attribute(name: str, kind: str | None, values: list[str]) -> Attribute | None:
    known = [value for value in values if value.lower() not in UNKNOWN]
    groups = Counter(known)
    threshold = None
    ages = _numbers(known)
    if ages is not None and len(groups) > (FEW if kind == "age" else MAX_GROUPS):
        threshold = 5.0 * round(sorted(ages)[len(ages) // 2] / 5)
        below = sum(age < threshold for age in ages)
        groups = Counter({f"below {threshold:g}": below, "others": len(ages) - below})
        groups = +groups
    if not 2 <= len(groups) <= MAX_GROUPS:
        return None
    return Attribute(name, kind, threshold, dict(sorted(groups.items())))


def _numbers(values: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _patient(columns: dict[str, list[str]]) -> str | None:
    ranked = [(identifies(name, PATIENT), name) for name in columns]
    for _, name in sorted((rank, name) for rank, name in ranked if rank is not None):
        if len(set(columns[name])) >= 3:
            return name
    return None


def _split(columns: dict[str, list[str]]) -> str | None:
    for name in by_rank(columns, SPLIT):
        parts = {COLUMN_VALUES.get(value.lower()) for value in columns[name]}
        if parts == {0, 1, 2}:
            return name
    return None


def _explain(guess: Guess, columns: dict[str, list[str]], num: int) -> None:
    said, unknown = guess.said, guess.not_known
    image = guess.image
    files = f"{num - image.num_missing} of {num} are files in {image.root}"
    ending = f" with {image.suffix} added" if image.suffix else ""
    said.append(f"image: column {image.column}{ending}, {files}")
    said.append(
        f"label: column {guess.label}, {len(guess.classes)} classes: {_counts(guess.classes)}"
    )
    own = guess.attribute
    said.append(f"attribute: column {own.column}{_kind(own)}: {_counts(own.groups)}")
    for other in guess.further:
        said.append(f"further attribute: column {other.column}{_kind(other)}, not used yet")
    if guess.patient:
        different = len(set(columns[guess.patient]))
        said.append(f"patient: column {guess.patient}, {different} of them; no split parts one")
    else:
        unknown.append(
            "patient: no column found; images count as independent, and images of one patient in "
            "two splits make every figure too good (--patient COLUMN)"
        )
    if guess.split:
        said.append(f"split: column {guess.split}")
    if guess.malignant:
        said.append(f"malignant classes, by their names: {', '.join(guess.malignant)}")
    else:
        unknown.append("malignant: no class sounds like one; clinical figures need them named")
    if image.num_missing:
        unknown.append(
            f"{image.num_missing} rows have no image file: `fatefront data inspect` names them"
        )
    unsure = num - sum(own.groups.values())
    if unsure:
        unknown.append(
            f"{own.column}: {unsure} images of unknown group train but are not measured"
        )
    small = [name for name, count in guess.classes.items() if count < 10]
    if small:
        unknown.append(f"classes with fewer than 10 images: {', '.join(small)}")


def _kind(attribute: Attribute) -> str:
    kind = f" ({attribute.kind})" if attribute.kind else ""
    return kind + (f", divided at {attribute.threshold:g}" if attribute.threshold else "")


def _counts(groups: dict[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in list(groups.items())[:12]]
    return ", ".join(shown) + (", ..." if len(groups) > 12 else "")
