"""Figures of weighted samples, per group and between groups, for one set of weights a replicate.

Shape legend: N samples, S seeds, R replicates, G groups, C classes, X sets of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.metrics.bias_amplification import bias_amplification, bias_direction
from trainables.metrics.calibration import (
    auroc_replicates,
    brier_replicates,
    calibration_error_replicates,
)
from trainables.metrics.clinical import share, threshold_at_specificity, underdiagnosis


@dataclass(frozen=True)
class Predictions:
    """Samples of known group, as several seeds predict them.

    Attributes:
        label_N: true classes in [0, C).
        group_N: groups in [0, G), -1 where unknown or not to be assessed.
        patient_N: who each sample is of, integers or strings; a number of its own where unknown.
        prediction_SN: predicted classes.
        probability_SNC: probabilities of classes, None where there are none.
        malignant_C: which classes are malignant, None: not said.
        num_groups: G.
        specificity: at which sensitivity is measured.
    """

    label_N: np.ndarray
    group_N: np.ndarray
    patient_N: np.ndarray
    prediction_SN: np.ndarray
    probability_SNC: np.ndarray | None
    malignant_C: np.ndarray | None
    num_classes: int
    num_groups: int
    specificity: float = 0.9

    def thresholds(self) -> list[float | None]:
        """Each seed's threshold, chosen on all samples together; empty without scores."""
        if self.probability_SNC is None or self.malignant_C is None:
            return []
        is_malignant_N = self.malignant_C[self.label_N]
        return [
            threshold_at_specificity(
                probability_NC[:, self.malignant_C].sum(1), is_malignant_N, self.specificity
            )
            for probability_NC in self.probability_SNC
        ]


def _of_rows(
    samples: Predictions, s: int, row_N: np.ndarray, threshold: float | None, weight_NR: np.ndarray
) -> dict[str, np.ndarray]:
    """The figures of some samples and one seed, each (R,)."""
    label_N, prediction_N = samples.label_N[row_N], samples.prediction_SN[s][row_N]
    weight_NR = weight_NR[row_N]
    everyone_N = np.ones(len(label_N), bool)
    found = {"accuracy": share(label_N == prediction_N, everyone_N, weight_NR)}
    malignant_C = samples.malignant_C
    if samples.probability_SNC is not None:
        probability_NC = samples.probability_SNC[s][row_N]
        found["auroc"] = auroc_replicates(label_N, probability_NC, weight_NR)
        found["ece"] = calibration_error_replicates(label_N, probability_NC, weight_NR)
        found["brier"] = brier_replicates(label_N, probability_NC, weight_NR)
        if malignant_C is not None and threshold is not None:
            called_N = probability_NC[:, malignant_C].sum(1) > threshold
            is_malignant_N = malignant_C[label_N]
            found["sensitivity"] = share(called_N, is_malignant_N, weight_NR)
            found["specificity"] = share(~called_N, ~is_malignant_N, weight_NR)
    if malignant_C is not None:
        found["underdiagnosis"] = underdiagnosis(label_N, prediction_N, malignant_C, weight_NR)
        found["selection_rate"] = share(malignant_C[prediction_N], everyone_N, weight_NR)
    return found


def _shares(
    class_N: np.ndarray, samples: Predictions, kept: Sequence[int], weight_NR: np.ndarray
) -> np.ndarray:
    """Weighted P(class | group) of the groups kept, (G, C, R); NaN for a group without weight."""
    from scipy.sparse import csr_array

    place_G = np.full(samples.num_groups + 1, -1)  # the last one is -1, unknown
    place_G[list(kept)] = range(len(kept))
    place_N = place_G[samples.group_N]
    row_N = np.flatnonzero(place_N >= 0)
    cell_N = place_N[row_N] * samples.num_classes + class_N[row_N]
    shape = (len(kept) * samples.num_classes, len(class_N))
    sums = csr_array((np.ones(len(row_N)), (cell_N, row_N)), shape=shape) @ weight_NR
    count_GCR = sums.reshape(len(kept), samples.num_classes, -1)
    total_G1R = count_GCR.sum(1, keepdims=True)
    out_GCR = np.full(count_GCR.shape, np.nan)
    return np.divide(count_GCR, total_G1R, out=out_GCR, where=total_G1R > 0)


def _between(
    samples: Predictions, s: int, kept: Sequence[int], weight_NR: np.ndarray
) -> dict[str, np.ndarray]:
    """Demographic parity (R,) and bias amplification of each group kept (G, R), of one seed."""
    label_GCR = _shares(samples.label_N, samples, kept, weight_NR)
    predicted_GCR = _shares(samples.prediction_SN[s], samples, kept, weight_NR)
    support_GC = np.stack(
        [
            np.bincount(samples.label_N[samples.group_N == g], minlength=samples.num_classes)
            for g in kept
        ]
    )
    return {
        "demographic_parity": (predicted_GCR.max(0) - predicted_GCR.min(0)).mean(0),
        "bias_amplification": bias_amplification(
            bias_direction(support_GC), label_GCR, predicted_GCR
        ),
    }


def values_of_weights(
    samples: Predictions,
    kept: Sequence[int],
    row_XN: Sequence[np.ndarray],
    threshold_S: Sequence[float | None],
    weight_NR: np.ndarray,
) -> dict[tuple[int, str], np.ndarray]:
    """Every figure (R, S), keyed by the place of its rows in ``row_XN`` (-1: between groups)."""
    parts: dict[tuple[int, str], list[np.ndarray]] = {}
    for s in range(len(samples.prediction_SN)):
        threshold = threshold_S[s] if threshold_S else None
        for x, row_N in enumerate(row_XN):
            for name, value_R in _of_rows(samples, s, row_N, threshold, weight_NR).items():
                parts.setdefault((x, name), []).append(value_R)
        if len(kept) > 1:
            found = _between(samples, s, kept, weight_NR)
            amplified_GR = found["bias_amplification"]
            parts.setdefault((-1, "demographic_parity"), []).append(found["demographic_parity"])
            parts.setdefault((-1, "bias_amplification"), []).append(amplified_GR.mean(0))
            for x, value_R in enumerate(amplified_GR):
                parts.setdefault((x, "bias_amplification"), []).append(value_R)
    return {key: np.stack(values, axis=1) for key, values in parts.items()}
