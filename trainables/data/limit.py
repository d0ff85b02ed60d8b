"""A small part of a data set that still looks like it: whole patients, every class.

Shape legend: N images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.data.splits import patient_hash
from trainables.data.strata import patient_strata
from trainables.errors import UserError

NUM_FIRST = 3
"""Patients of each class that come before all others: one for each split."""

SEED = 0


def limited_rows(patient_id_N: Sequence[str], label_N: Sequence[object], limit: int) -> np.ndarray:
    """Row numbers, ascending, of at most ``limit`` images, chosen by whole patients.

    Patients are taken in one fixed order: the first 3 patients of each class in a hash shuffle
    (seed 0), the rarest class first, one patient of each class in turn; then the others, the
    classes interleaved in proportion to their images. So rare classes are somewhat
    over-represented in a small part. A patient that no longer fits is passed over; fewer than
    ``limit`` images come back only where none fits.

    Raises:
        UserError: not even one patient fits.
    """
    strata = patient_strata(patient_id_N, label_N)
    place: dict[str, tuple[float, float, str]] = {}
    for rank, name in enumerate(strata.classes):
        members = [p for p, stratum in strata.stratum.items() if stratum == name]
        members.sort(key=lambda p: (patient_hash(SEED, p), p))
        total = sum(sum(strata.labels[p].values()) for p in members)
        passed = 0
        for number, patient in enumerate(members):
            count = sum(strata.labels[patient].values())
            middle = (passed + count / 2) / total
            passed += count
            first = number < NUM_FIRST
            place[patient] = (
                (number, rank, patient) if first else (NUM_FIRST + middle, rank, patient)
            )
    kept: set[str] = set()
    room = limit
    for patient in sorted(place, key=place.__getitem__):
        count = sum(strata.labels[patient].values())
        if count <= room:
            kept.add(patient)
            room -= count
    if not kept:
        smallest = min(sum(counts.values()) for counts in strata.labels.values())
        raise UserError(
            f"data.limit is {limit} but the patient with the fewest images has {smallest}; "
            "patients are kept whole"
        )
    return np.flatnonzero([str(patient) in kept for patient in patient_id_N])
