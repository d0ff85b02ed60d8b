"""Which images exchange their groups together in a permutation: whole patients where that can be.

A patient moves as a whole among patients with the same multiset of classes. Where no patient of
another group has the same, or where a patient's images lie in several groups, keeping the patient
where it is would leave its share of the real gap in the floor. For the floor such a patient is
taken apart: first into its images of one class and group, which exchange with as many images of
that class of another patient; what still has no counterpart then image by image. What finds none
even so stays. A floor is a mean over classes, so that what a patient's images of different classes
share does not matter to it. To the spread of that mean it does: p-values are of whole patients
alone (with parts, 5 % tests rejected 9 % where half of a patient's answers were shared).

Shape legend: N samples, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainables.metrics.gap_statistics import strata, unit_numbers

LEAST_WHOLE = 0.9
"""Share of the patients that must move as a whole for the permutations to stand for a test set
without a gap.
"""


@dataclass(frozen=True)
class Exchange:
    """What moves together.

    Attributes:
        unit_N: number of each sample's unit, to be given as ``patient_N``.
        num_patients: of known group.
        num_comparable: of them, those with an image of a class that two groups have.
        num_whole: patients that move as a whole.
        num_split: patients of which a part moves, class by class or image by image.
        num_fixed: comparable patients of which nothing moves.
        num_in_several_groups: patients with samples in several groups.
    """

    unit_N: np.ndarray = field(compare=False, repr=False)
    num_patients: int
    num_comparable: int
    num_whole: int
    num_split: int
    num_fixed: int
    num_in_several_groups: int

    @property
    def is_mostly_whole(self) -> bool:
        """Whether permuted patients stand for the test set; those of classes that one group alone
        has do not count, for no gap is seen in them.
        """
        return self.num_whole >= LEAST_WHOLE * self.num_comparable

    @property
    def note(self) -> str | None:
        """What a reader should know of a floor; None where nearly all move as a whole."""
        if self.is_mostly_whole:
            return None
        text = (
            f"{self.num_whole} of {self.num_comparable} patients have a counterpart of another "
            f"group with the same classes; for the floor {self.num_split} exchange groups class "
            "by class or image by image"
        )
        if self.num_fixed:
            text += f", {self.num_fixed} cannot, and their share of the gap is in it"
        return text + "; the p-value moves whole patients alone and finds a gap less easily"


def exchange_units(
    label_N: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray | None,
    within: Sequence[np.ndarray] = (),
) -> Exchange:
    """Take patients apart as far as they cannot exchange groups as a whole, and no further.

    Args:
        label_N: true classes.
        group_N: groups, -1 where unknown: those samples are not looked at.
        patient_N: of ``count_units``.
        within: of ``count_units``.

    Raises:
        ValueError: patients are neither integers nor strings, or lengths differ.
    """
    label_N, group_N = np.asarray(label_N), np.asarray(group_N)
    patient_N = unit_numbers(patient_N, len(label_N))
    known_N = group_N >= 0
    group, patient = group_N[known_N], patient_N[known_N]
    columns = [label_N, *map(np.asarray, within)]
    codes = [np.unique(column_N[known_N], return_inverse=True)[1] for column_N in columns]
    key = _numbered(*codes)
    unit = np.unique(patient, return_inverse=True)[1]
    whole = _moves(unit, group, key)
    moves = whole
    for parts in (_numbered(unit, group, key), np.arange(len(unit))):
        if moves.all():
            break
        unit = _numbered(np.where(moves, unit, -1), np.where(moves, -1, parts))
        moves = _moves(unit, group, key)
    unit_N = np.arange(len(label_N))
    unit_N[known_N] = unit
    unit_N[~known_N] += len(unit)
    class_C, num_groups_C = np.unique(
        np.unique(np.stack([codes[0], group]), axis=1)[0], return_counts=True
    )
    comparable = np.isin(codes[0], class_C[num_groups_C > 1])
    everyone, in_common, was_whole, moved = (
        len(np.unique(p)) for p in (patient, patient[comparable], patient[whole], patient[moves])
    )
    pairs = np.unique(np.stack([patient, group]), axis=1)
    several = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    return Exchange(
        unit_N, everyone, in_common, was_whole, moved - was_whole, in_common - moved, several
    )


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """Number the different rows."""
    if not len(columns[0]):
        return np.zeros(0, int)
    return np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel()


def _moves(unit: np.ndarray, group: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Which samples are of a unit of one group that has a counterpart in another."""
    if not len(unit):
        return np.zeros(0, bool)
    num = int(unit.max()) + 1
    lowest, highest = np.full(num, group.max()), np.zeros(num, int)
    np.minimum.at(lowest, unit, group)
    np.maximum.at(highest, unit, group)
    stratum_U = strata(unit, key, num)
    single_U = lowest == highest
    seen = np.zeros((int(stratum_U.max()) + 1, int(group.max()) + 1), bool)
    seen[stratum_U[single_U], lowest[single_U]] = True
    moves: np.ndarray = (single_U & (seen.sum(1) > 1)[stratum_U])[unit]
    return moves
