"""F1 and gaps on resampled patients: one draw of patients for all arms and seeds.

Patients are the unit that is drawn, seeds and arms see the same draw: crossed, so that the parts
of the variance can be told apart, and paired, so that what two arms share cancels in a difference.
What is estimated is fixed before resampling, see ``trainables.metrics.weighted``.

A cell (class and group) whose images are all of one patient has no variance under resampling: its
rate is the original one or 0/0. There the hit rate is drawn from Beta((1 + h)/9, (2 - h)/9), h its
hit rate of 0 or 1. The mean, (1 + h)/3, is Laplace's. The variance is 1/6, what the hit of one
image has on average when its probability is uniform; the posterior Beta(1 + h, 2 - h) is the
uncertainty of that probability and has a third of it, 1/18. (Simulated coverage of 95 % intervals
of F1 and eodd_hardt, 5 seeds, 1 to 12 patients a cell: .84 and .87 without a draw, .88 and .95
from the posterior, .96 and .99 so.) The draw is shared by arms and seeds.
Where h is between 0 and 1 (several images of the one patient) the two draws are mixed, h to 1 - h.

A cell of n > 1 patients that were all hit (or all missed) has no variance either. There the share
of errors (or hits) is drawn from Beta(1/2, n + 1/2), the posterior by Jeffreys' prior, whose
standard deviation near .7 / n is that of a rate which the cell would show as 0. Missed images fall
on the other classes as the errors of that arm and seed do (benchmarks/coverage.py: "near 1").

Shape legend: A arms, S seeds, N images, P patients, R replicates (of a chunk), K cells of one
patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainables.metrics.weighted import metrics_of_weights, prepare

# Names of the random streams: a generator is a function of (seed, purpose).
_PATIENTS, _ONE_PATIENT_CELLS, _FLAT_CELLS = 1, 2, 6
# Elements of the largest array of a chunk: 16 MB in float64.
_CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Replicates:
    """Metrics of the original data and of each replicate, by name; NaN where undefined.

    ``smallest_cell`` is the least number of images in a class and group that occurs.
    ``present_AS``: which seeds each arm has, None: all have all.
    ``flat_ASK``: which classes and groups have all or no images hit; None: not known.
    """

    value_AS: Mapping[str, np.ndarray]
    replicate_RAS: Mapping[str, np.ndarray]
    num_patients: int
    smallest_cell: int
    present_AS: np.ndarray | None = None
    flat_ASK: np.ndarray | None = None

    @property
    def present(self) -> np.ndarray:
        """``present_AS``, written out."""
        if self.present_AS is not None:
            return self.present_AS
        return np.ones(next(iter(self.value_AS.values())).shape, dtype=bool)


def draw_patients(num_patients: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """Multinomial counts of P draws of P patients for each of R replicates, (P, R)."""
    drawn_RP = rng.integers(0, num_patients, size=(num, num_patients))
    flat = np.arange(num)[:, None] * num_patients + drawn_RP
    count = np.bincount(flat.ravel(), minlength=num * num_patients)
    return np.ascontiguousarray(count.reshape(num, num_patients).T, dtype=np.float32)


def draw_one_patient_cells(num_cells: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """Beta(1/9, 2/9) for a miss (0) and Beta(2/9, 1/9) for a hit (1), never above, (2, K, R)."""
    low_RK, middle_RK, high_RK = np.moveaxis(
        rng.standard_gamma(1 / 9, size=(num, num_cells, 3)), -1, 0
    )
    total_RK = low_RK + middle_RK + high_RK
    return np.stack([(low_RK / total_RK).T, ((low_RK + middle_RK) / total_RK).T])


def draw_flat_cells(patients_GC: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Beta(1/2, n + 1/2) for a cell of n patients, (G, C, R)."""
    drawn_RGC = rng.beta(0.5, patients_GC + 0.5, size=(num, *patients_GC.shape))
    return np.moveaxis(drawn_RGC, 0, -1)


def replicate_metrics(
    label_N: np.ndarray,
    group_N: np.ndarray,
    patient_N: np.ndarray,
    prediction_ASN: np.ndarray,
    *,
    num_classes: int,
    num_groups: int,
    num_replicates: int = 10_000,
    seed: int = 0,
    min_support: int = 1,
    present_AS: np.ndarray | None = None,
    chunk: int | None = None,
) -> Replicates:
    """F1 and gaps (``corrected``) of arms and seeds on the same images, with patients resampled.

    Args:
        label_N: true classes, integers in [0, num_classes).
        group_N: groups, integers in [0, num_groups), -1 where unknown; those images are left out.
        patient_N: who each image is of, integers or strings; lesions where patients are unknown.
        prediction_ASN: predicted classes of each arm and seed.
        num_classes: C.
        num_groups: number of groups before ``min_support``.
        num_replicates: R.
        seed: of the draws; equal seeds and patients give equal draws for any arms.
        min_support: groups with fewer images are not assessed.
        present_AS: which seeds each arm has; predictions of the others are not read and their
            figures are NaN. None: all.
        chunk: replicates at a time, of no influence on the result; None: as memory allows.

    Raises:
        ValueError: shapes differ, a value is out of its range, or no image is left.
    """
    images = prepare(
        label_N, group_N, patient_N, prediction_ASN,
        num_classes=num_classes, num_groups=num_groups, min_support=min_support,
        present_AS=present_AS,
    )  # fmt: skip
    largest = max(len(images.cell_N), images.shape_GC[0] * num_classes)
    chunk = chunk or max(1, _CHUNK_ELEMENTS // largest)
    patient_rng = np.random.default_rng([seed, _PATIENTS])
    cell_rng = np.random.default_rng([seed, _ONE_PATIENT_CELLS])
    flat_rng = np.random.default_rng([seed, _FLAT_CELLS])
    parts = []
    for start in range(0, num_replicates, chunk):
        num = min(chunk, num_replicates - start)
        weight_PR = draw_patients(images.num_patients, num, patient_rng)
        draw_2KR = draw_one_patient_cells(len(images.one_patient_K), num, cell_rng)
        error_GCR = draw_flat_cells(images.patients_GC, num, flat_rng)
        parts.append(metrics_of_weights(images, weight_PR, draw_2KR, error_GCR))
    original = metrics_of_weights(images, np.ones((images.num_patients, 1)))
    replicate = np.concatenate(parts, axis=1)
    flat_ASK = np.zeros((*images.present_AS.shape, int((images.patients_GC > 0).sum())), bool)
    for arm, column in np.argwhere(images.present_AS):
        flat_ASK[arm, column] = images.flat(arm, column)
    return Replicates(
        value_AS={name: original[i, 0] for i, name in enumerate(images.names)},
        replicate_RAS={name: replicate[i] for i, name in enumerate(images.names)},
        num_patients=images.num_patients,
        smallest_cell=images.smallest_cell,
        present_AS=images.present_AS,
        flat_ASK=flat_ASK,
    )
