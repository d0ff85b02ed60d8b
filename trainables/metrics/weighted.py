"""F1 and gaps of weighted patients, from cells of class and group.

With all weights 1 these are the figures of ``trainables.metrics.summary`` in mode ``corrected``.
What counts is fixed by the original images, whatever the weights: for a gap the classes defined in
both groups of a pair, for F1 those seen in a group, by true or predicted label. A cell without
weight keeps its original rate.

Shape legend: A arms, S seeds, N images, P patients, R sets of weights, G assessed groups,
C classes, K cells of one patient. A cell of G x C is numbered group * C + class.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainables.metrics.confusion import confusion_counts
from trainables.metrics.fairness import GAPS
from trainables.metrics.flat_cells import error_shares, flat_cells, with_errors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

METRICS = ("f1", *GAPS)
SCORES = ("precision", "recall", "f1")
FURTHER = ("precision", "recall", *(f"{score}_diff" for score in SCORES))
"""Means over groups, and largest less smallest group."""


@dataclass(frozen=True)
class Images:
    """Images of the assessed groups, checked and numbered, with what the originals define."""

    cell_N: np.ndarray
    patient_N: np.ndarray
    predicted_cell_ASN: np.ndarray
    hit_ASN: np.ndarray
    present_AS: np.ndarray
    shape_GC: tuple[int, int]
    num_patients: int
    one_patient_K: np.ndarray
    groups: tuple[int, ...]
    patients_GC: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Of all metrics: ``METRICS``, ``FURTHER``, and each score of each assessed group."""
        own = (f"{score}_of_{group}" for group in self.groups for score in SCORES)
        return (*METRICS, *FURTHER, *own)

    def flat(self, arm: int, seed: int) -> np.ndarray:
        """Of the cells with images (K,), those of which all or none are hit."""
        size_K = np.bincount(self.cell_N)
        hits_K = np.bincount(self.cell_N[self.hit_ASN[arm, seed]], minlength=len(size_K))
        return ((hits_K == 0) | (hits_K == size_K))[size_K > 0]

    def error_shares(self, arm: int, seed: int) -> np.ndarray:
        """See ``error_shares``: of one arm and seed."""
        num_classes = self.shape_GC[1]
        predicted_1N = self.predicted_cell_ASN[arm, seed][None] % num_classes
        return error_shares(self.cell_N % num_classes, predicted_1N, num_classes)

    @property
    def smallest_cell(self) -> int:
        """Least number of images in a class and group that occurs."""
        return int(np.unique(self.cell_N, return_counts=True)[1].min())


def prepare(
    label_N: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray,
    prediction_ASN: np.ndarray,
    *,
    num_classes: int,
    num_groups: int,
    min_support: int = 1,
    present_AS: np.ndarray | None = None,
) -> Images:
    """Check the arrays and leave out images of unknown or too small groups.

    ``present_AS``: which seeds each arm has, None: all; predictions of the others are not read.

    Raises:
        ValueError: shapes differ, a value is out of its range, or no image is left.
    """
    label_N, group_N, patient_N, prediction_ASN = map(
        np.asarray, (label_N, group_N, patient_N, prediction_ASN)
    )
    if prediction_ASN.ndim != 3 or patient_N.shape != label_N.shape:
        shapes = f"{prediction_ASN.shape} and {patient_N.shape}"
        raise ValueError(f"predictions and patients must be (A, S, N) and (N,) but are {shapes}")
    if present_AS is None:
        present_AS = np.ones(prediction_ASN.shape[:2], dtype=bool)
    present_AS = np.asarray(present_AS, dtype=bool)
    if present_AS.shape != prediction_ASN.shape[:2]:
        raise ValueError(f"present seeds must be {prediction_ASN.shape[:2]}: {present_AS.shape}")
    for prediction_N in prediction_ASN[present_AS]:
        confusion_counts(
            label_N, prediction_N, group_N, num_classes=num_classes, num_groups=num_groups
        )
    size_D = np.bincount(group_N[group_N >= 0], minlength=num_groups)
    assessed = np.flatnonzero(size_D >= max(1, min_support))
    kept_N = np.isin(group_N, assessed)
    if not kept_N.any() or not present_AS.any():
        raise ValueError("no image of an assessed group, or no arm or seed")
    label_N = label_N[kept_N].astype(np.int64)
    group_N = np.searchsorted(assessed, group_N[kept_N])
    _, patient_N = np.unique(patient_N[kept_N], return_inverse=True)
    prediction_ASN = prediction_ASN[:, :, kept_N].astype(np.int64)
    cell_N = group_N * num_classes + label_N
    pairs = np.unique(np.stack([cell_N, patient_N]), axis=1)
    cells, patients_of_cell = np.unique(pairs[0], return_counts=True)
    shape_GC = (len(assessed), num_classes)
    patients_GC = np.bincount(pairs[0], minlength=shape_GC[0] * shape_GC[1]).reshape(shape_GC)
    return Images(
        cell_N=cell_N,
        patient_N=patient_N,
        predicted_cell_ASN=group_N * num_classes + prediction_ASN,
        hit_ASN=prediction_ASN == label_N,
        present_AS=present_AS,
        shape_GC=shape_GC,
        num_patients=int(patient_N.max()) + 1,
        one_patient_K=cells[patients_of_cell == 1],
        groups=tuple(assessed.tolist()),
        patients_GC=patients_GC,
    )


def _patients_by_cell(cell_N: np.ndarray, patient_N: np.ndarray, images: Images) -> csr_array:
    """How many of these images each patient has in each cell, sparse (cells, P)."""
    from scipy.sparse import csr_array

    shape = (images.shape_GC[0] * images.shape_GC[1], images.num_patients)
    # Sums of whole numbers below 2 ** 24 are exact in float32.
    return csr_array((np.ones(len(cell_N), np.float32), (cell_N, patient_N)), shape=shape)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Divide, with ``empty`` where the denominator is zero."""
    out = np.broadcast_to(empty, denominator.shape).copy()
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


@dataclass(frozen=True)
class _Terms:
    """TPR, FPR, precision and F1 of each cell, (GC, R), and which cells F1 counts."""

    tpr: np.ndarray
    fpr: np.ndarray
    precision: np.ndarray
    f1: np.ndarray
    seen: np.ndarray


def _terms(
    images: Images,
    weight_PR: np.ndarray,
    support: np.ndarray,
    arm: int,
    seed: int,
    original: _Terms | None,
    draw_2KR: np.ndarray | None,
    error_GCR: np.ndarray | None,
) -> _Terms:
    num_groups, num_classes = images.shape_GC
    num_cells = num_groups * num_classes
    hit_N, predicted_N = images.hit_ASN[arm, seed], images.predicted_cell_ASN[arm, seed]
    hit, predicted = (
        (_patients_by_cell(cell, patient, images) @ weight_PR).astype(float)
        for cell, patient in (
            (images.cell_N[hit_N], images.patient_N[hit_N]),
            (predicted_N, images.patient_N),
        )
    )
    false = predicted - hit
    total = support.reshape(num_groups, num_classes, -1).sum(1, keepdims=True)
    negative = (total - support.reshape(num_groups, num_classes, -1)).reshape(num_cells, -1)
    nan = np.full((num_cells, 1), np.nan)
    tpr = _ratio(hit, support, original.tpr if original else nan)
    fpr = _ratio(false, negative, original.fpr if original else nan)
    if draw_2KR is not None and original is not None:
        cells = images.one_patient_K
        rate_K = original.tpr[cells]
        tpr[cells] = rate_K * draw_2KR[1] + (1 - rate_K) * draw_2KR[0]
        support = support.copy()
        support[cells] = np.bincount(images.cell_N, minlength=num_cells)[cells, None]
        hit[cells] = support[cells] * tpr[cells]
    if error_GCR is not None and original is not None:
        flat = flat_cells(original.tpr[:, 0], images.patients_GC)
        share_CC = images.error_shares(arm, seed)
        hit, false = with_errors(share_CC, flat, original.tpr, support, hit, false, error_GCR)
        tpr[flat] = _ratio(hit, support, original.tpr)[flat]
        fpr = _ratio(false, negative, original.fpr)
    size = support + hit + false
    nothing = np.zeros((num_cells, 1))
    f1 = _ratio(2 * hit, size, original.f1 if original else nothing)
    precision = _ratio(hit, hit + false, original.precision if original else nothing)
    return _Terms(tpr, fpr, precision, f1, original.seen if original else size > 0)


def _metrics(term: _Terms, original: _Terms, shape_GC: tuple[int, int]) -> list[np.ndarray]:
    """The values of ``Images.names``, each (R,)."""
    tpr, fpr, precision, f1, seen = (
        value.reshape(*shape_GC, -1)
        for value in (term.tpr, term.fpr, term.precision, term.f1, original.seen)
    )
    defined_tpr, defined_fpr = (
        ~np.isnan(value.reshape(shape_GC)) for value in (original.tpr, original.fpr)
    )
    # (scores, G, R); a class that a group has only by prediction has a recall of 0
    macro = np.stack(
        [(x * seen).sum(1) / seen.sum(1) for x in (precision, np.nan_to_num(tpr), f1)]
    )
    f1_R = macro[2].mean(0)
    best = [np.full(len(f1_R), np.nan) for _ in GAPS]
    for a, b in itertools.combinations(range(shape_GC[0]), 2):
        has_tpr, has_fpr = defined_tpr[a] & defined_tpr[b], defined_fpr[a] & defined_fpr[b]
        both = has_tpr & has_fpr
        d_tpr, d_fpr = tpr[a] - tpr[b], fpr[a] - fpr[b]
        gaps = (
            (np.abs(d_fpr), has_fpr),
            (np.abs(d_tpr), has_tpr),
            (np.abs(d_tpr + d_fpr) / 2, both),
            ((np.abs(d_tpr) + np.abs(d_fpr)) / 2, both),
        )
        for i, (gap, keep_C) in enumerate(gaps):
            if keep_C.any():
                best[i] = np.fmax(best[i], gap[keep_C].mean(0))
    differences = macro.max(1) - macro.min(1)
    own = macro.swapaxes(0, 1).reshape(-1, len(f1_R))
    return [f1_R, *best, *macro[:2].mean(1), *differences, *own]


def metrics_of_weights(
    images: Images,
    weight_PR: np.ndarray,
    draw_2KR: np.ndarray | None = None,
    error_GCR: np.ndarray | None = None,
) -> np.ndarray:
    """Every metric with patients weighted, (len(images.names), R, A, S); all weights 1: the
    original.

    NaN where an arm does not have a seed.

    Args:
        images: of ``prepare``.
        weight_PR: how often each patient counts in each replicate.
        draw_2KR: hit rates of the cells of one patient, were it missed (0) or hit (1).
        error_GCR: how far the hit rate of a cell of several patients lies from 0 or 1, were they
            all missed or all hit.
    """
    result = np.full((len(images.names), weight_PR.shape[1], *images.present_AS.shape), np.nan)
    ones_P1 = np.ones((images.num_patients, 1))
    counts = _patients_by_cell(images.cell_N, images.patient_N, images)
    support, once = ((counts @ weight).astype(float) for weight in (weight_PR, ones_P1))
    for arm, seed in np.argwhere(images.present_AS):
        original = _terms(images, ones_P1, once, arm, seed, None, None, None)
        term = _terms(images, weight_PR, support, arm, seed, original, draw_2KR, error_GCR)
        for i, value_R in enumerate(_metrics(term, original, images.shape_GC)):
            result[i, :, arm, seed] = value_R
    return result
