"""Which images exchange their groups together in a permutation: whole patients where that can be.

A patient moves as a whole among patients with the same multiset of classes. One whose images are
all of one class, and who finds no other with as many, moves among all patients of that class
alone; the number of images that a group has of it varies then. (Kept in its place, a patient with
three of a group's ten images of a rare class would decide what the floor of that class is.)

What is left are patients of several classes or groups without a counterpart. p-values leave them
where they are, which is valid and finds less. For the floor they are taken apart into their images
of one class and group, or their share of the real gap would be in it: a floor is a mean over
classes, so that what a patient's images of different classes share does not matter to it. To the
spread of that mean it does (with parts, 5 % tests rejected 9 % where half of a patient's answers
were shared). What finds no counterpart even so stays.

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
        stratum_N: patients of samples of equal number exchange groups, to be given to
            ``count_units``.
        part_N: number of each sample's part of a patient, to be given as ``patient_N``.
        part_stratum_N: the strata of the parts.
        num_patients: of known group.
        num_comparable: of them, those with an image of a class that two groups have.
        num_whole: patients that move as a whole.
        num_split: patients of which a part moves, class by class.
        num_fixed: comparable patients of which nothing moves.
        num_in_several_groups: patients with samples in several groups.
    """

    stratum_N: np.ndarray = field(compare=False, repr=False)
    part_N: np.ndarray = field(compare=False, repr=False)
    part_stratum_N: np.ndarray = field(compare=False, repr=False)
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
            "by class"
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
    stratum, whole = _strata_and_moves(unit, group, key)
    part = _numbered(np.where(whole, unit, -1), np.where(whole, -1, _numbered(unit, group, key)))
    part_stratum, moves = _strata_and_moves(part, group, key)

    def of_all(known: np.ndarray) -> np.ndarray:
        found_N = len(known) + np.arange(len(label_N))
        found_N[known_N] = known
        return found_N

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
        of_all(stratum), of_all(part), of_all(part_stratum), everyone, in_common, was_whole,
        moved - was_whole, in_common - moved, several,
    )  # fmt: skip


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """Number the different rows."""
    if not len(columns[0]):
        return np.zeros(0, int)
    return np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel()


def _strata_and_moves(
    unit: np.ndarray, group: np.ndarray, key: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stratum of each sample's unit, and whether it moves: units with the same multiset of keys,
    and of one key without a counterpart, with any number of it.
    """
    if not len(unit):
        return np.zeros(0, int), np.zeros(0, bool)
    stratum = strata(unit, key, int(unit.max()) + 1)[unit]
    moves = _moves(unit, group, stratum)
    if not moves.all():
        num_keys = np.bincount(np.unique(np.stack([unit, key]), axis=1)[0])
        is_of_one = num_keys[unit] == 1
        of_any_size = is_of_one & np.isin(key, key[is_of_one & ~moves])
        stratum = _numbered(np.where(of_any_size, -1 - key, stratum))
        moves = _moves(unit, group, stratum)
    return stratum, moves


def _moves(unit: np.ndarray, group: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Which samples are of a unit of one group that has a counterpart in another."""
    lowest, highest = np.full(int(unit.max()) + 1, group.max()), np.zeros(int(unit.max()) + 1, int)
    np.minimum.at(lowest, unit, group)
    np.maximum.at(highest, unit, group)
    single = (lowest == highest)[unit]
    seen = np.zeros((int(stratum.max()) + 1, int(group.max()) + 1), bool)
    seen[stratum[single], group[single]] = True
    moves: np.ndarray = single & (seen.sum(1) > 1)[stratum]
    return moves
