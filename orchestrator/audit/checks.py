"""Checks of one printed block by itself: Avg, Diff, and the bounds of Eodd."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from orchestrator.audit.cells import Bounds, judge
from orchestrator.tables.published import AVG, DIFF, SCORES, Block, Interval

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be checked"


def checks_of(block: Block) -> Iterator[dict[str, Any]]:
    """Avg and Diff of each score against the group lines, and Eodd against Eopp0 and Eopp1."""
    for figure in SCORES:
        texts = [block.text(group, figure) for group in block.groups]
        groups = [Interval.of(text) for text in texts if text]
        complete = len(groups) == len(texts) and len(groups) > 1
        for line, bounds in ((AVG, _average), (DIFF, _difference)):
            printed = block.text(line, figure)
            if not printed:
                continue
            if not complete:
                yield _check(block, line, figure, None, "a group's line is not printed")
            else:
                yield _check(block, line, figure, bounds(groups, block.num_seeds))
    if all(block.text(AVG, gap) for gap in ("eopp0", "eopp1", "eodd")):
        if block.mode == "paper":
            yield _check(block, AVG, "eodd", _eodd(block))
        else:
            why = f"mode {block.mode} skips absent classes, so the gaps are over other classes"
            yield _check(block, AVG, "eodd", None, why)


def _average(groups: list[Interval], num_seeds: int) -> Bounds:
    number = len(groups)
    return Bounds(
        sum((g.value for g in groups), Fraction(0)) / number,
        sum((g.low for g in groups), Fraction(0)) / number,
        sum((g.high for g in groups), Fraction(0)) / number,
    )


def _difference(groups: list[Interval], num_seeds: int) -> Bounds:
    """Largest minus smallest; of means over seeds a mean difference can only be larger."""
    value = max(g.value for g in groups) - min(g.value for g in groups)
    low = max(Fraction(0), max(g.low for g in groups) - min(g.high for g in groups))
    high = max(g.high for g in groups) - min(g.low for g in groups)
    return Bounds(value, low, high if num_seeds == 1 else None)


def _eodd(block: Block) -> Bounds:
    """Eodd = mean |dTPR + dFPR| / 2 lies between (Eopp1 - Eopp0) / 2 and (Eopp1 + Eopp0) / 2.

    By the triangle inequality, since |dFPR| = |dTNR|; so do maxima over pairs of groups and means
    over seeds.
    """
    eopp0, eopp1 = (Interval.of(block.text(AVG, gap)) for gap in ("eopp0", "eopp1"))
    low = max(Fraction(0), (eopp1.low - eopp0.high) / 2)
    return Bounds(None, low, (eopp1.high + eopp0.high) / 2)


def _check(
    block: Block, line: str, figure: str, bounds: Bounds | None, reason: str | None = None
) -> dict[str, Any]:
    printed = block.text(line, figure)
    status = OPEN
    if bounds is not None:
        status = FAILS if judge(Interval.of(printed), bounds) == "does not agree" else HOLDS
    known = bounds or Bounds(None, None, None)
    return {
        "table": block.table,
        "method": block.label,
        "line": line,
        "figure": figure,
        "printed": printed,
        "status": status,
        "low": None if known.low is None else float(known.low),
        "high": None if known.high is None else float(known.high),
        "reason": reason,
        "known_misprint": block.known_misprint(line, figure),
    }
