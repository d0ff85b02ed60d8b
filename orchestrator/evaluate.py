"""Every metric for the predictions of any model, from a file; with a reference also FATE.

Shape legend: N rows, G groups, C classes; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from orchestrator.evaluate_view import CALIBRATION, render
from orchestrator.prediction_table import (
    Columns,
    Name,
    PredictionTable,
    indices,
    probability_names,
    read_predictions,
    sorted_names,
)
from trainables.errors import UserError
from trainables.metrics.calibration import auroc, brier_score, expected_calibration_error
from trainables.metrics.confusion import confusion_counts, counts_digest
from trainables.metrics.fairness import GAPS, Mode, check_mode
from trainables.metrics.summary import compare, summarise

__all__ = ["evaluate_file", "render"]

MAX_GROUPS = 100
MAX_CELLS = 2**25  # groups x classes x classes: 256 MiB of counts
INDEPENDENT = "assumes independent images: several images of one patient count as unrelated"
PARITY = "demographic_parity differs with prevalence; not a harm by itself"


@dataclass(frozen=True)
class _Axes:
    """The classes and groups that the file and its reference have between them."""

    classes: list[Name]
    groups: list[Name]
    probability_names: list[Name]  # the class of each probability column


@dataclass(frozen=True)
class _Coded:
    """One file with classes and groups as indices, and its counts."""

    label_N: np.ndarray
    prediction_N: np.ndarray
    group_N: np.ndarray
    count_GCC: np.ndarray


def _check_kinds(table: PredictionTable, columns: Columns) -> None:
    """Refuse predictions that are scores, or of another kind than the labels."""
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


def _images_per_patient(table: PredictionTable) -> dict[str, Any]:
    """How many patients there are and how many images each has."""
    assert table.patient_N is not None
    count: dict[str, int] = {}
    for patient in table.patient_N:
        if patient is not None:
            count[patient] = count.get(patient, 0) + 1
    sizes = list(count.values()) or [0]
    return {
        "num_patients": len(count),
        "num_unknown_patient": table.patient_N.count(None),
        "images_per_patient": {
            "min": min(sizes),
            "median": float(median(sizes)),
            "mean": float(np.mean(sizes)),
            "max": max(sizes),
        },
    }


def _calibration(label_N: np.ndarray, probability_NC: np.ndarray) -> dict[str, float | None]:
    """The figures that need probabilities, for one set of rows."""
    return {
        "auroc": auroc(label_N, probability_NC),
        "ece": expected_calibration_error(label_N, probability_NC),
        "brier": brier_score(label_N, probability_NC),
    }


def _axes(tables: Sequence[PredictionTable], columns: Columns, notes: list[str]) -> _Axes:
    """Find the classes and groups of all files together; adds what is odd to the notes."""
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
            f"at most {MAX_GROUPS} groups are compared but {columns.group} has {len(groups)} "
            f"values ({tables[0].path})"
        )
    if len(groups) * len(classes) ** 2 > MAX_CELLS:
        raise UserError(
            f"{columns.label} and {columns.prediction} hold {len(classes)} classes, too many to "
            f"count ({tables[0].path})"
        )
    notes += [
        f"{name!r} is assessed as a group; leave the cell empty where the group is unknown"
        for name in map(str, groups)
        if name.lower() in ("-1", "unknown")
    ]
    return _Axes(classes, groups, names)


def _code(table: PredictionTable, axes: _Axes) -> _Coded:
    """Turn names into indices and count; without predictions the most probable class is taken."""
    label_N, group_N = indices(table.label_N, axes.classes), indices(table.group_N, axes.groups)
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
    return _Coded(label_N, prediction_N, group_N, count_GCC)


def _add_calibration(
    result: dict[str, Any], table: PredictionTable, coded: _Coded, axes: _Axes
) -> int:
    """Add AUROC, ECE and Brier score; returns how many predictions are not the argmax."""
    assert table.probability_NC is not None
    probability_NC = np.zeros((len(coded.label_N), len(axes.classes)))
    probability_NC[:, indices(axes.probability_names, axes.classes)] = table.probability_NC
    result |= _calibration(coded.label_N, probability_NC)
    for g, name in enumerate(map(str, axes.groups)):
        of_group = coded.group_N == g
        result["groups"][name] |= (
            dict.fromkeys(CALIBRATION)
            if name in result["not_assessed"]
            else _calibration(coded.label_N[of_group], probability_NC[of_group])
        )
    return int((probability_NC.argmax(1) != coded.prediction_N).sum())


def evaluate_file(
    path: str | Path,
    *,
    label: str = "y_true",
    prediction: str = "y_pred",
    group: str = "group",
    reference: str | Path | None = None,
    patient: str | None = None,
    probabilities: str | Sequence[str] | None = None,
    mode: Mode = "corrected",
    min_support: int = 1,
) -> dict[str, Any]:
    """Compute every metric for the predictions in a CSV or Parquet file.

    Args:
        path: one row an image.
        label: column of true classes, integers or text.
        prediction: column of predicted classes; may be absent when ``probabilities`` is given.
        group: column of the sensitive attribute; rows where it is empty are left out and counted.
        reference: predictions to compare with (same columns); gives FATE. The classes and groups
            are those of both files together.
        patient: column that says which images belong together.
        probabilities: columns of class probabilities, a list or one comma-separated text.
        mode: ``corrected`` skips classes that a group lacks, ``paper`` reads their rates as 0.
        min_support: groups with fewer rows are not assessed.

    Returns:
        The document that ``orchestrator/schemas/evaluate.json`` describes: JSON-able, never NaN.

    Raises:
        UserError: the file, a column or a value is not what it should be.
    """
    check_mode(mode, 2)  # before anything is read
    if isinstance(probabilities, str):
        probabilities = [name.strip() for name in probabilities.split(",") if name.strip()]
    columns = Columns(label, prediction, group, patient, tuple(probabilities or ()))
    if len(set(columns.probabilities)) < len(columns.probabilities):
        raise UserError(f"--probabilities names a column twice: {','.join(columns.probabilities)}")
    table = read_predictions(path, columns)
    tables = [table]
    if reference is not None:
        without_patient = replace(columns, patient=None)
        tables.append(read_predictions(reference, without_patient, probabilities=False))
    for each in tables:
        _check_kinds(each, columns)
    notes = [INDEPENDENT, PARITY]
    axes = _axes(tables, columns, notes)
    check_mode(mode, len(axes.groups))
    coded = [_code(each, axes) for each in tables]
    summaries = [
        summarise(
            each.count_GCC,
            groups=list(map(str, axes.groups)),
            classes=list(map(str, axes.classes)),
            mode=mode,
            min_support=min_support,
        )
        for each in coded
    ]
    result: dict[str, Any] = {
        "predictions": table.path,
        "classes": axes.classes,
        "num_unknown_group": table.num_unknown_group,
        "counts_digest": counts_digest(coded[0].count_GCC),
    } | summaries[0]
    if table.num_unknown_group:
        notes.append(f"{table.num_unknown_group} rows without a group are in no figure")
    if patient:
        result |= _images_per_patient(table)
        notes.append(
            f"{result['num_patients']} patients in column {patient!r}: counted, but no interval "
            "over patients is computed here"
        )
    if table.probability_NC is not None:
        num_other = _add_calibration(result, table, coded[0], axes)
        if num_other:
            notes.append(f"{prediction} is not the most probable class in {num_other} rows")
    if reference is None:
        result |= {"reference": None, "tag": None, "group_changes": {}, "changes": {}}
        result |= {f"fate_{gap}": None for gap in GAPS}
        undefined = {f"fate_{gap}": "no reference given" for gap in GAPS}
    else:
        comparison = compare(summaries[0], summaries[1])
        undefined = comparison.pop("undefined")
        kept = ("num_samples", "f1", *GAPS, "undefined")
        result |= comparison
        result["reference"] = {
            "predictions": tables[1].path,
            "num_unknown_group": tables[1].num_unknown_group,
            "counts_digest": counts_digest(coded[1].count_GCC),
        } | {key: summaries[1][key] for key in kept}
        if not np.array_equal(coded[0].count_GCC.sum(2), coded[1].count_GCC.sum(2)):
            notes.append("the reference has other images: true classes per group differ")
    return result | {"undefined": result["undefined"] | undefined, "notes": notes}
