"""Semi-synthetic skin tone: which patients' photographs are darkened, and by how much.

The same photographs with and without it give a sensitive attribute whose effect on a classifier
has a known cause. What happens to the pixels: ``trainables.data.darkened_array``. Darkened images
are no evidence about people with dark skin.

Shape legend: N images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from trainables.data.strata import patient_strata
from trainables.errors import UserError
from trainables.specs import Spec

TONE = "tone"
"""The attribute whose groups are the two below, where ``darken`` is given."""
GROUPS = ("original", "darkened")
COLUMN = "melanin"
"""Column of a table with dM of each image, 0 where it stays as it is."""
MAX_DENSITY = 6.0


class Darken(Spec):
    """Which patients are darkened and how much; ids and classes decide, not the order of rows."""

    share: float = Field(0.08, gt=0, lt=1, description="share of the patients")
    density: tuple[float, float] = Field(
        (1.2, 2.6),
        description="dM is uniform between these; skin types IV / V / VI: 1.2 / 1.8 / 2.6",
    )
    class_link: float = Field(
        0.0, ge=0, le=1, description="0: independent of the class; 1: linked classes only"
    )
    linked_classes: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, description="of the choice; a trial's seed never moves it")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.density
        if not 0 < low <= high <= MAX_DENSITY:
            raise ValueError(
                f"density must be two numbers above 0 and up to {MAX_DENSITY:g}, the lower first, "
                f"but got {list(self.density)}"
            )
        if self.class_link > 0 and not self.linked_classes:
            raise ValueError(f"class_link is {self.class_link:g} but there are no linked_classes")
        return self


def class_shares(linked_share: float, darken: Darken) -> tuple[float, float]:
    """P(darkened | linked class) and P(darkened | another class), over patients.

    Of the darkened patients the share q + class_link (1 - q) has a linked class, where q is that
    share of all patients; how many are darkened does not depend on class_link.

    Args:
        linked_share: q in [0, 1].
        darken: share and class_link.
    """
    linked = linked_share + darken.class_link * (1 - linked_share)
    return (
        darken.share * linked / linked_share if linked_share > 0 else 0.0,
        darken.share * (1 - linked) / (1 - linked_share) if linked_share < 1 else 0.0,
    )


def darkened_patients(
    patient_id_N: Sequence[str], label_N: Sequence[str], darken: Darken
) -> dict[str, float]:
    """The darkened patients and their dM.

    A patient stands for the rarest of its classes. Each class gives its part of the quota, rounded
    so that the sum is ``share`` of all patients to the nearest whole number; inside a class the
    patients with the lowest SHA-256 of (seed, patient) are taken.

    Raises:
        UserError: unknown linked classes, too few patients of them, or a quota of no patient.
    """
    strata = patient_strata(patient_id_N, label_N)
    unknown = sorted(set(darken.linked_classes) - set(strata.classes))
    if unknown:
        raise UserError(
            f"data.darken.linked_classes: no image of class {', '.join(map(repr, unknown))} "
            f"(known: {', '.join(sorted(strata.classes))})"
        )
    members: dict[str, list[str]] = {name: [] for name in sorted(strata.classes)}
    for patient, name in strata.stratum.items():
        members[name].append(patient)
    linked = [name for name in members if name in darken.linked_classes]
    num_patients = len(strata.stratum)
    num_linked = sum(len(members[name]) for name in linked)
    linked_share, other_share = class_shares(num_linked / num_patients, darken)
    if linked_share > 1 + 1e-9:
        raise UserError(
            f"data.darken: share {darken.share:g} with class_link {darken.class_link:g} needs "
            f"{linked_share * num_linked:.0f} patients of {', '.join(linked)} but there are "
            f"{num_linked}"
        )
    chosen: dict[str, float] = {}
    quota = 0.0
    for name in [*linked, *(name for name in members if name not in linked)]:
        quota += len(members[name]) * (linked_share if name in linked else other_share)
        number = int(quota + 0.5 + 1e-9) - len(chosen)  # the sum is rounded, not each class
        ranked = sorted(members[name], key=lambda p: (_hash(darken.seed, "choice", p), p))
        chosen |= {patient: _density(patient, darken) for patient in ranked[:number]}
    if not chosen:
        raise UserError(
            f"data.darken.share: {darken.share:g} of {num_patients} patients or lesions is nobody"
        )
    return chosen


def with_melanin(rows: pd.DataFrame, darken: Darken) -> pd.DataFrame:
    """The rows with the column ``melanin``.

    Args:
        rows: with the columns patient_id and label.
        darken: the option.

    Raises:
        UserError: see ``darkened_patients``.
    """
    patient_id_N = [str(patient) for patient in rows["patient_id"]]
    chosen = darkened_patients(patient_id_N, [str(label) for label in rows["label"]], darken)
    return rows.assign(**{COLUMN: [chosen.get(patient, 0.0) for patient in patient_id_N]})


def tone_groups(rows: pd.DataFrame) -> tuple[list[str | None], tuple[str, ...]]:
    """Group of each row by the column ``melanin``, and the names of both."""
    return [GROUPS[int(dM > 0)] for dM in rows[COLUMN]], GROUPS


def darken_warnings(rows: pd.DataFrame) -> tuple[str, ...]:
    """What was done to the images of these rows."""
    dark = rows[rows[COLUMN] > 0]
    num_patients, num_dark = rows["patient_id"].nunique(), dark["patient_id"].nunique()
    return (
        f"data.darken: {len(dark)} of {len(rows)} images ({num_dark} of {num_patients} patients "
        "or lesions) are darkened by computation: no evidence about people with dark skin",
    )


def melanin_of(rows: pd.DataFrame, name: str) -> np.ndarray:
    """The density dM of each row (N,), float64.

    Raises:
        UserError: the data set does not read the option.
    """
    if COLUMN not in rows:
        raise UserError(f"data.darken is not read by the data set {name}")
    return rows[COLUMN].to_numpy(dtype=np.float64)


def _hash(seed: int, purpose: str, patient: str) -> str:
    return hashlib.sha256(f"darken/{purpose}/{seed}\x00{patient}".encode()).hexdigest()


def _density(patient: str, darken: Darken) -> float:
    low, high = darken.density
    return low + (high - low) * int(_hash(darken.seed, "density", patient)[:8], 16) / 2**32
