"""A paired difference from a control in words that cannot be misread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.metrics.crossed import Interval

Kind = Literal["better", "worse", "not distinguishable", "not determined"]

PLAIN_NAMES = {"none": "fine-tuning alone", "random": "random channels"}
"""Of the control arms; another control is called by its own name."""
GAP_NAMES = {
    "eodd_hardt": "Eodd (Hardt)",
    "eodd": "Eodd (signed)",
    "eopp1": "Eopp1",
    "eopp0": "Eopp0",
}


def metric_name(name: str) -> str:
    """A figure as sentences call it: ``fate_eopp1`` is ``FATE, Eopp1``."""
    if name.startswith("fate_"):
        return f"FATE, {GAP_NAMES[name.removeprefix('fate_')]}"
    further = {"f1": "F1", "f1_worst_group": "F1 of the worst group"}
    return (GAP_NAMES | further).get(name, name)


@dataclass(frozen=True)
class Verdict:
    """``kind`` for programs, ``text`` for people; ``approximate``: what weakens it."""

    kind: Kind
    text: str
    approximate: tuple[str, ...] = ()


def verdict(
    difference: Interval, control: str, metric: str, *, higher_is_better: bool = True
) -> Verdict:
    """What the interval of ``arm - control`` says, with the metric that it is of.

    ``better`` and ``worse`` give the size of the advantage or of the disadvantage, which is
    positive whatever the direction of the metric; ``not distinguishable`` gives the difference as
    it is, and says where lower is better. One seed determines nothing: how much training varies
    is unknown then.

    Args:
        difference: of ``arm`` less ``control``; the simultaneous one where several are judged.
        control: its name, such as ``none`` or ``random``.
        metric: the figure, such as ``fate_eodd_hardt``; see ``metric_name``.
        higher_is_better: of the metric; False for gaps.
    """
    name = PLAIN_NAMES.get(control, control)
    value, low, high = difference.value, difference.low, difference.high
    reason = difference.reason or ""
    if not reason and difference.num_seeds == 1:
        reason = "1 seed does not say how much training varies"
    if reason or value is None or low is None or high is None:
        reason = reason.removeprefix("not determined: ") or "it has no interval"
        text = f"not determined ({metric_name(metric)}): {reason}"
        return Verdict("not determined", text, difference.approximate)
    if low <= 0 <= high:
        direction = "" if higher_is_better else ", lower is better"
        numbers = f"difference {_figures(value, low, high)}{direction}"
        text = f"not distinguishable from {name} in {metric_name(metric)} ({numbers})"
        return Verdict("not distinguishable", text, difference.approximate)
    size, near, far = (value, low, high) if low > 0 else (-value, -high, -low)
    kind: Kind = "better" if (low > 0) == higher_is_better else "worse"
    text = f"{kind} than {name} by {_figures(size, near, far)} in {metric_name(metric)}"
    return Verdict(kind, text, difference.approximate)


def _figures(value: float, low: float, high: float) -> str:
    """``0.08 [0.03, 0.13]``: the interval's width to two digits, but two decimals at least, and as
    many (up to 6) as keep an end from reading 0.
    """
    width = high - low
    # the addend keeps a width of .1, which is .09999 in binary, from asking for one more
    decimals = max(2, min(6, 1 - math.floor(math.log10(width) + 1e-9))) if width > 0 else 2
    while decimals < 6 and any(x != 0 and round(abs(x), decimals) == 0 for x in (low, high)):
        decimals += 1
    # Adding 0 turns -0.0 into 0.0.
    shown = [f"{round(x, decimals) + 0.0:.{decimals}f}" for x in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
