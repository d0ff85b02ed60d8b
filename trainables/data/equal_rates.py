"""Which Eopp1 a classifier with equal per-class rates scores because groups are small.

Each class has one recall, the same in both groups; the images of a group that are right are then
binomial, so |dTPR| is above 0 although the true gap is 0. The expectation depends on nothing but
the counts per class and group, and is exact here: no simulation.

Shape legend: C classes, G groups, S splits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from trainables.data.base import SPLITS, TEST, VALIDATION

Mode = Literal["corrected", "paper"]
RECALLS = (0.5, 0.8)
"""Per-class recalls of the report: .5 is the noisiest, .8 is near what good models reach."""
NOISY_EOPP1 = 0.05
"""From this expected Eopp1 on, a warning: published gaps on ISIC 2019 are .02 to .09."""


def equal_rates_eopp1(
    count_C0: np.ndarray, count_C1: np.ndarray, recall: float | np.ndarray, mode: Mode
) -> tuple[float | None, float | None]:
    """Mean and standard deviation of Eopp1 when both groups have the same recall in each class.

    Eopp1 is the mean over classes of |TPR - TPR'|. ``corrected`` counts the classes that both
    groups have. ``paper`` counts all C classes and takes the rate of an absent class as 0, so a
    class that only one group has adds that group's whole rate.

    Args:
        count_C0: images of each class in one group.
        count_C1: images of each class in the other group.
        recall: P(right | class) in [0, 1], one for all classes or one a class.
        mode: how absent classes count.

    Returns:
        (mean, standard deviation); (None, None) where no class is left.
    """
    recall_C = np.broadcast_to(np.asarray(recall, dtype=np.float64), np.shape(count_C0))
    means, variances = [], []
    for n, m, p in zip(count_C0.tolist(), count_C1.tolist(), recall_C.tolist(), strict=True):
        if n and m:
            mean = expected_gap(n, m, p)
            means.append(mean)
            variances.append(p * (1 - p) * (1 / n + 1 / m) - mean * mean)
        elif mode == "paper":
            means.append(p if n or m else 0.0)
            variances.append(p * (1 - p) / (n or m) if n or m else 0.0)
    if not means:
        return None, None
    return sum(means) / len(means), math.sqrt(max(0.0, sum(variances))) / len(means)


@lru_cache(maxsize=65536)
def expected_gap(n: int, m: int, p: float) -> float:
    """E|B/n - B'/m| of independent B ~ Bin(n, p) and B' ~ Bin(m, p); n, m > 0.

    With the distribution functions F and F' it is the integral over t of
    F(t) (1 - F'(t)) + F'(t) (1 - F(t)): a sum over n + m steps instead of n m pairs.
    """
    value = np.concatenate([np.arange(n + 1) / n, np.arange(m + 1) / m])
    order = np.argsort(value, kind="stable")
    here = np.cumsum(np.concatenate([binomial(n, p), np.zeros(m + 1)])[order])[:-1]
    there = np.cumsum(np.concatenate([np.zeros(n + 1), binomial(m, p)])[order])[:-1]
    return float(np.diff(value[order]) @ (here * (1 - there) + there * (1 - here)))


def binomial(n: int, p: float) -> np.ndarray:
    """P(k of n) for k = 0 ... n."""
    if p in (0.0, 1.0):
        return np.eye(n + 1)[n if p else 0]
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    return np.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p))


def equal_rates_report(
    count_CG: np.ndarray, groups: Sequence[str], recalls: Sequence[float] = RECALLS
) -> dict[str, Any] | None:
    """Expected Eopp1 of one split at each recall, for the two groups between which it is largest.

    With more than two groups the metric is the maximum over pairs, whose expectation is at least
    the one reported here.

    Returns:
        Plain JSON types, or None with fewer than two groups.
    """
    reports = []
    for a, b in itertools.combinations(range(len(groups)), 2):
        here_C, there_C = count_CG[:, a], count_CG[:, b]
        expected = []
        for recall in recalls:
            corrected, corrected_sd = equal_rates_eopp1(here_C, there_C, recall, "corrected")
            paper, paper_sd = equal_rates_eopp1(here_C, there_C, recall, "paper")
            expected.append(
                {
                    "recall": recall,
                    "corrected": corrected,
                    "corrected_sd": corrected_sd,
                    "paper": paper,
                    "paper_sd": paper_sd,
                }
            )
        reports.append(
            {
                "pair": [groups[a], groups[b]],
                "num_classes_in_both": int(((here_C > 0) & (there_C > 0)).sum()),
                "num_classes_in_one": int(((here_C > 0) ^ (there_C > 0)).sum()),
                "expected": expected,
            }
        )
    return max(reports, key=_size, default=None)


def _size(report: dict[str, Any]) -> float:
    corrected = report["expected"][0]["corrected"]
    return -1.0 if corrected is None else corrected


def equal_rates_lines(equal_rates: dict[str, Any]) -> list[str]:
    """Validation and test for people; ``equal_rates`` is the report of each split by its name."""
    lines = []
    for split in (SPLITS[VALIDATION], SPLITS[TEST]):
        found = equal_rates[split]
        if found is None:
            continue
        values = "; ".join(
            f"recall {each['recall']:g}: {_number(each['corrected'])} corrected, "
            f"{_number(each['paper'])} paper"
            for each in found["expected"]
        )
        lines.append(
            f"{split}: expected Eopp1 of a classifier with equal per-class rates, "
            f"{' / '.join(found['pair'])}: {values}"
        )
    return lines


def equal_rates_warnings(equal_rates: dict[str, Any]) -> list[str]:
    """One line for each of these splits where the expectation is large."""
    lines = []
    for split in (SPLITS[VALIDATION], SPLITS[TEST]):
        found = equal_rates[split]
        if found is None:
            continue
        first = found["expected"][0]
        if first["corrected"] is None:
            continue  # the data set itself says that no gap can be computed
        if first["corrected"] > NOISY_EOPP1:
            lines.append(
                f"{split}: a classifier with equal per-class rates (recall {first['recall']:g}) "
                f"is expected to score Eopp1 {first['corrected']:.3f} because groups are small: "
                "a gap of that size shows nothing"
            )
    return lines


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
