"""What may be searched for: the names of the built-in objectives, and those of other packages.

A package brings an objective by an entry point of the group ``fatefront.objectives``: a class with
a ``value`` that is read from the record of each seed. Directions and starts of the built-in ones
are in ``orchestrator/fronts/objectives.py``.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from trainables.errors import UserError, shortened
from trainables.registry import Registry

T = TypeVar("T", bound=type)

OBJECTIVES = (
    "fate_eodd_hardt", "fate_eodd", "fate_eopp1", "fate_eopp0", "f1", "f1_worst_group",
    "gap_debiased", "auroc", "params", "flops", "latency",
)  # fmt: skip
"""The built-in ones."""
UNDRAWN = ("gap_debiased", "auroc", "latency")
"""Built-in ones that are not redrawn with seeds and patients, so that no race can be about them;
nor can one be about an objective of another package.
"""


class OwnObjective(ABC):
    """An objective of another package: a figure of one seed; a configuration has the mean.

    Nothing is computed anew for it and it is in no key: it is read from what every trial records,
    of the training and validation splits alone.
    """

    name: ClassVar[str]
    direction: ClassVar[Literal["maximize", "minimize"]] = "maximize"
    reference: ClassVar[float | None] = None
    """Where the hypervolume starts, in the figure's own unit; None: at the worst point."""

    @staticmethod
    @abstractmethod
    def value(validation: Mapping[str, Any], model: Mapping[str, Any]) -> float | None:
        """The figure of one seed; None (or not a finite number): undefined.

        Args:
            validation: ``result.metrics.validation`` of its record (docs/contracts.md): figures of
                all images, and under ``groups`` those of each group.
            model: ``result.model``: ``num_params``, ``flops``, ...
        """


class _Registry(Registry):
    """Objectives; the names of the built-in ones cannot be taken."""

    def register(self, name: str) -> Callable[[T], T]:
        """As of every registry.

        Raises:
            ValueError: the name is a built-in one's or taken.
        """
        if name in OBJECTIVES:
            raise ValueError(f"objective {name!r} is a built-in one's name")
        return super().register(name)

    def loaded(self) -> dict[str, type[OwnObjective]]:
        """Those that were asked for in this process."""
        return dict(self._classes)

    def check(self, name: str) -> None:
        """Raise unless there is such an objective; one of a package is imported.

        Raises:
            UserError: no such objective (the nearest is named), or its package is broken.
        """
        if name in OBJECTIVES:
            return
        known = (*OBJECTIVES, *(own for own in self.names() if own not in OBJECTIVES))
        if name in known:
            self.get(name)
            return
        near = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"
        raise UserError(f"unknown objective {shortened(name)}{hint}")


objectives = _Registry("objective", "fatefront.objectives", {}, needs="value")
