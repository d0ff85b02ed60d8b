"""What stands beside each gap of ``evaluate``: floor, p-value, interval, and what could be seen.

Shape legend: N rows, S seeds, G groups, C classes, A arms (the predictions, then the reference).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from trainables.metrics.corrected_gap import gap_debiased
from trainables.metrics.crossed import Interval
from trainables.metrics.detectable import DETECTABLE, smallest_detectable_gap
from trainables.metrics.fairness import GAPS, Mode
from trainables.metrics.figures import difference_interval, fate_interval, metric_interval
from trainables.metrics.floor import permutation_floor
from trainables.metrics.replicates import replicate_metrics

ALPHA = 0.05
NOT_DETECTABLE = {
    "eopp0": "the alternative is a difference of TPR in every class, of which eopp0 shows little",
    "eodd": "signed: a difference of TPR may cancel in it",
}
OF_SKIP = "absent zero: a detectable gap is that of classes that both groups have"
CONTENTS = (
    "floor", "p_value", "excess", "gap_debiased", "gap_debiased_interval",
    "smallest_detectable_gap", "interval", "change_interval", "verdict", "permutation",
)  # fmt: skip
"""Keys that this module adds to the document."""


class Sizes(TypedDict):
    """Arguments that all statistics take."""

    num_classes: int
    num_groups: int


@dataclass(frozen=True)
class Samples:
    """The rows of one or two arms, groups not to be assessed being -1."""

    label_N: np.ndarray
    group_N: np.ndarray
    patient_N: np.ndarray  # a number for each patient, one of its own where unknown
    prediction_ASN: np.ndarray
    num_classes: int
    num_groups: int
    within: tuple[np.ndarray, ...] = ()
    mode: Mode = "corrected"
    unpaired: str | None = None  # why the reference is no arm, where there is one

    @property
    def sizes(self) -> Sizes:
        """C and G, as the statistics take them."""
        return Sizes(num_classes=self.num_classes, num_groups=self.num_groups)

    @property
    def own(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first arm, as the statistics take it."""
        return self.label_N, self.prediction_ASN[0], self.group_N, self.patient_N


def as_json(interval: Interval) -> dict[str, Any]:
    """An interval as the documents hold it."""
    return {
        "low": interval.low,
        "high": interval.high,
        "reason": interval.reason,
        "approximate": list(interval.approximate),
    }


def _floors(samples: Samples, num_replicates: int, undefined: dict[str, str]) -> dict[str, Any]:
    found = permutation_floor(
        *samples.own, **samples.sizes, mode=samples.mode, within=samples.within,
        num_replicates=num_replicates, alpha=ALPHA,
    )  # fmt: skip
    columns: dict[str, dict[str, float | None]] = {
        name: {gap: getattr(found.gaps[gap], name) for gap in GAPS}
        for name in ("floor", "p_value", "excess")
    }
    for gap in GAPS:
        for name, values in columns.items():
            if found.gaps[gap].value is None:
                undefined[f"{name}.{gap}"] = "the gap itself is undefined"
            elif values[gap] is None:
                unit = "patient" if name == "p_value" else "image"
                of = "classes" if name == "p_value" else "class"
                reason = f"no {unit} has a counterpart of another group with the same {of}"
                undefined[f"{name}.{gap}"] = reason
    return columns | {
        "permutation": {
            "num_replicates": found.num_replicates,
            "num_units": found.exchange.num_patients,
            "num_movable": found.exchange.num_whole,
            "num_split": found.exchange.num_split,
            "num_fixed": found.exchange.num_fixed,
            "num_in_several_groups": found.exchange.num_in_several_groups,
            "note": found.exchange.note,
        }
    }


def _debiased(samples: Samples, undefined: dict[str, str]) -> dict[str, Any]:
    value: dict[str, float | None] = dict.fromkeys(GAPS)
    ends = {gap: as_json(Interval(None, reason="gap_debiased is undefined")) for gap in GAPS}
    undefined["gap_debiased.eodd"] = "signed: terms cancel, its square is no size of a gap"
    others = [gap for gap in GAPS if gap != "eodd"]
    if samples.mode == "paper":
        reason = "absent zero: a class that a group lacks has no variance to take off"
        undefined |= {f"gap_debiased.{gap}": reason for gap in others}
    else:
        found = gap_debiased(*samples.own, **samples.sizes)
        for gap in others:
            corrected = found[gap]
            if corrected is None:
                undefined[f"gap_debiased.{gap}"] = "no pair of groups has a class to compare"
            else:
                value[gap] = corrected.value
                notes = ("classes taken as independent, training as fixed",)
                ends[gap] = as_json(
                    Interval(corrected.value, corrected.low, corrected.high, approximate=notes)
                )
    return {"gap_debiased": value, "gap_debiased_interval": ends}


def _detectable(
    samples: Samples, num_replicates: int, undefined: dict[str, str]
) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(GAPS)
    for gap in GAPS:
        name = f"smallest_detectable_gap.{gap}"
        if gap not in DETECTABLE:
            undefined[name] = NOT_DETECTABLE[gap]
            continue
        if samples.mode == "paper":
            undefined[name] = OF_SKIP
            continue
        detectable = smallest_detectable_gap(
            *samples.own, **samples.sizes, gap=gap, within=samples.within,
            num_replicates=min(num_replicates, 2_000), alpha=ALPHA,
        )  # fmt: skip
        found[gap] = detectable.gap
        if detectable.reason:
            undefined[name] = detectable.reason
    return found


def _intervals(
    samples: Samples, floor: Mapping[str, float | None], num_replicates: int, *, reference: bool
) -> dict[str, Any]:
    names = ("f1", *GAPS)
    fates = [f"fate_{gap}" for gap in GAPS] if reference else []
    changes = names if reference else ()
    if len(np.unique(samples.patient_N[samples.group_N >= 0])) < 2:
        none = as_json(Interval(None, reason="fewer than two patients (or images) to draw from"))
        return {
            "interval": dict.fromkeys((*names, *fates), none),
            "change_interval": dict.fromkeys(changes, none),
        }
    replicates = replicate_metrics(
        samples.label_N, samples.group_N, samples.patient_N, samples.prediction_ASN,
        **samples.sizes, num_replicates=num_replicates,
    )  # fmt: skip
    found = {name: metric_interval(replicates, name, 0) for name in names}
    changed: dict[str, Interval] = {}
    if reference and samples.unpaired is None:
        for gap in GAPS:
            found[f"fate_{gap}"] = fate_interval(
                replicates, gap, 0, 1, floor=max(floor.get(gap) or 0.0, 0.0)
            )
        changed = {name: difference_interval(replicates, name, 0, 1) for name in changes}
    elif reference:
        unpaired = Interval(None, reason=f"not paired with the reference: {samples.unpaired}")
        found |= dict.fromkeys(fates, unpaired)
        changed = dict.fromkeys(changes, unpaired)
    if samples.mode == "paper":
        reason = Interval(None, reason="intervals are computed with absent skip only")
        found |= {name: reason for name in found if name != "f1"}
        changed |= {name: reason for name in changed if name != "f1"}
    return {
        "interval": {name: as_json(found[name]) for name in (*names, *fates)},
        "change_interval": {name: as_json(changed[name]) for name in changes},
    }


def _verdict(p_value: float | None, value: float | None, detectable: float | None) -> str | None:
    """One sentence on a gap, that cannot be read as the predictions being fair."""
    if value is None or p_value is None:
        return None
    if p_value <= ALPHA:
        return f"larger than a classifier with equal per-class rates shows (p = {p_value:.2g})"
    if detectable is None:
        return (
            "at the floor: this test set does not tell it from a classifier with equal per-class "
            f"rates (p = {p_value:.2g})"
        )
    return (
        f"at the floor (p = {p_value:.2g}): this test set cannot show a gap below "
        f"{detectable:.2f} (of the true rates, without the noise that the value holds; 80 % power)"
    )


def evidence(
    samples: Samples,
    value: Mapping[str, float | None],
    *,
    num_replicates: int,
    reference: bool = False,
    undefined: dict[str, str],
) -> dict[str, Any]:
    """The keys of ``CONTENTS``; adds to ``undefined`` why a figure is null, as ``key.gap``.

    Args:
        samples: rows with a known group.
        value: each gap as it stands in the document.
        num_replicates: of patients, and of permutations.
        reference: whether there is one; where it is the second arm, its floor decides whether
            FATE has an interval.
        undefined: is added to.
    """
    document = _floors(samples, num_replicates, undefined)
    floor: Mapping[str, float | None] = {}
    if len(samples.prediction_ASN) > 1:
        found = permutation_floor(
            samples.label_N, samples.prediction_ASN[1], samples.group_N, samples.patient_N,
            **samples.sizes, mode=samples.mode, within=samples.within,
            num_replicates=num_replicates,
        )  # fmt: skip
        floor = {gap: found.gaps[gap].floor for gap in GAPS}
    document |= _debiased(samples, undefined)
    detectable = _detectable(samples, num_replicates, undefined)
    document["smallest_detectable_gap"] = detectable
    document |= _intervals(samples, floor, num_replicates, reference=reference)
    document["verdict"] = {
        gap: _verdict(document["p_value"][gap], value[gap], detectable[gap]) for gap in GAPS
    }
    return document
