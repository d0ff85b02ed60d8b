"""What may be searched for: each objective's direction, where it is read, and where the
hypervolume starts.

One table for samplers, fronts and racing. Everything geometric (``orchestrator/fronts/pareto.py``)
maximises: ``maximised`` is the one place where minimised objectives change their sign.

Shape legend: N points, K objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search_spaces.objectives import OBJECTIVES as NAMES
from search_spaces.objectives import objectives as others
from trainables.errors import UserError

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """One objective; its value is ``Aggregate.figures[name]``.

    Attributes:
        name: of the figure.
        direction: as Optuna spells it.
        reference: of the hypervolume, in the figure's own unit; None where no value is natural
            (there is no worst number of parameters), and then a front has no hypervolume.
        noisy: whether other seeds or patients could give another value.
    """

    name: str
    direction: Direction = "maximize"
    reference: float | None = None
    noisy: bool = True


_ALL = (
    Objective("fate_eodd_hardt", reference=-1.0),
    Objective("fate_eodd", reference=-1.0),
    Objective("fate_eopp1", reference=-1.0),
    Objective("fate_eopp0", reference=-1.0),
    Objective("f1", reference=0.0),
    Objective("f1_worst_group", reference=0.0),
    Objective("gap_debiased", "minimize", reference=1.0),
    Objective("auroc", reference=0.0),
    Objective("params", "minimize", noisy=False),
    Objective("flops", "minimize", noisy=False),
    Objective("latency", "minimize"),
)
OBJECTIVES = {one.name: one for one in _ALL}
assert tuple(OBJECTIVES) == NAMES


def objective(name: str) -> Objective:
    """A built-in objective, or one of another package.

    Raises:
        UserError: there is none, or its package is broken.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    own = others.get(name)
    if getattr(own, "direction", None) not in ("maximize", "minimize"):
        raise UserError(f"the direction of objective {name!r} must be maximize or minimize")
    return Objective(name, own.direction, own.reference)


def directions(names: Sequence[str]) -> list[Direction]:
    """Direction of each objective."""
    return [objective(name).direction for name in names]


def signs(names: Sequence[str]) -> np.ndarray:
    """1 where an objective is maximised, -1 where it is minimised, (K,)."""
    return np.array([1.0 if d == "maximize" else -1.0 for d in directions(names)])


def maximised(values_NK: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The values (or their draws, (..., K)) with minimised objectives negated; its own inverse."""
    return np.asarray(values_NK, dtype=float) * signs(names)


def reference_point(names: Sequence[str]) -> tuple[float, ...] | None:
    """Where the hypervolume of ``maximised`` values starts; None: it has no natural start."""
    found = [objective(name).reference for name in names]
    if any(value is None for value in found):
        return None
    return tuple(maximised(np.array(found, dtype=float), names).tolist())
