"""Parts of the document of ``evaluate``: patients, figures of groups, the reference.

Shape legend: N rows, S seeds, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from orchestrator.evaluation.prediction_table import PredictionTable
from orchestrator.evaluation.seeds import mean_summary
from orchestrator.evaluation.verdicts import as_json
from trainables.metrics.fairness import GAPS
from trainables.metrics.group_figures import group_figures
from trainables.metrics.group_values import Predictions
from trainables.metrics.summary import compare


def images_per_patient(table: PredictionTable) -> dict[str, Any]:
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


def patient_numbers(table: PredictionTable) -> np.ndarray:
    """A number for each patient; rows without one are a patient each."""
    num = len(table.label_N)
    if table.patient_N is None:
        return np.arange(num)
    names = [f"p{name}" if name else f"r{row}" for row, name in enumerate(table.patient_N)]
    return np.unique(names, return_inverse=True)[1]


def add_group_figures(
    result: dict[str, Any], samples: Predictions, groups: list[str], replicates: int
) -> None:
    """Add what is known of each group and of all rows, with intervals."""
    found = group_figures(samples, num_replicates=replicates, min_support=result["min_support"])
    names = ["auroc", "ece", "brier"] if samples.probability_SNC is not None else []
    if samples.malignant_C is not None:
        names += ["underdiagnosis", "selection_rate"]
        names += ["sensitivity", "specificity"] if names[0] == "auroc" else []
    result |= {"group_interval": {}, "group_bias_amplification": {}}
    for g, name in enumerate(groups):
        figures = found.groups[g]
        result["groups"][name] |= {
            key: figures[key].value if key in figures else None for key in names
        }
        amplification = figures.get("bias_amplification")
        result["group_bias_amplification"][name] = amplification.value if amplification else None
        result["group_interval"][name] = {key: as_json(v) for key, v in figures.items()}
    result |= {name: getattr(found.overall.get(name), "value", None) for name in names}
    result["overall_interval"] = {key: as_json(v) for key, v in found.overall.items()}
    amplified = found.between.get("bias_amplification")
    result["bias_amplification"] = amplified.value if amplified else None
    if amplified is None:
        result["undefined"]["bias_amplification"] = "fewer than two groups assessed"
    result["between_interval"] = {key: as_json(v) for key, v in found.between.items()}
    if found.threshold_S:
        result["thresholds"] = list(found.threshold_S)
        result["specificity_target"] = samples.specificity


def add_reference(
    result: dict[str, Any], summaries: Sequence[dict[str, Any]], notes: list[str]
) -> dict[str, str]:
    """Add FATE and each group's change; returns why a FATE is undefined."""
    if not summaries:
        result |= {"reference": None, "tag": None, "group_changes": {}, "changes": {}}
        result |= {f"fate_{gap}": None for gap in GAPS}
        return {f"fate_{gap}": "no reference given" for gap in GAPS}
    before = mean_summary(summaries)
    comparison = compare(result, before)
    undefined: dict[str, str] = comparison.pop("undefined")
    result |= comparison
    result["reference"] = {key: before[key] for key in ("num_samples", "f1", *GAPS, "undefined")}
    return undefined
