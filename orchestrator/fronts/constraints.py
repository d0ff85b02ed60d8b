"""Which configurations are feasible: no group may lose more macro F1 than ``search.max_f1_loss``.

The loss is relative to the FATE reference, of the means over seeds, on validation; FATE can rise
while every group fares worse (levelling down), and this is what keeps such points off the front.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_F1_LOSS = "max_f1_loss"
"""Name of the constraint in Optuna."""
UNDEFINED = 1.0
"""Violation where the loss is undefined: as if a group had lost all, beyond any limit."""


def f1_loss(
    f1: Mapping[str, float | None], reference_f1: Mapping[str, float | None]
) -> float | None:
    """The largest relative loss of any group, (before - after) / before; negative: all gain.

    A group that the reference has no F1 above 0 for can lose nothing and is left out. None where
    no group is left, or one of them has no F1 any more.

    Args:
        f1: group -> macro F1, mean over seeds; None where undefined.
        reference_f1: the same of the reference.
    """
    losses = []
    for group, before in reference_f1.items():
        if before is None or before <= 0:
            continue
        after = f1.get(group)
        if after is None:
            return None
        losses.append((before - after) / before)
    return max(losses, default=None)


def violations(loss: float | None, limit: float | None) -> dict[str, float]:
    """Constraint -> by how much it is violated, at most 0 where it holds; {} without a limit.

    The form of Optuna's ``constraints``.
    """
    if limit is None:
        return {}
    return {MAX_F1_LOSS: UNDEFINED if loss is None else loss - limit}


def is_feasible(loss: float | None, limit: float | None) -> bool:
    """Whether a configuration may be a member of the front; always without a limit."""
    return all(value <= 1e-12 for value in violations(loss, limit).values())
