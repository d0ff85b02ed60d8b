"""Train, validation and test: grouped by patient, stratified by class, the same on every machine.

The algorithm is our own, of SHA-256 and integers only, so that neither a library's version nor the
order of the rows can move an image into another split.

Shape legend: N images.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from trainables.data.base import SPLITS, Split
from trainables.data.strata import patient_strata
from trainables.errors import UserError

COLUMN_VALUES = {"train": 0, "validation": 1, "val": 1, "valid": 1, "test": 2}
NUM_NAMED = 5


def assign_splits(
    patient_id_N: Sequence[str], label_N: Sequence[object], split: Split
) -> np.ndarray:
    """Divide images into splits; all images of one patient go to the same one.

    A patient belongs to the stratum of the rarest (by patients) of its labels. From the rarest
    class to the most frequent, and inside a class by SHA-256 of (seed, patient), each patient goes
    to the split that lacks most images of the class, then most images in all. At last patients are
    moved so that every class with at least 3 patients is in all three splits (with many
    multi-class patients that can be impossible; the inspection says so).

    Args:
        patient_id_N: what must not straddle splits; image ids where images are independent.
        label_N: class of each image.
        split: fractions (of images) and seed.

    Returns:
        int8 N: TRAIN, VALIDATION or TEST.
    """
    fractions = split.fractions
    strata = patient_strata(patient_id_N, label_N)
    total = {name: sum(strata.num_images[name].values()) for name in strata.classes}
    num_images = len(patient_id_N)
    taken_by_class = {name: [0, 0, 0] for name in strata.classes}
    taken = [0, 0, 0]
    chosen: dict[str, int] = {}
    for name in strata.classes:
        members = [p for p, stratum in strata.stratum.items() if stratum == name]
        for patient in sorted(members, key=lambda p: (patient_hash(split.seed, p), p)):
            lack = [
                (
                    round(fractions[s] * total[name] - taken_by_class[name][s], 6),
                    round(fractions[s] * num_images - taken[s], 6),
                    -s,
                )
                for s in range(3)
            ]
            best = -max(lack)[2]
            chosen[patient] = best
            for label, count in strata.labels[patient].items():
                taken_by_class[label][best] += count
                taken[best] += count
    _cover_all_splits(chosen, strata.num_images, strata.labels, split.seed)
    return np.array([chosen[str(patient)] for patient in patient_id_N], dtype=np.int8)


def patient_hash(seed: int, patient: str) -> str:
    """The place of a patient in a seeded shuffle that does not depend on the other patients."""
    return hashlib.sha256(f"{seed}\x00{patient}".encode()).hexdigest()


def splits_of_column(value_N: Sequence[object], place: str) -> np.ndarray:
    """The table's own splits: train, validation (val, valid) or test, upper or lower case.

    Raises:
        UserError: rows without a split or with another word.
    """
    words = ["" if value is None else str(value).strip().lower() for value in value_N]
    unknown = sorted({word for word in words if word not in COLUMN_VALUES})
    if unknown:
        count = sum(word not in COLUMN_VALUES for word in words)
        shown = ", ".join(repr(word) for word in unknown[:NUM_NAMED])
        raise UserError(
            f"{count} rows have a split other than train, validation or test: {shown} ({place})"
        )
    return np.array([COLUMN_VALUES[word] for word in words], dtype=np.int8)


def straddling_patients(patient_id_N: Sequence[str], split_N: np.ndarray) -> dict[str, list[int]]:
    """Patients with images in more than one split, and in which."""
    seen: dict[str, set[int]] = defaultdict(set)
    for patient, where in zip(patient_id_N, split_N, strict=True):
        seen[str(patient)].add(int(where))
    return {patient: sorted(found) for patient, found in sorted(seen.items()) if len(found) > 1}


def check_no_leak(
    patient_id_N: Sequence[str], split_N: np.ndarray, split: Split
) -> tuple[str, ...]:
    """Refuse a split in which a patient is on two sides.

    Returns:
        Warnings: for ``by="image"`` and ``by="paper"``, choices made by name, how many patients
        straddle.

    Raises:
        UserError: patients straddle; up to 5 are named.
    """
    leaks = straddling_patients(patient_id_N, split_N)
    if not leaks:
        return ()
    if split.by in ("image", "paper"):
        return (
            f"split by {split.by}: {len(leaks)} patients or lesions "
            "have images in more than one split",
        )
    shown = [
        f"{patient} ({', '.join(SPLITS[s] for s in found)})"
        for patient, found in list(leaks.items())[:NUM_NAMED]
    ]
    rest = f" and {len(leaks) - NUM_NAMED} more" if len(leaks) > NUM_NAMED else ""
    raise UserError(
        f"split leak: {len(leaks)} patients are in more than one split: {', '.join(shown)}{rest} "
        "(data.split.by: patient divides whole patients)"
    )


def _cover_all_splits(
    chosen: dict[str, int],
    num_images: dict[str, dict[str, int]],
    labels: dict[str, dict[str, int]],
    seed: int,
) -> None:
    """Move patients so that each class with 3 patients or more is in every split, if possible.

    A patient moves only where no class of 3 patients or more leaves the split it comes from, so no
    move undoes another; of several the one with the fewest images moves.
    """
    held = {name: [0, 0, 0] for name in num_images}
    for patient, where in chosen.items():
        for name in labels[patient]:
            held[name][where] += 1
    for name, images_of in num_images.items():
        for missing in range(3):
            if held[name][missing] or len(images_of) < 3:
                continue
            movable = [
                patient
                for patient in images_of
                if all(
                    held[label][chosen[patient]] > 1 or len(num_images[label]) < 3
                    for label in labels[patient]
                )
            ]
            if not movable:
                continue
            moved = min(movable, key=lambda p: (sum(labels[p].values()), patient_hash(seed, p), p))
            for label in labels[moved]:
                held[label][chosen[moved]] -= 1
                held[label][missing] += 1
            chosen[moved] = missing
