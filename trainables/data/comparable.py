"""Whether gaps between groups can be computed at all, from the numbers of images alone.

A gap is a difference of rates, and a rate needs images: without a class that two groups share
(and, for false positives, images of other classes in both) there is none, so that FATE is
undefined for every model and the front stays empty, however long is trained. That is so in mode
``corrected``; ``paper`` takes the rate of an absent class as 0.

Shape legend: S splits, C classes, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from trainables.data.base import SPLITS, TEST, TRAIN, VALIDATION
from trainables.metrics.fairness import fairness_gaps

NUM_NAMED = 3
NO_CLASS = "no class can be compared between groups"
NO_IMAGE = "no image of group"
MEANS = {
    TRAIN: "what reads the group (snnl, hsic, fairprune, ...) has nothing of it to compare",
    VALIDATION: "FATE is undefined for every model and a front by it stays empty",
    TEST: "`export` and `--split test` have no gap to show",
}
REMEDY = (
    "use coarser classes or groups, another data.attribute or data.split.seed, or more images"
)


def split_counts(
    label_N: np.ndarray,
    group_N: np.ndarray,
    split_N: np.ndarray,
    num_classes: int,
    num_groups: int,
) -> np.ndarray:
    """Images of known group: int64 (S, C, G)."""
    count_SCG = np.zeros((len(SPLITS), num_classes, num_groups), dtype=np.int64)
    known_N = group_N >= 0
    np.add.at(count_SCG, (split_N[known_N], label_N[known_N], group_N[known_N]), 1)
    return count_SCG


def comparability_warnings(
    count_SCG: np.ndarray, classes: Sequence[str], groups: Sequence[str]
) -> tuple[str, ...]:
    """One line for each split in which groups cannot be compared, with what to do about it.

    Args:
        count_SCG: images of known group, in the order of ``SPLITS``.
        classes: names of the C classes.
        groups: names of the G groups.
    """
    lines = []
    for split, name in enumerate(SPLITS):
        count_CG = count_SCG[split]
        empty = [g for g in range(len(groups)) if not count_CG[:, g].sum()]
        rest = len(groups) - len(empty)
        if empty:
            who = f"{name}: {NO_IMAGE} {_some([groups[g] for g in empty])}"
            if rest >= 2:
                lines.append(f"{who}, which is in no figure of that split: {REMEDY}")
            else:
                lines.append(f"{who}: {MEANS[split]}; {REMEDY}")
        if rest >= 2 and split != TRAIN and not _has_gap(count_CG):
            why = _lacking(count_CG, classes, groups)
            lines.append(
                f"{name}: {NO_CLASS} ({why}): in mode corrected "
                f"{MEANS[split]}; {REMEDY}"
            )
    return tuple(lines)


def _has_gap(count_CG: np.ndarray) -> bool:
    """Whether the default objective's gap is defined, by the metric's own rule.

    Rates are defined by how many images there are, not by what is predicted: any prediction tells.
    """
    count_GC = count_CG.T[count_CG.sum(0) > 0]
    count_GCC = count_GC[:, :, None] * np.eye(count_GC.shape[1], dtype=count_CG.dtype)
    return fairness_gaps(count_GCC)["eodd_hardt"].value is not None


def _lacking(count_CG: np.ndarray, classes: Sequence[str], groups: Sequence[str]) -> str:
    """Which classes each group has or lacks, whichever is shorter to say."""
    said = []
    for g, group in enumerate(groups):
        has = [label for c, label in enumerate(classes) if count_CG[c, g]]
        lacks = [label for c, label in enumerate(classes) if not count_CG[c, g]]
        if not has:
            continue
        if len(has) <= len(lacks):
            said.append(f"{group} has only {_some(has)}")
        elif lacks:
            said.append(f"{group} lacks {_some(lacks)}")
    return "; ".join(said)


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{', '.join(names[:NUM_NAMED])}{rest}"


def not_comparable(warnings: Iterable[str], split: str) -> list[str]:
    """Those of a data set's warnings that say why groups cannot be compared in a split."""
    starts = (f"{split}: {NO_CLASS}", f"{split}: {NO_IMAGE}")
    return [line for line in warnings if line.startswith(starts)]
