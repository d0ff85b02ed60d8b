"""Which class a patient stands for: its rarest one.

Shape legend: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Strata:
    """Patients by class, in an order that the order of the rows does not change."""

    classes: tuple[str, ...]  # from the one with the fewest patients to the one with the most
    stratum: dict[str, str]  # patient -> its rarest class
    labels: dict[str, dict[str, int]]  # patient -> {class: images}
    num_images: dict[str, dict[str, int]]  # class -> {patient: images}


def patient_strata(patient_id_N: Sequence[str], label_N: Sequence[object]) -> Strata:
    """Give each patient the rarest of its classes, counted in patients (ties: by name)."""
    labels: dict[str, dict[str, int]] = {}
    for patient, label in sorted(
        (str(patient), str(label)) for patient, label in zip(patient_id_N, label_N, strict=True)
    ):
        counts = labels.setdefault(patient, {})
        counts[label] = counts.get(label, 0) + 1
    by_class: dict[str, dict[str, int]] = {}
    for patient, counts in labels.items():
        for label, count in counts.items():
            by_class.setdefault(label, {})[patient] = count
    classes = tuple(sorted(by_class, key=lambda name: (len(by_class[name]), name)))
    rank = {name: position for position, name in enumerate(classes)}
    stratum = {patient: min(counts, key=rank.__getitem__) for patient, counts in labels.items()}
    return Strata(classes, stratum, labels, {name: by_class[name] for name in classes})
