"""From counts to figures: one row a threshold, of one model or of several seeds together.

Shape legend: E exits, G groups, S seeds; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.metrics.fairness import Mode
from trainables.metrics.summary import summarise
from trainables.models.exits import ExitCounts

SUMMARY = ("f1", "eopp1", "eodd_hardt")


@dataclass(frozen=True)
class About:
    """What the counts do not know: names, and how absent classes are read."""

    groups: Sequence[str]
    classes: Sequence[str]
    mode: Mode


def row(threshold: float, counts: Sequence[ExitCounts], about: About) -> dict[str, Any]:
    """Figures of one threshold, of the counts of one model or of those of S seeds.

    Shares and accuracies are those of all seeds' images together, so that shares times accuracies
    always add up to the overall accuracy; F1 and gaps are means over seeds, as everywhere.
    """
    left_GE = np.sum([one.left_GE for one in counts], axis=0)
    right_GE = np.sum([one.right_GE for one in counts], axis=0)
    found = [
        summarise(one.count_GCC, groups=about.groups, classes=about.classes, mode=about.mode)
        for one in counts
    ]
    groups = {
        name: {
            "num_images": int(left_GE[g].sum()) // len(counts),
            **_leaving(left_GE[g], right_GE[g]),
            "f1": _mean([one["groups"][name]["f1"] for one in found]),
        }
        for g, name in enumerate(about.groups)
    }
    return {
        "threshold": threshold,
        **_leaving(left_GE.sum(0), right_GE.sum(0)),
        **{name: _mean([one[name] for one in found]) for name in SUMMARY},
        "groups": groups,
    }


def _leaving(left_E: np.ndarray, right_E: np.ndarray) -> dict[str, Any]:
    """Shares and accuracies of exits; None where there is no image to have them."""
    num = int(left_E.sum())
    pairs = list(zip(left_E.tolist(), right_E.tolist(), strict=True))
    return {
        "share": [left / num if num else None for left, _ in pairs],
        "accuracy": [right / left if left else None for left, right in pairs],
        "overall_accuracy": int(right_E.sum()) / num if num else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean over seeds; None as soon as one seed's figure is undefined."""
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if len(defined) == len(values) else None
