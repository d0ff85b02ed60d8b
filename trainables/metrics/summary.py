"""Every figure of one set of counts as a JSON-able dict, and its comparison with a reference.

Shape legend: A groups assessed, G groups, C classes; GCC is (group, true class, predicted class).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.metrics.fairness import GAPS, Mode, check_mode, demographic_parity, fairness_gaps
from trainables.metrics.fate import fate, levelling_tag, undefined_reason
from trainables.metrics.groups import (
    common_f1,
    group_scores,
    mean_and_difference,
    pooled_scores,
)

GROUP_SCORES = ("precision", "recall", "f1", "accuracy")
CHANGES = ("precision", "recall", "f1")


def _number(value: float | None) -> float | None:
    """A Python float, or None for an undefined value (JSON has no NaN)."""
    return None if value is None or math.isnan(value) else float(value)


def _accuracy_block(count_GCC: np.ndarray, kept: list[int]) -> dict[str, Any]:
    """Mean and difference over the assessed groups, and the pooled figures over all samples."""
    scores = group_scores(count_GCC)
    f1_pooled, accuracy = pooled_scores(count_GCC)
    block: dict[str, Any] = {}
    for name in CHANGES:
        mean, difference = mean_and_difference(getattr(scores, f"{name}_G")[kept])
        block |= {name: mean, f"{name}_diff": difference}
    f1_common_A, common = common_f1(count_GCC[kept])
    mean, difference = mean_and_difference(f1_common_A)
    block |= {"f1_pooled": f1_pooled, "accuracy": accuracy}
    block |= {"f1_common": mean, "f1_common_diff": difference}
    return {k: _number(v) for k, v in block.items()} | {
        "num_common_classes": len(common) if kept else 0
    }


def _reason(name: str, num_assessed: int, num_samples: int) -> str:
    """Why a figure of ``summarise`` is undefined."""
    if not num_samples:
        return "no samples"
    if not num_assessed:
        return "no group assessed"
    if num_assessed == 1:
        return "one group assessed, a gap needs two"
    if name.startswith("f1_common"):
        return "no class has samples in every group"
    return "no class is defined in both groups of any pair"


def summarise(
    count_GCC: np.ndarray,
    *,
    groups: Sequence[str],
    classes: Sequence[str],
    mode: Mode = "corrected",
    min_support: int = 1,
) -> dict[str, Any]:
    """Every metric of one set of counts, as Python numbers, strings, lists and None.

    Args:
        count_GCC: int64 counts of ``confusion_counts``.
        groups: names of the G groups, in the order of the counts.
        classes: names of the C classes, in the order of the counts.
        mode: how a class that a group lacks is read, see ``trainables.metrics.fairness``.
        min_support: groups with fewer samples (at least those with none) are not assessed: they
            are listed in ``not_assessed`` and enter no mean and no gap, only the pooled figures.

    Returns:
        ``num_samples, num_classes, groups, precision, recall, f1, accuracy, f1_pooled`` and so on;
        ``orchestrator/schemas/evaluate.json`` describes each key. An undefined value is None and
        its reason is in ``undefined``. ``skipped_classes`` holds class indices.

    Raises:
        UserError: ``paper`` with other than two groups.
        ValueError: names do not match the counts.
    """
    if count_GCC.shape != (len(groups), len(classes), len(classes)):
        raise ValueError(
            f"counts of shape {count_GCC.shape} for {len(groups)} groups, {len(classes)} classes"
        )
    check_mode(mode, len(groups))
    scores = group_scores(count_GCC)
    size = scores.num_samples_G.tolist()
    kept = [g for g, n in enumerate(size) if n >= max(1, min_support)]
    per_group: dict[str, Any] = {}
    for g, name in enumerate(groups):
        per_group[name] = {"num_samples": size[g]} | {
            key: _number(float(getattr(scores, f"{key}_G")[g])) if g in kept else None
            for key in GROUP_SCORES
        }
    result: dict[str, Any] = {
        "mode": mode,
        "num_samples": sum(size),
        "num_classes": len(classes),
        "num_groups": len(groups),
        "min_support": min_support,
        "groups": per_group,
    } | _accuracy_block(count_GCC, kept)
    worst: dict[str, list[str] | None] = {}
    skipped: dict[str, list[int]] = {}
    undefined_pairs: dict[str, list[list[str]]] = {}
    # One assessed group has no pair in either mode; `paper` would refuse it as a mistake.
    gaps = fairness_gaps(count_GCC[kept], mode=mode if len(kept) == 2 else "corrected")
    for name, gap in gaps.items():
        result |= {name: gap.value, f"{name}_mean": gap.mean}
        skipped[name] = list(gap.skipped_classes)
        worst[name] = [groups[kept[g]] for g in gap.worst_pair] if gap.worst_pair else None
        pairs = [[groups[kept[a]], groups[kept[b]]] for a, b in gap.undefined_pairs]
        if pairs:
            undefined_pairs[name] = pairs
    result["demographic_parity"] = demographic_parity(count_GCC[kept])
    undefined = {
        name: _reason(name, len(kept), sum(size)) for name, v in result.items() if v is None
    }
    return result | {
        "worst_pair": worst,
        "skipped_classes": skipped,
        "undefined_pairs": undefined_pairs,
        "not_assessed": {
            name: f"n = {size[g]}, not assessed" for g, name in enumerate(groups) if g not in kept
        },
        "undefined": undefined,
    }


def _change(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def compare(summary: Mapping[str, Any], reference_summary: Mapping[str, Any]) -> dict[str, Any]:
    """FATE for each gap against a reference, with what each group gained or lost.

    Args:
        summary: of ``summarise``.
        reference_summary: the same, of the reference, with the same mode.

    Returns:
        ``fate_<gap>`` for each gap, ``undefined`` (metric -> reason), ``tag`` (see
        ``levelling_tag``), ``group_changes`` (group -> change in precision, recall, F1) and
        ``changes`` (the change in F1 and in each gap, which stands where FATE is undefined).

    Raises:
        ValueError: the two were made in different modes.
    """
    if summary["mode"] != reference_summary["mode"]:
        modes = f"{summary['mode']} and {reference_summary['mode']}"
        raise ValueError(f"FATE needs one mode for both summaries but got {modes}")
    result: dict[str, Any] = {}
    undefined = {}
    for gap in GAPS:
        values = (summary["f1"], summary[gap], reference_summary["f1"], reference_summary[gap])
        result[f"fate_{gap}"] = fate(*values)
        reason = undefined_reason(*values)
        if reason is not None:
            undefined[f"fate_{gap}"] = reason
    groups, reference_groups = summary["groups"], reference_summary["groups"]
    return result | {
        "undefined": undefined,
        "tag": levelling_tag(groups, reference_groups),
        "group_changes": {
            name: {key: _change(groups[name][key], reference_groups[name][key]) for key in CHANGES}
            for name in groups
            if name in reference_groups
        },
        "changes": {
            name: _change(summary[name], reference_summary[name]) for name in ("f1", *GAPS)
        },
    }
