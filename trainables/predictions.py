"""Stored predictions of one split, and what is derived from them: counts, metrics, digests."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.data.base import SPLITS, Dataset
from trainables.metrics.calibration import auroc
from trainables.metrics.confusion import confusion_counts, counts_digest
from trainables.metrics.corrected_gap import gap_debiased
from trainables.metrics.fairness import Mode
from trainables.metrics.summary import summarise

FILES = {split: f"{split}.npz" for split in SPLITS}
OPEN_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Predictions:
    """Float16 logits (N, K) with the image and patient each row belongs to."""

    logits_NK: np.ndarray
    image_id_N: np.ndarray
    patient_id_N: np.ndarray

    def to_bytes(self) -> bytes:
        """A compressed ``.npz`` without pickled objects."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            logits=self.logits_NK,
            image_id=self.image_id_N.astype(str),
            patient_id=self.patient_id_N.astype(str),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Predictions:
        """Inverse of ``to_bytes``."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(arrays["logits"], arrays["image_id"], arrays["patient_id"])

    def digest(self) -> str:
        """SHA-256 of the logits and their image ids."""
        sha = hashlib.sha256(np.ascontiguousarray(self.logits_NK, dtype="<f2").tobytes())
        sha.update("\n".join(self.image_id_N.astype(str)).encode())
        return sha.hexdigest()

    def prediction_N(self) -> np.ndarray:
        """Predicted class: argmax of the stored (rounded) logits, so that every metric can be
        derived again.
        """
        return self.logits_NK.argmax(1)


def split_predictions(dataset: Dataset, split: str, logits_NK: np.ndarray) -> Predictions:
    """Logits of a whole split, in row order, with their ids."""
    rows = dataset.indices(SPLITS.index(split))
    return Predictions(logits_NK, dataset.image_id_N[rows], dataset.patient_id_N[rows])


def split_counts(dataset: Dataset, split: str, predictions: Predictions) -> np.ndarray:
    """``count_GCC`` of one split by the data set's groups.

    Raises:
        ValueError: the predictions are not of this data set's split.
    """
    rows = dataset.indices(SPLITS.index(split))
    if not np.array_equal(
        predictions.image_id_N.astype(str), dataset.image_id_N[rows].astype(str)
    ):
        raise ValueError(f"stored predictions are not of the {split} split of {dataset.name}")
    return confusion_counts(
        dataset.label_N[rows],
        predictions.prediction_N(),
        dataset.group_N[rows],
        num_classes=len(dataset.classes),
        num_groups=len(dataset.groups),
    )


_UNDEFINED = {
    "auroc": "no class has images in it and outside it",
    "gap_debiased": "no class to compare in both groups of any pair, or mode paper",
}


def score_figures(
    dataset: Dataset, split: str, predictions: Predictions, mode: Mode
) -> dict[str, float | None]:
    """What counts do not tell: ``auroc`` (macro, one class against the rest) and ``gap_debiased``
    (of eodd_hardt, seeds and patients as in ``trainables.metrics.corrected_gap``), over images of
    known group.

    ``paper`` reads an absent class as a rate of 0, for which there is no debiased gap.
    """
    rows = dataset.indices(SPLITS.index(split))
    label_N, group_N = dataset.label_N[rows], dataset.group_N[rows]
    known_N = group_N >= 0
    logits_NK = predictions.logits_NK[known_N].astype(np.float64)
    exp_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True)) if len(logits_NK) else logits_NK
    gap = None
    if mode == "corrected" and known_N.any():
        gap = gap_debiased(
            label_N,
            predictions.prediction_N(),
            group_N,
            dataset.patient_id_N[rows],
            num_classes=len(dataset.classes),
            num_groups=len(dataset.groups),
        )["eodd_hardt"]
    return {
        "auroc": auroc(label_N[known_N], exp_NK / exp_NK.sum(1, keepdims=True)),
        "gap_debiased": None if gap is None else float(gap.value),
    }


def measure(dataset: Dataset, predictions: dict[str, Predictions], mode: Mode) -> dict[str, Any]:
    """``{"metrics": {split: summary}, "counts_sha256": {split: digest}}`` of the given splits."""
    counts = {split: split_counts(dataset, split, p) for split, p in predictions.items()}
    metrics = {
        split: summarise(count, groups=dataset.groups, classes=dataset.classes, mode=mode)
        for split, count in counts.items()
    }
    if "validation" in predictions:
        figures = score_figures(dataset, "validation", predictions["validation"], mode)
        metrics["validation"] |= figures
        metrics["validation"]["undefined"] |= {
            name: _UNDEFINED[name] for name, value in figures.items() if value is None
        }
    return {
        "metrics": metrics,
        "counts_sha256": {split: counts_digest(count) for split, count in counts.items()},
    }
