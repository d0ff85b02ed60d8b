"""What a judgement adds to the row of a configuration: flat columns, in files and tables alike."""

from __future__ import annotations

from typing import Any

from orchestrator.fronts.aggregate import GAPS
from orchestrator.judging.judgement import FATES, Judged, Judgement
from trainables.metrics.detectable import DETECTABLE

CONTROLS = ("none", "random")
_ENDS = ("low", "high")
_WITH_INTERVAL = ("f1", "f1_worst_group", *FATES, *GAPS)
INTERVALS = tuple(f"{name}_{end}" for name in _WITH_INTERVAL for end in _ENDS)
OF_GAP = ("floor", "p_value", "excess", "debiased", "debiased_low", "debiased_high", "detectable")
BESIDE = tuple(
    f"{gap}_{what}"
    for gap in GAPS
    for what in OF_GAP
    if (not what.startswith("debiased") or gap != "eodd")
    and (what != "detectable" or gap in DETECTABLE)
)
CONTRASTS = tuple(
    f"vs_{control}{what}"
    for control in CONTROLS
    for what in ("", "_low", "_high", "_p_value", "_verdict")
)
COLUMNS = (
    "membership_frequency", "membership", *INTERVALS, *BESIDE, *CONTRASTS, "approximate",
)  # fmt: skip

OPENED = tuple(name for name in INTERVALS if not name.startswith("f1_worst_group"))
TEST_COLUMNS = tuple(
    f"test_{name}"
    for name in (*OPENED, *(n for n in BESIDE if n.endswith(("_floor", "_p_value"))))
)
"""Of these, what an opening of the test split adds; it chose nothing, so nothing is contrasted."""


def opened_columns_of(judgement: Judgement | None, configuration: str) -> dict[str, Any]:
    """The columns of one configuration from the judgement of the opened test split."""
    row = columns_of(judgement, configuration)
    return {name: row[name.removeprefix("test_")] for name in TEST_COLUMNS}


def columns_of(judgement: Judgement | None, configuration: str) -> dict[str, Any]:
    """The columns of one configuration; all None where it was not judged."""
    judged = judgement.points.get(configuration) if judgement else None
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    if judged is None:
        return row
    row |= _intervals(judged) | _beside(judged) | _contrasts(judged)
    if judged.membership is not None:
        row |= {
            "membership_frequency": judged.membership.frequency,
            "membership": judged.membership.state,
        }
    row["approximate"] = "; ".join(judged.intervals["f1"].approximate) or None
    return row


def _intervals(judged: Judged) -> dict[str, Any]:
    return {
        f"{name}_{end}": getattr(interval, end)
        for name, interval in judged.intervals.items()
        for end in _ENDS
    }


def _beside(judged: Judged) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for gap, beside in judged.gaps.items():
        found |= {f"{gap}_{name}": getattr(beside.floor, name) for name in OF_GAP[:3]}
        if gap != "eodd":
            known = beside.debiased
            found |= {
                f"{gap}_debiased": known.value if known else None,
                f"{gap}_debiased_low": known.low if known else None,
                f"{gap}_debiased_high": known.high if known else None,
            }
        if gap in DETECTABLE:
            found[f"{gap}_detectable"] = beside.detectable
    return found


def _contrasts(judged: Judged) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for control in CONTROLS:
        if control in judged.contrasts:
            contrast, told = judged.contrasts[control]
            difference = contrast.simultaneous
            found |= {
                f"vs_{control}": difference.value,
                f"vs_{control}_low": difference.low,
                f"vs_{control}_high": difference.high,
                f"vs_{control}_p_value": contrast.adjusted_p_value,
                f"vs_{control}_verdict": told.text,
            }
    return found


def judgement_document(judgement: Judgement | None) -> dict[str, Any]:
    """What is said of the front as a whole."""
    volume = judgement.hypervolume if judgement else None
    return {
        "contrasted": judgement.contrasted if judgement else None,
        "hypervolume_low": volume.low if volume else None,
        "hypervolume_high": volume.high if volume else None,
        "expected_optimism": dict(judgement.optimism) if judgement else {},
        "hypervolume_history": [dict(point) for point in judgement.history] if judgement else [],
    }
