"""What a clinician asks of each group, with intervals: AUROC, calibration, sensitivity, and so on.

Patients are resampled, one draw for all figures, groups and seeds; the interval is that of
``trainables.metrics.crossed`` (seeds and patients crossed), cut at the figure's range. What is
estimated is fixed beforehand: the classes of AUROC and the direction of bias amplification by the
samples as they are, and each seed's threshold of sensitivity.

Where every patient is alike (all malignant samples of five patients found) resampling shows no
spread. There a share has Wilson's (1927) interval with the patients as its number of trials.

Shape legend: N samples, S seeds, R replicates, G groups, X sets of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, Interval, interval
from trainables.metrics.figures import metric_interval
from trainables.metrics.group_values import Predictions, values_of_weights
from trainables.metrics.replicates import draw_patients, replicate_metrics

SHARES = ("accuracy", "sensitivity", "specificity", "underdiagnosis", "selection_rate")
RANGE = {"brier": (0.0, 2.0), "bias_amplification": (-1.0, 1.0)}
"""Of a figure; the others are in [0, 1]."""
FEW_PATIENTS = 10
_PATIENTS = 3  # the purpose in this module's stream
_CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class GroupFigures:
    """Figures by name: of each group, of all samples together, and between groups."""

    groups: Sequence[Mapping[str, Interval]]
    overall: Mapping[str, Interval]
    between: Mapping[str, Interval]
    threshold_S: Sequence[float | None]


def _weights(unit_N: np.ndarray, num_replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sample is drawn with its patient, (N, R) in chunks of replicates."""
    rng = np.random.default_rng([seed, _PATIENTS])
    num_units = int(unit_N.max()) + 1
    chunk = max(1, _CHUNK_ELEMENTS // len(unit_N))
    for start in range(0, num_replicates, chunk):
        yield draw_patients(num_units, min(chunk, num_replicates - start), rng)[unit_N]


def _wilson(rate: float, num: int, confidence: float) -> tuple[float, float]:
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (rate + z2 / (2 * num)) / (1 + z2 / num)
    half = math.sqrt(z2 * (rate * (1 - rate) / num + z2 / (4 * num**2))) / (1 + z2 / num)
    return middle - half, middle + half


def _interval(
    name: str, value_S: np.ndarray, replicate_RS: np.ndarray, num: int, confidence: float
) -> Interval:
    """The interval of one figure, ``num`` patients having a part in it."""
    if np.isnan(value_S).any():
        return Interval(None, reason="no such samples")
    value = float(value_S.mean())
    replicate_RS = np.where(np.isnan(replicate_RS), value_S, replicate_RS)
    if name in SHARES and value in (0.0, 1.0) and num:
        low, high = _wilson(value, num, confidence)
        alike = "one patient" if num == 1 else f"all {num} patients alike"
        note = f"{alike}: Wilson's interval"
        # the end that is the value itself is exact, whatever rounding says
        low, high = min(max(low, 0.0), value), max(min(high, 1.0), value)
        return Interval(value, low, high, approximate=(note,))
    if num < 2:
        return Interval(value, reason=f"samples of {num} patient, an interval needs 2")
    found = interval(value_S, replicate_RS, num_patients=num, confidence=confidence)
    notes = found.approximate
    if num < FEW_PATIENTS:
        notes = (*notes, f"{num} patients, fewer than {FEW_PATIENTS}")
    if found.low is None or found.high is None:
        return replace(found, approximate=notes)
    least, most = RANGE.get(name, (0.0, 1.0))
    return replace(found, low=max(found.low, least), high=min(found.high, most), approximate=notes)


def _num_patients(samples: Predictions, name: str, row_N: np.ndarray) -> int:
    """Patients that have a part in a figure of these samples."""
    if samples.malignant_C is not None:
        is_malignant_N = samples.malignant_C[samples.label_N[row_N]]
        if name in ("sensitivity", "underdiagnosis"):
            row_N = row_N[is_malignant_N]
        elif name == "specificity":
            row_N = row_N[~is_malignant_N]
    return len(np.unique(samples.patient_N[row_N]))


def _f1(
    samples: Predictions, g: int, num_replicates: int, seed: int, confidence: float
) -> Interval:
    """Macro F1 of one group, drawn as for the mean over groups (a Beta draw in small cells)."""
    row_N = np.flatnonzero(samples.group_N == g)
    if len(np.unique(samples.patient_N[row_N])) < 2:
        return Interval(None, reason="samples of 1 patient, an interval needs 2")
    replicates = replicate_metrics(
        samples.label_N[row_N], np.zeros(len(row_N), int), samples.patient_N[row_N],
        samples.prediction_SN[None, :, row_N], num_classes=samples.num_classes, num_groups=1,
        num_replicates=num_replicates, seed=seed,
    )  # fmt: skip
    found = metric_interval(replicates, "f1", 0, confidence=confidence)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def group_figures(
    samples: Predictions,
    *,
    num_replicates: int = 2_000,
    min_support: int = 1,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> GroupFigures:
    """Every figure of every group with ``min_support`` samples, and of all of known group.

    ``accuracy`` and ``f1`` always (``f1`` not of all together); ``bias_amplification`` with two
    groups or more, and ``demographic_parity`` between them; ``auroc``, ``ece`` and ``brier`` with
    probabilities; ``underdiagnosis`` and ``selection_rate`` (share predicted malignant) with
    ``malignant_C``; ``sensitivity`` and ``specificity`` with both.
    A group with too few samples has no figures. Each value is the mean over seeds.

    Raises:
        UserError: specificity out of range.
        ValueError: no sample of known group.
    """
    known_N = np.flatnonzero(samples.group_N >= 0)
    if not len(known_N):
        raise ValueError("no sample of known group")
    size_G = np.bincount(samples.group_N[known_N], minlength=samples.num_groups)
    kept = [g for g in range(samples.num_groups) if size_G[g] >= max(1, min_support)]
    row_XN = [np.flatnonzero(samples.group_N == g) for g in kept] + [known_N]
    threshold_S = samples.thresholds()
    unit_N = np.unique(samples.patient_N, return_inverse=True)[1]
    one_N1 = np.ones((len(unit_N), 1))
    value = values_of_weights(samples, kept, row_XN, threshold_S, one_N1)
    chunks = [
        values_of_weights(samples, kept, row_XN, threshold_S, weight_NR)
        for weight_NR in _weights(unit_N, num_replicates, seed)
    ]
    found: dict[tuple[int, str], Interval] = {}
    for (x, name), value_1S in value.items():
        row_N = row_XN[x]
        replicate_RS = np.concatenate([chunk[x, name] for chunk in chunks])
        found[x, name] = _interval(
            name, value_1S[0], replicate_RS, _num_patients(samples, name, row_N), confidence
        )
    by_place: dict[int, dict[str, Interval]] = {x: {} for x in range(-1, len(row_XN))}
    for (x, name), figure in found.items():
        by_place[x][name] = figure
    groups: list[Mapping[str, Interval]] = [{} for _ in range(samples.num_groups)]
    for x, g in enumerate(kept):
        f1 = _f1(samples, g, num_replicates, seed, confidence)
        groups[g] = {"f1": f1} | by_place[x]
    return GroupFigures(groups, by_place[len(kept)], by_place[-1], threshold_S)
