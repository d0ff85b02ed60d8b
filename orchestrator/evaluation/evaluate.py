"""Every metric for the predictions of any model, from files; with a reference also FATE.

Several files are several seeds of one model on the same images: each training writes its own file,
so that none has to be joined. Figures are then means over seeds.

Shape legend: N rows, S seeds, A arms; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.evaluation.coding import Axes, Coded, check_kinds, code, find_axes, match_rows
from orchestrator.evaluation.figures import (
    add_group_figures,
    add_reference,
    images_per_patient,
    patient_numbers,
)
from orchestrator.evaluation.prediction_table import (
    Columns,
    group_columns,
    header_of,
    read_predictions,
)
from orchestrator.evaluation.seeds import mean_summary
from orchestrator.evaluation.verdicts import Samples, evidence
from orchestrator.evaluation.view import render
from trainables.errors import UserError
from trainables.metrics.confusion import counts_digest
from trainables.metrics.fairness import GAPS, Mode, check_mode
from trainables.metrics.group_values import Predictions
from trainables.metrics.summary import summarise

__all__ = ["evaluate_file", "render"]

INDEPENDENT = "assumes independent images: several images of one patient count as unrelated"
PARITY = "demographic_parity differs with prevalence; not a harm by itself"
ONE_SEED = "one file, one seed: intervals hold the draw of patients, not another training"
DEFINITIONS = {
    "eopp0": "mean over classes of |difference in TNR|",
    "eopp1": "mean over classes of |difference in TPR|",
    "eodd": "mean over classes of |difference in TPR + difference in FPR| / 2 (signed)",
    "eodd_hardt": "mean over classes of (|difference in TPR| + |difference in FPR|) / 2",
    "more_than_two_groups": "largest over pairs of groups; *_mean is the mean over pairs",
    "floor": "mean over permutations of patients' groups among patients with the same classes",
    "p_value": "share of permutations with at least this gap; predictions independent of group "
    "given class",
    "smallest_detectable_gap": "the gap of the true rates, on the gap's own scale and "
    "without sampling noise, that is found at 5 % with 80 % power where one group's TPR is lower "
    "by the same in every class",
    "bias_amplification": "Wang and Russakovsky 2021, attribute to task, direction by labels",
    "underdiagnosis": "share of malignant rows predicted as a benign class",
    "sensitivity": "share of malignant rows above the threshold, chosen on all rows, then fixed",
}


def _files(path: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    if path is None:
        return []
    return [path] if isinstance(path, str | Path) else list(path)


def _names(text: str | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(text, str):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    return tuple(text or ())


def _mode(mode: str, absent: str | None) -> Mode:
    """One reading of absent classes: ``--absent zero`` is what ``--mode paper`` means for gaps."""
    check_mode(mode, 2)
    if absent is None:
        return mode  # type: ignore[return-value]
    if absent not in ("skip", "zero"):
        raise UserError(f"absent must be one of skip, zero but got {absent!r}")
    if mode == "paper" and absent == "skip":
        raise UserError("mode paper reads absent classes as zero, so absent cannot be 'skip'")
    return "paper" if absent == "zero" else "corrected"


def _check_numbers(replicates: int, min_support: int, specificity: float) -> None:
    if not 2 <= replicates <= 1_000_000:
        raise UserError(f"replicates must be between 2 and 1000000 but got {replicates}")
    if min_support < 1:
        raise UserError(f"min support must be at least 1 but got {min_support}")
    if not 0 < specificity < 1:
        raise UserError(f"specificity must be in (0, 1) but got {specificity:g}")


def _malignant(names: tuple[str, ...], axes: Axes) -> np.ndarray | None:
    if not names:
        return None
    classes = list(map(str, axes.classes))
    for name in names:
        if name not in classes:
            raise UserError(
                f"malignant class {name!r} is not among the classes ({', '.join(classes[:12])})"
            )
    chosen = np.isin(classes, names)
    if chosen.all():
        raise UserError("malignant names every class, none is left to be benign")
    return chosen


def _same_images(coded: Sequence[Coded], what: str) -> list[Coded]:
    """Files of one arm, rows in the order of the first.

    Raises:
        UserError: they are not of the same images.
    """
    matched = [coded[0]]
    for other in coded[1:]:
        found = match_rows(coded[0], other)
        if isinstance(found, str):
            raise UserError(f"{what} of several seeds must be of the same images: {found}")
        matched.append(found)
    return matched


def _pair(own: Sequence[Coded], other: Sequence[Coded]) -> tuple[list[Coded], str | None]:
    """The reference's files in the order of ours, or none and why not."""
    if not other:
        return [], None
    if len(own) != len(other):
        return [], f"{len(own)} files of predictions but {len(other)} of the reference"
    matched = []
    for each in other:
        found = match_rows(own[0], each)
        if isinstance(found, str):
            return [], found
        matched.append(found)
    return matched, None


def _digest(coded: Sequence[Coded]) -> str:
    """Of the counts; of several seeds with one more axis before."""
    counts = [each.count_GCC for each in coded]
    return counts_digest(counts[0] if len(counts) == 1 else np.stack(counts))


def evaluate_file(
    path: str | Path | Sequence[str | Path],
    *,
    label: str = "y_true",
    prediction: str = "y_pred",
    group: str = "group",
    reference: str | Path | Sequence[str | Path] | None = None,
    patient: str | None = None,
    image: str | None = None,
    probabilities: str | Sequence[str] | None = None,
    mode: Mode = "corrected",
    absent: str | None = None,
    min_support: int = 1,
    within: str | Sequence[str] | None = None,
    malignant: str | Sequence[str] | None = None,
    specificity: float = 0.9,
    replicates: int = 2_000,
    keep_counts: bool = False,
) -> dict[str, Any]:
    """Compute every metric for the predictions in CSV or Parquet files.

    Args:
        path: one row an image; several files are several seeds, of the same images.
        label: column of true classes, integers or text.
        prediction: column of predicted classes; may be absent when ``probabilities`` is given.
        group: column of the sensitive attribute, or several between commas for intersections;
            rows where one is empty are left out and counted.
        reference: predictions to compare with (same columns); gives FATE. The classes and groups
            are those of all files together.
        patient: column that says which images belong together.
        image: column that names each image, by which rows of several files are matched.
        probabilities: columns of class probabilities, a list or one comma-separated text.
        mode: ``corrected`` skips classes that a group lacks, ``paper`` reads their rates as 0.
        absent: ``skip`` or ``zero``, the same by another name; ``zero`` is for two groups.
        min_support: groups with fewer rows are not assessed.
        within: columns whose values only rows that agree in them exchange groups for the floor.
        malignant: the malignant classes, for sensitivity, underdiagnosis and selection rate.
        specificity: at which sensitivity is measured.
        replicates: of patients, and of permutations.
        keep_counts: leave the counts (summed over seeds) under ``_counts``, for the page.

    Returns:
        The document that ``orchestrator/schemas/evaluate.json`` describes: JSON-able, never NaN.

    Raises:
        UserError: the file, a column or a value is not what it should be.
    """
    mode = _mode(mode, absent)  # before anything is read
    _check_numbers(replicates, min_support, specificity)
    files, references = _files(path), _files(reference)
    wanted = _names(probabilities)
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--probabilities names a column twice: {','.join(wanted)}")
    by = group_columns(group, header_of(files[0]))
    if not by:
        raise UserError("group names no column")
    columns = Columns(label, prediction, by, patient, wanted, image, _names(within))
    bare = replace(columns, patient=None, within=())
    own = [read_predictions(files[0], columns)]
    own += [read_predictions(file, bare) for file in files[1:]]
    theirs = [read_predictions(file, bare, probabilities=False) for file in references]
    tables = [*own, *theirs]
    for each in tables:
        check_kinds(each, columns)
    notes = [PARITY] if patient else [INDEPENDENT, PARITY]
    axes = find_axes(tables, columns, notes)
    if absent == "zero" and len(axes.groups) != 2:
        raise UserError(
            f"absent 'zero' is defined for 2 groups but {' x '.join(by)} has {len(axes.groups)}: "
            "leave --absent out, or name 'skip'"
        )
    check_mode(mode, len(axes.groups))
    malignant_C = _malignant(_names(malignant), axes)
    coded = _same_images([code(each, axes) for each in own], "predictions")
    reference_coded = [code(each, axes) for each in theirs]
    groups = list(map(str, axes.groups))

    def summary(each: Coded) -> dict[str, Any]:
        return summarise(
            each.count_GCC, groups=groups, classes=list(map(str, axes.classes)), mode=mode,
            min_support=min_support,
        )  # fmt: skip

    result: dict[str, Any] = {
        "predictions": own[0].path,
        "files": [table.path for table in own],
        "num_seeds": len(own),
        "group_columns": list(by),
        "classes": axes.classes,
        "num_unknown_group": own[0].num_unknown_group,
        "counts_digest": _digest(coded),
        "absent": "zero" if mode == "paper" else "skip",
        "definitions": DEFINITIONS,
    } | mean_summary([summary(each) for each in coded])
    if keep_counts:
        result["_counts"] = np.sum([each.count_GCC for each in coded], axis=0)
    if len(own) == 1:
        notes.append(ONE_SEED)
    if own[0].num_unknown_group:
        notes.append(f"{own[0].num_unknown_group} rows without a group are in no figure")
    if patient:
        result |= images_per_patient(own[0])
        if result["num_unknown_patient"]:
            notes.append(
                f"{result['num_unknown_patient']} rows have no patient: one each"
            )
    undefined = add_reference(result, [summary(each) for each in reference_coded], notes)
    paired, unpaired = _pair(coded, reference_coded)
    if reference_coded:
        result["reference"] = {
            "predictions": theirs[0].path,
            "files": [table.path for table in theirs],
            "num_unknown_group": theirs[0].num_unknown_group,
            "counts_digest": _digest(reference_coded),
        } | result["reference"]
        first, other = coded[0].count_GCC, reference_coded[0].count_GCC
        if not np.array_equal(first.sum(2), other.sum(2)):
            notes.append("the reference has other images: true classes per group differ")
    skipped = [g for g, name in enumerate(groups) if name in result["not_assessed"]]
    arms = [coded, *([paired] if paired else [])]
    group_N = np.where(np.isin(coded[0].group_N, skipped), -1, coded[0].group_N)
    patient_N = patient_numbers(own[0])
    samples = Samples(
        label_N=coded[0].label_N, group_N=group_N, patient_N=patient_N,
        prediction_ASN=np.stack([np.stack([c.prediction_N for c in arm]) for arm in arms]),
        num_classes=len(axes.classes), num_groups=len(groups),
        within=tuple(np.array(column) for column in own[0].within_N), mode=mode, unpaired=unpaired,
    )  # fmt: skip
    result["undefined"] |= undefined
    result |= evidence(
        samples, {gap: result[gap] for gap in GAPS}, num_replicates=replicates,
        reference=bool(references), undefined=result["undefined"],
    )  # fmt: skip
    scores = [c.probability_NC for c in coded if c.probability_NC is not None]
    if scores:
        num_other = int(sum((c.probability_NC.argmax(1) != c.prediction_N).sum() for c in coded))  # type: ignore[union-attr]
        if num_other:
            notes.append(f"{prediction} is not the most probable class in {num_other} rows")
    add_group_figures(
        result,
        Predictions(
            coded[0].label_N, coded[0].group_N, patient_N, samples.prediction_ASN[0],
            np.stack(scores) if scores else None, malignant_C, len(axes.classes), len(groups),
            specificity,
        ),
        groups,
        replicates,
    )  # fmt: skip
    return result | {"notes": notes}
