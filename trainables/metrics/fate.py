"""FATE, the gain in F1 minus the loss in fairness against a reference, and what each group got.

FATE can rise while every group gets worse, so it never travels without the tag of
``levelling_tag``.
"""

from collections.abc import Mapping
from typing import Any, Literal

# Below this a gap or an F1 is zero: a signed sum of rates that cancels leaves about 1e-17.
ZERO = 1e-12

Tag = Literal[
    "both gain",
    "worse-served group gains",
    "worse-served group does not gain",
    "levelling down",
    "no change",
    "not assessed",
]
"""What happened to the groups; ``levelling_tag`` has the rule."""


def undefined_reason(
    f1: float | None,
    gap: float | None,
    reference_f1: float | None,
    reference_gap: float | None,
) -> str | None:
    """Say why FATE is undefined for these values, or None where it is defined."""
    named = {
        "F1": f1,
        "gap": gap,
        "reference F1": reference_f1,
        "reference gap": reference_gap,
    }
    missing = [name for name, value in named.items() if value is None]
    if missing:
        return f"{' and '.join(missing)} undefined"
    for name in ("reference F1", "reference gap"):
        if abs(named[name] or 0.0) < ZERO:
            return f"{name} is 0"
    return None


def fate(
    f1: float | None,
    gap: float | None,
    reference_f1: float | None,
    reference_gap: float | None,
    weight: float = 1.0,
) -> float | None:
    """Fairness-accuracy trade-off against a reference; higher is better, the reference has 0.

    FATE = (F1 - F1_ref) / F1_ref - weight * (gap - gap_ref) / gap_ref, FairAdaBN (Xu et al.,
    MICCAI 2023), with weight 1 and F1 the mean over groups as in arXiv 2405.08681's tables.

    Returns:
        The value, or None where it is undefined; ``undefined_reason`` says why.
    """
    if undefined_reason(f1, gap, reference_f1, reference_gap) is not None:
        return None
    assert f1 is not None  # all four follow from there being no reason; said for the type checker
    assert gap is not None
    assert reference_f1 is not None
    assert reference_gap is not None
    return (f1 - reference_f1) / reference_f1 - weight * (gap - reference_gap) / reference_gap


def _assessed_f1(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {name: s["f1"] for name, s in groups.items() if s.get("f1") is not None}


def levelling_tag(
    groups: Mapping[str, Mapping[str, Any]], reference_groups: Mapping[str, Mapping[str, Any]]
) -> Tag:
    """Say which groups a change was bought from, by each group's macro F1 before and after.

    The worse-served group is the one with the lowest F1 in the reference (tied groups: the one
    that fares worst since). The first rule that holds:

    1. ``not assessed``: fewer than two groups have an F1 in both, or a group has one in only one
       of the two.
    2. ``both gain``: every group's F1 rises (also with more than two groups).
    3. ``worse-served group gains``: the worse-served group's rises, another's does not.
    4. ``worse-served group does not gain``: another group's rises, the worse-served group's not.
    5. ``levelling down``: no group's rises and at least one falls, whatever the gaps do.
    6. ``no change``: every group's F1 stays.

    Args:
        groups: per group its metrics; ``f1`` is read, None where not assessed.
        reference_groups: the same of the reference.
    """
    f1, before = _assessed_f1(groups), _assessed_f1(reference_groups)
    if len(f1) < 2 or f1.keys() != before.keys():
        return "not assessed"
    change = {name: f1[name] - before[name] for name in f1}
    lowest = min(before.values())
    worse_served = min(change[name] for name in f1 if before[name] - lowest < ZERO)
    if min(change.values()) > ZERO:
        return "both gain"
    if worse_served > ZERO:
        return "worse-served group gains"
    if max(change.values()) > ZERO:
        return "worse-served group does not gain"
    return "levelling down" if min(change.values()) < -ZERO else "no change"
