"""How sure the members of a front are, as an accessible HTML table."""

from __future__ import annotations

from typing import Any

from orchestrator.fronts.front import Front, Member
from orchestrator.judging.columns import CONTROLS, columns_of
from orchestrator.judging.judgement import Judgement
from orchestrator.pages.document import Cell, table
from trainables.metrics.verdict import PLAIN_NAMES, metric_name

GAP_NAMES = {
    "eodd_hardt": "Eodd, Hardt",
    "eodd": "Eodd, signed",
    "eopp1": "Eopp1",
    "eopp0": "Eopp0",
}
"""For columns; sentences have those of ``trainables.metrics.verdict``."""


def gap_of(front: Front) -> str:
    """The gap that is shown beside its floor: that of the first FATE among the objectives."""
    fates = [name for name in front.objectives if name.startswith("fate_")]
    return (fates or ["fate_eodd_hardt"])[0].removeprefix("fate_")


def member_name(index: int, member: Member) -> str:
    """A member with its number in the chart."""
    return f"{index + 1}  {member.aggregate.trial['label']}"


def sure_table(front: Front, judgement: Judgement) -> str:
    """One row a member: membership, its gap beside its floor, and what it is against its controls.

    Empty where nothing was judged.
    """
    if not judgement.points:
        return ""
    gap = gap_of(front)
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), "On the front in redraws", GAP_NAMES[gap],
        "Floor", "p", "Without sampling noise", "Smallest detectable",
        *(Cell(f"Against {PLAIN_NAMES.get(name, name)}", "text") for name in CONTROLS),
    ]  # fmt: skip
    rows = [
        [
            member_name(index, member),
            *_cells(
                columns_of(judgement, member.aggregate.configuration),
                gap,
                member.aggregate.figures[gap],
            ),
        ]
        for index, member in enumerate(front.members)
    ]
    what = metric_name(judgement.contrasted) if judgement.contrasted else "nothing"
    caption = (
        "Redraws are joint ones of seeds and patients, with the decision by the indifference "
        "zone. Floor: the gap that a classifier with equal per-class rates would show on these "
        "images, and p of the permutation test. Without sampling noise: root mean square over "
        "classes with the variance of the rates taken off. Smallest detectable: the "
        "gap of the true rates, on the same scale and without sampling noise, that this test set "
        "would find with 80 % power if the TPR differed by as much in every class. "
        f"Against the controls: the paired difference of {what}, all of them tested together "
        "(max-T)."
    )
    return table(caption, heads, rows, "How sure the members are")


def _cells(row: dict[str, Any], gap: str, value: float | None) -> list[str | Cell]:
    frequency = row["membership_frequency"]
    return [
        "–" if frequency is None else f"{frequency:.0%} ({row['membership']})",
        with_ends(value, row[f"{gap}_low"], row[f"{gap}_high"]),
        number(row[f"{gap}_floor"]),
        p_text(row[f"{gap}_p_value"]),
        number(row.get(f"{gap}_debiased")),
        number(row.get(f"{gap}_detectable")),
        *(Cell(row[f"vs_{name}_verdict"] or "–", "text tags verdict") for name in CONTROLS),
    ]


def p_text(value: float | None) -> str:
    """Three decimals; a permutation test cannot say 0."""
    return "<.001" if value is not None and value < 0.0005 else number(value)


def is_not_determined(
    judgement: Judgement | None, configuration: str, name: str
) -> bool:
    """Whether the interval of the reference's gap reaches 0 or its floor, so that this FATE is a
    number without meaning; False where it was not judged, and for the reference itself.
    """
    judged = judgement.points.get(configuration) if judgement else None
    found = judged.intervals.get(name) if judged else None
    if found is None or found.reason is None or not name.startswith("fate_"):
        return False
    return not found.reason.startswith("the reference")


def with_ends(value: float | None, low: float | None, high: float | None) -> str:
    """A figure with its interval, where it has one."""
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return number(value) + ends


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"
