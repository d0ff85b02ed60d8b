"""How sure the members of a front are, as an accessible HTML table."""

from __future__ import annotations

from html import escape
from typing import Any

from orchestrator.front import Front
from orchestrator.judged_columns import CONTROLS, columns_of
from orchestrator.judgement import Judgement
from trainables.metrics.verdict import PLAIN_NAMES

GAP_NAMES = {
    "eodd_hardt": "Eodd, Hardt",
    "eodd": "Eodd, signed",
    "eopp1": "Eopp1",
    "eopp0": "Eopp0",
}


def gap_of(front: Front) -> str:
    """The gap that is shown beside its floor: that of the first FATE among the objectives."""
    fates = [name for name in front.objectives if name.startswith("fate_")]
    return (fates or ["fate_eodd_hardt"])[0].removeprefix("fate_")


def sure_table(front: Front, judgement: Judgement) -> str:
    """One row a member: membership, its gap beside its floor, and what it is against its controls.

    The whole section with its heading; empty where nothing was judged.
    """
    if not judgement.points:
        return ""
    gap = gap_of(front)
    heads = [
        ("Configuration", "text"), ("On the front in redraws", ""), (f"{GAP_NAMES[gap]}", ""),
        ("Floor", ""), ("p", ""), ("Without sampling noise", ""), ("Smallest detectable", ""),
        *((f"Against {PLAIN_NAMES.get(control, control)}", "text") for control in CONTROLS),
    ]  # fmt: skip
    head = "".join(
        f'<th scope="col"{f" class={kind!r}" if kind else ""}>{escape(name)}</th>'
        for name, kind in heads
    )
    body = "".join(
        f'<tr><th scope="row">{escape(member.aggregate.trial["label"])}</th>'
        + _cells(columns_of(judgement, member.aggregate.configuration), gap,
                 member.aggregate.figures[gap])
        + "</tr>"
        for member in front.members
    )  # fmt: skip
    what = (
        "gap" if judgement.contrasted and not judgement.contrasted.startswith("fate") else "FATE"
    )
    caption = (
        "Redraws are joint ones of seeds and patients, with the decision by the indifference "
        "zone. Floor: the gap that a classifier with equal per-class rates would show on these "
        "images, and p of the permutation test. Without sampling noise: root mean square over "
        "classes with the variance of the rates taken off. Smallest detectable: the difference "
        "in every class that this test set would find with 80 % power. Against the controls: the "
        f"paired difference of the {what}, all of them tested together (max-T)."
    )
    return (
        '<h2>How sure this is</h2><div class="wide" tabindex="0" role="region" '
        'aria-label="How sure the members are">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: dict[str, Any], gap: str, value: float | None) -> str:
    frequency = row["membership_frequency"]
    figures = [
        "–" if frequency is None else f"{frequency:.0%} ({row['membership']})",
        with_ends(value, row[f"{gap}_low"], row[f"{gap}_high"]),
        number(row[f"{gap}_floor"]),
        "&lt;.001" if (p := row[f"{gap}_p_value"]) is not None and p < 0.0005 else number(p),
        number(row.get(f"{gap}_debiased")),
        number(row.get(f"{gap}_detectable")),
    ]
    verdicts = [row[f"vs_{control}_verdict"] for control in CONTROLS]
    return "".join(f"<td>{cell}</td>" for cell in figures) + "".join(
        f'<td class="text tags verdict">{escape(text or "–")}</td>' for text in verdicts
    )


def with_ends(value: float | None, low: float | None, high: float | None) -> str:
    """A figure with its interval, where it has one."""
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return number(value) + ends


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"
