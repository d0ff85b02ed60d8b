"""Gaps between groups: Eopp0, Eopp1, Eodd (signed and Hardt's) and demographic parity.

Two readings of a class that a group does not have. ``corrected``: its rate is undefined there, the
class is skipped and the mean is over the classes counted. ``paper`` (arXiv 2405.08681, after
FairPrune): the rate is 0 and the mean is over all classes, which inflates the gap.

Shape legend: G groups, C classes; GCC is (group, true class, predicted class).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from trainables.errors import UserError

Mode = Literal["corrected", "paper"]
GAPS = ("eopp0", "eopp1", "eodd", "eodd_hardt")


@dataclass(frozen=True)
class Rates:
    """One-versus-rest rates per group and class; NaN where the denominator is 0."""

    tpr_GC: np.ndarray
    fpr_GC: np.ndarray
    tnr_GC: np.ndarray


@dataclass(frozen=True)
class Gap:
    """One gap over all pairs of groups.

    ``value`` is the maximum over pairs, ``mean`` the mean over pairs (the same with two groups,
    both None when no pair has a class to compare). ``worst_pair`` holds group indices.
    ``skipped_classes`` are the indices of classes left out in at least one pair.
    """

    value: float | None
    mean: float | None
    worst_pair: tuple[int, int] | None
    undefined_pairs: tuple[tuple[int, int], ...]
    skipped_classes: tuple[int, ...]


def _rate(numerator_GC: np.ndarray, denominator_GC: np.ndarray) -> np.ndarray:
    out_GC = np.full(numerator_GC.shape, np.nan)
    return np.divide(numerator_GC, denominator_GC, out=out_GC, where=denominator_GC > 0)


def rates(count_GCC: np.ndarray) -> Rates:
    """True positive, false positive and true negative rate of each class against the rest."""
    hit_GC = np.diagonal(count_GCC, axis1=1, axis2=2)
    support_GC, predicted_GC = count_GCC.sum(2), count_GCC.sum(1)
    false_GC = predicted_GC - hit_GC
    negative_GC = count_GCC.sum((1, 2))[:, None] - support_GC
    return Rates(
        tpr_GC=_rate(hit_GC, support_GC),
        fpr_GC=_rate(false_GC, negative_GC),
        tnr_GC=_rate(negative_GC - false_GC, negative_GC),
    )


def _pair_terms(rate: Rates, a: int, b: int) -> dict[str, np.ndarray]:
    """Each gap's term per class for one pair of groups, NaN where a rate is undefined."""
    tpr_C = rate.tpr_GC[a] - rate.tpr_GC[b]
    fpr_C = rate.fpr_GC[a] - rate.fpr_GC[b]
    tnr_C = rate.tnr_GC[a] - rate.tnr_GC[b]
    return {
        "eopp0": np.abs(tnr_C),
        "eopp1": np.abs(tpr_C),
        "eodd": np.abs(tpr_C + fpr_C) / 2,
        "eodd_hardt": (np.abs(tpr_C) + np.abs(fpr_C)) / 2,
    }


def check_mode(mode: str, num_groups: int) -> None:
    """Refuse an unknown mode, and ``paper`` for anything but two groups.

    Raises:
        UserError: in either case.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode must be one of {', '.join(get_args(Mode))} but got {mode!r}")
    if mode == "paper" and num_groups != 2:
        raise UserError(f"mode paper is defined for 2 groups but got {num_groups}, use corrected")


def fairness_gaps(count_GCC: np.ndarray, *, mode: Mode = "corrected") -> Mapping[str, Gap]:
    """Eopp0, Eopp1, Eodd and Hardt's equalized odds between the groups given.

    With ``d`` a difference between two groups, and a mean over the classes counted:
    Eopp0 = mean |dTNR|, Eopp1 = mean |dTPR|, Eodd = mean |dTPR + dFPR| / 2 (the sum is signed, so
    opposite gaps cancel; FairPrune's and the paper's reading), Eodd of Hardt et al. 2016 =
    mean (|dTPR| + |dFPR|) / 2. More than two groups: the maximum over pairs.

    Args:
        count_GCC: counts of the groups to compare; leave groups not to be assessed out.
        mode: see the module's docstring.

    Returns:
        One ``Gap`` for each name in ``GAPS``.

    Raises:
        UserError: ``paper`` with other than two groups.
    """
    num_groups, num_classes = count_GCC.shape[:2]
    check_mode(mode, num_groups)
    rate = rates(count_GCC)
    if mode == "paper":
        rate = Rates(*(np.nan_to_num(v) for v in (rate.tpr_GC, rate.fpr_GC, rate.tnr_GC)))
    pairs = list(itertools.combinations(range(num_groups), 2))
    terms = {pair: _pair_terms(rate, *pair) for pair in pairs}
    gaps = {}
    for name in GAPS:
        defined = {pair: ~np.isnan(term[name]) for pair, term in terms.items()}
        value = {
            pair: float(terms[pair][name][keep_C].mean())
            for pair, keep_C in defined.items()
            if keep_C.any()
        }
        skipped_C = ~np.logical_and.reduce([*defined.values(), np.ones(num_classes, bool)])
        worst = max(value, key=value.__getitem__) if value else None
        gaps[name] = Gap(
            value=value[worst] if worst else None,
            mean=float(np.mean(list(value.values()))) if value else None,
            worst_pair=worst,
            undefined_pairs=tuple(pair for pair in pairs if pair not in value),
            skipped_classes=tuple(np.flatnonzero(skipped_C).tolist()),
        )
    return gaps


def demographic_parity(count_GCC: np.ndarray) -> float | None:
    """Mean over classes of the largest difference between groups in P(predicted class | group).

    Differs with prevalence: groups with other diseases should get other predictions, so a
    difference is not a harm by itself. None with fewer than two groups or an empty one.
    """
    num_samples_G = count_GCC.sum((1, 2))
    if len(count_GCC) < 2 or not num_samples_G.all():
        return None
    share_GC = count_GCC.sum(1) / num_samples_G[:, None]
    return float((share_GC.max(0) - share_GC.min(0)).mean())
