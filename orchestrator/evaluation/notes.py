"""What is said beside the figures of ``evaluate``, one sentence each, for terminal and page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainables.metrics.fairness import GAPS

BESIDE = ("floor", "p_value", "excess", "gap_debiased", "smallest_detectable_gap")
"""What stands beside each gap, in the order of the columns."""


def told(result: dict[str, Any]) -> list[str]:
    """All of them: who is not assessed, what is undefined and why, definitions, verdicts, which
    intervals are approximate and why, and the notes of the document.
    """
    lines = [f"{name}: {text}" for name, text in result["not_assessed"].items()]
    lines += _undefined(result)
    lines += _without_interval(result)
    lines += _approximate(result)
    if result["num_groups"] > 2:
        lines.append(f"more than two groups: {result['definitions']['more_than_two_groups']}")
    lines += [result["permutation"]["note"]] if result["permutation"]["note"] else []
    lines += [f"{gap}: {text}" for gap, text in result["verdict"].items() if text]
    lines += [f"against the reference: {result['tag']}"] if result["tag"] else []
    return lines + [f"note: {note}" for note in result["notes"]]


def _by_reason(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for reason, name in pairs:
        if name not in found.setdefault(reason, []):
            found[reason].append(name)
    return found


def _undefined(result: dict[str, Any]) -> list[str]:
    """Also the dashes beside a gap: several of the same reason together."""
    pairs = []
    for name, reason in result["undefined"].items():
        figure, _, gap = name.partition(".")
        shown = f"{figure} of {gap}" if figure in BESIDE else name
        if result["reference"] or not name.startswith("fate_"):
            pairs.append((reason, shown.replace("_value", "")))
    return [
        f"undefined, {reason}: {', '.join(names)}" for reason, names in _by_reason(pairs).items()
    ]


def _intervals(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every interval that is shown, with the name of its figure."""
    found = list(result["interval"].items())
    for group, intervals in result["group_interval"].items():
        found += [(f"{figure} of {group}", interval) for figure, interval in intervals.items()]
    return found


def _without_interval(result: dict[str, Any]) -> list[str]:
    pairs = [
        (interval["reason"].removeprefix("not determined: "), name)
        for name, interval in _intervals(result)
        if interval["reason"]
    ]
    return [f"no interval, {reason}: {', '.join(names)}" for reason, names in
            _by_reason(pairs).items()]  # fmt: skip


def _approximate(result: dict[str, Any]) -> list[str]:
    """Reasons with the figures that they concern; figures of groups are counted, not listed."""
    whole = {"f1", *GAPS, *(f"fate_{gap}" for gap in GAPS)}
    lines = []
    pairs = [(r, name) for name, interval in _intervals(result) for r in interval["approximate"]]
    for reason, names in _by_reason(pairs).items():
        shown = [name for name in names if name in whole]
        num = len(names) - len(shown)
        shown += [f"{num} figure{'' if num == 1 else 's'} of groups"] if num else []
        lines.append(f"approximate intervals, {reason}: {', '.join(shown)}")
    return lines
