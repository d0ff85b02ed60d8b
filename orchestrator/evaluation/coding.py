"""Files of predictions as arrays: classes, groups and rows of the same images numbered alike.

Shape legend: N rows, S seeds, G groups, C classes; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.evaluation.prediction_table import (
    Columns,
    Name,
    PredictionTable,
    indices,
    probability_names,
    sorted_names,
)
from trainables.errors import UserError
from trainables.metrics.confusion import confusion_counts

MAX_GROUPS = 100
MAX_CELLS = 2**25  # groups x classes x classes: 256 MiB of counts


@dataclass(frozen=True)
class Axes:
    """The classes and groups that all files have between them."""

    classes: list[Name]
    groups: list[Name]
    probability_names: list[Name]  # the class of each probability column


@dataclass(frozen=True)
class Coded:
    """One file with classes and groups as indices, and its counts."""

    path: str
    label_N: np.ndarray
    prediction_N: np.ndarray
    group_N: np.ndarray
    probability_NC: np.ndarray | None
    image_N: list[str] | None
    count_GCC: np.ndarray


def check_kinds(table: PredictionTable, columns: Columns) -> None:
    """Refuse predictions that are scores, or of another kind than the labels.

    Raises:
        UserError: in either case.
    """
    if table.prediction_N is None:
        return
    labels, predictions = set(table.label_N), set(table.prediction_N)
    if not all(isinstance(name, int) for name in labels):
        if not labels & predictions and all(isinstance(name, int) for name in predictions):
            raise UserError(
                f"{columns.prediction} holds integers but {columns.label} holds names such as "
                f"{min(map(str, labels))!r} ({table.path})"
            )
        return
    texts = sorted(name for name in predictions if isinstance(name, str))
    if texts:
        raise UserError(
            f"{columns.prediction} must hold integer classes as {columns.label} does but got "
            f"{texts[0]!r} ({table.path}); scores go to --probabilities"
        )


def find_axes(tables: Sequence[PredictionTable], columns: Columns, notes: list[str]) -> Axes:
    """Find the classes and groups of all files together; adds what is odd to the notes.

    Raises:
        UserError: too many groups or classes, or probability columns of no known class.
    """
    labels = sorted_names(n for t in tables for n in t.label_N)
    seen = sorted_names([*labels, *(n for t in tables for n in t.prediction_N or ())])
    names: list[Name] = []
    if columns.probabilities:
        names, by_position = probability_names(columns.probabilities, labels, seen)
        if by_position:
            matched = zip(columns.probabilities, names, strict=True)
            pairs = ", ".join(f"{column} = {name}" for column, name in matched)
            notes.append(f"probability columns are matched to classes by position: {pairs}")
    classes = sorted_names([*seen, *names])
    groups = sorted_names(n for t in tables for n in t.group_N)
    if len(groups) > MAX_GROUPS:
        raise UserError(
            f"at most {MAX_GROUPS} groups are compared but {' x '.join(columns.group)} has "
            f"{len(groups)} values ({tables[0].path})"
        )
    if len(groups) * len(classes) ** 2 > MAX_CELLS:
        raise UserError(
            f"{columns.label} and {columns.prediction} hold {len(classes)} classes, too many to "
            f"count ({tables[0].path})"
        )
    notes += [
        f"{name!r} is assessed as a group; leave the cell empty where the group is unknown"
        for name in map(str, groups)
        if {"-1", "unknown"} & set(name.lower().split(" x "))
    ]
    return Axes(classes, groups, names)


def code(table: PredictionTable, axes: Axes) -> Coded:
    """Turn names into indices and count; without predictions the most probable class is taken."""
    label_N, group_N = indices(table.label_N, axes.classes), indices(table.group_N, axes.groups)
    probability_NC = None
    if table.probability_NC is not None:
        probability_NC = np.zeros((len(label_N), len(axes.classes)))
        probability_NC[:, indices(axes.probability_names, axes.classes)] = table.probability_NC
    if table.prediction_N is not None:
        prediction_N = indices(table.prediction_N, axes.classes)
    else:
        assert table.probability_NC is not None
        column_class = indices(axes.probability_names, axes.classes)
        prediction_N = column_class[table.probability_NC.argmax(1)]
    count_GCC = confusion_counts(
        label_N,
        prediction_N,
        group_N,
        num_classes=len(axes.classes),
        num_groups=len(axes.groups),
    )
    return Coded(
        table.path, label_N, prediction_N, group_N, probability_NC, table.image_N, count_GCC
    )


def _order(first: Coded, other: Coded) -> np.ndarray | str:
    """Rows of the other file in the order of the first's images, or why there is none."""
    if first.image_N is None or other.image_N is None:
        return np.arange(len(other.label_N))
    for each in (first, other):
        if len(set(each.image_N or ())) < len(each.image_N or ()):
            return f"{each.path} holds an image twice"
    if set(first.image_N) != set(other.image_N):
        num = len(set(first.image_N) ^ set(other.image_N))
        return f"{num} images are in only one of {first.path} and {other.path}"
    place = {name: row for row, name in enumerate(other.image_N)}
    return np.array([place[name] for name in first.image_N], dtype=np.int64)


def match_rows(first: Coded, other: Coded) -> Coded | str:
    """The other file with its rows in the order of the first's, or why there are no such.

    By the image column where both have one, else by the order of rows, which holds where labels
    and groups agree in every row.
    """
    if len(first.label_N) != len(other.label_N):
        numbers = f"{len(first.label_N)} and {len(other.label_N)}"
        return f"{first.path} and {other.path} hold {numbers} rows"
    order_N = _order(first, other)
    if isinstance(order_N, str):
        return order_N
    for what, mine_N, theirs_N in (
        ("label", first.label_N, other.label_N),
        ("group", first.group_N, other.group_N),
    ):
        off = np.flatnonzero(mine_N != theirs_N[order_N])
        if len(off):
            hint = "" if first.image_N else " (--image COLUMN matches rows by name)"
            return f"{first.path} and {other.path} differ in the {what} of {len(off)} rows{hint}"
    probability_NC = other.probability_NC
    return replace(
        other,
        label_N=other.label_N[order_N],
        prediction_N=other.prediction_N[order_N],
        group_N=other.group_N[order_N],
        probability_NC=None if probability_NC is None else probability_NC[order_N],
        image_N=first.image_N,
    )
