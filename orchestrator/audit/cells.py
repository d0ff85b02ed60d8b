"""Whether a printed FATE follows from the printed figures beside it, by interval arithmetic.

Every printed number stands for all numbers that round to it; all bounds are exact fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from orchestrator.tables.published import AVG, Block, Interval

Status = Literal["agrees", "within rounding", "does not agree", "cannot be recomputed"]
AGREE: tuple[Status, ...] = ("agrees", "within rounding")


@dataclass(frozen=True)
class Bounds:
    """What a figure must be: its value from the printed digits, and all that rounding allows.

    None: unknown (``value``) or unbounded (``low``, ``high``).
    """

    value: Fraction | None
    low: Fraction | None
    high: Fraction | None


@dataclass(frozen=True)
class Verdict:
    """The status of one printed figure, what it should be, and why."""

    status: Status
    bounds: Bounds | None = None
    reason: str | None = None


def fate_bounds(f1: Interval, gap: Interval, ref_f1: Interval, ref_gap: Interval) -> Bounds | None:
    """All FATEs that four printed numbers allow; None where the reference's F1 or gap is 0.

    FATE = F1/F1_ref - gap/gap_ref (the two ones cancel) is monotonic in each of the four, so its
    extremes are at corners. Scores and gaps are not negative.
    """
    if ref_f1.value <= 0 or ref_gap.value <= 0:
        return None
    value = f1.value / ref_f1.value - gap.value / ref_gap.value
    low: Fraction | None = None
    if ref_gap.low > 0:
        low = _at_least_0(f1.low) / ref_f1.high - gap.high / ref_gap.low
    high = None
    if ref_f1.low > 0:
        high = f1.high / ref_f1.low - _at_least_0(gap.low) / ref_gap.high
    return Bounds(value, low, high)


def _at_least_0(number: Fraction) -> Fraction:
    return max(number, Fraction(0))


def judge(printed: Interval, bounds: Bounds) -> Status:
    """``agrees``: the printed digits give this very number; ``within rounding``: the numbers
    behind them can; ``does not agree``: they cannot.
    """
    if bounds.value is not None and printed.low <= bounds.value <= printed.high:
        return "agrees"
    above = bounds.low is not None and bounds.low > printed.high
    below = bounds.high is not None and bounds.high < printed.low
    return "does not agree" if above or below else "within rounding"


def judge_fate(block: Block, reference: Block, gap: str) -> Verdict:
    """The verdict on one printed FATE whose reference row is printed, too."""
    needed = {
        "its F1": block.text(AVG, "f1"),
        "its gap": block.text(AVG, gap),
        "the reference's F1": reference.text(AVG, "f1"),
        "the reference's gap": reference.text(AVG, gap),
    }
    missing = [name for name, text in needed.items() if not text]
    if missing:
        reason = f"{' and '.join(missing)} not printed on the {AVG} line"
        return Verdict("cannot be recomputed", reason=reason)
    printed = Interval.of(block.text(AVG, f"fate_{gap}"))
    if block is reference:  # the very same numbers twice: no rounding is left
        zero = Fraction(0)
        bounds: Bounds | None = Bounds(zero, zero, zero)
    else:
        bounds = fate_bounds(*map(Interval.of, needed.values()))
    if bounds is None:
        return Verdict("cannot be recomputed", reason="the reference's F1 or gap is printed as 0")
    return Verdict(judge(printed, bounds), bounds)
