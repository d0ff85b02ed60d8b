"""Which configuration comes next: the interface of all samplers, and the grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.search.tree import Configuration, grid
from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import Choice, OneOf, fill, option_labels
from trainables.trial_spec import digest


@dataclass(frozen=True)
class Proposal:
    """One proposed configuration, as the ledger keeps it (contracts: searching)."""

    number: int
    parameters: dict[str, Any]
    configuration: Configuration
    chosen_by: str
    system_attrs: dict[str, Any] = field(default_factory=dict)
    origin: str = "proposal"  # or "ancestor": measured on the way to a proposal, costs none

    def event(self) -> dict[str, Any]:
        """Fields of the ``proposal`` event."""
        return {
            "number": self.number,
            "parameters": self.parameters,
            "configuration": {
                "baseline": self.configuration.baseline,
                "prune": self.configuration.prune,
                "n": self.configuration.n,
            },
            "chosen_by": self.chosen_by,
            "origin": self.origin,
            "system_attrs": self.system_attrs,
        }

    @classmethod
    def from_event(cls, event: dict[str, Any]) -> Proposal:
        """Inverse of ``event``."""
        return cls(
            number=event["number"],
            parameters=event["parameters"],
            configuration=Configuration(**event["configuration"]),
            chosen_by=event["chosen_by"],
            system_attrs=event["system_attrs"],
            origin=event["origin"],
        )


Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Measured:
    """What a proposer is told: objectives in their own units (None = undefined or failed), and by
    how much each constraint is violated (``orchestrator/fronts/constraints.py``).
    """

    values: Values
    constraints: Mapping[str, float] = field(default_factory=dict)


Known = Callable[[Configuration], Measured | None]
"""What is known of a configuration once all its seeds are settled, else None."""


class Proposer(Protocol):
    """A sampler; every list it returns is written to the ledger before anything else happens."""

    def restore(self, proposals: list[Proposal], known: Known) -> None:
        """Take in the ledger's proposals, in order of their numbers."""

    def propose(self) -> list[Proposal]:
        """The next proposal and its unmeasured ancestors; empty when the space is exhausted.

        Entries with ``chosen_by == "repeat"`` were visited before and need no work.
        """

    def observe(self, configuration: Configuration, measured: Measured) -> None:
        """Tell what a configuration whose seeds are all settled has shown."""


class GridProposer:
    """Every configuration of a finite space, once: the first of each baseline, then the second of
    each; where chains may be stopped, all of one iteration before all of two.

    By turns, because a baseline's training is what its configurations wait for: in the order of
    the space the last baseline would be trained when all chains of the others have ended.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._rest = _by_turns(grid(spec))
        if spec.search.stop_at is not None:
            self._rest.sort(key=lambda entry: entry[1].n)
        self._number = 0

    def restore(self, proposals: list[Proposal], known: Known) -> None:
        """Leave out what was proposed before."""
        seen = {proposal.configuration.key for proposal in proposals}
        self._rest = [(p, c) for p, c in self._rest if c.key not in seen]
        self._number = len(proposals)

    def propose(self) -> list[Proposal]:
        """The next point of the grid."""
        if not self._rest:
            return []
        parameters, configuration = self._rest.pop(0)
        self._number += 1
        return [Proposal(self._number - 1, parameters, configuration, "grid")]

    def observe(self, configuration: Configuration, measured: Measured) -> None:
        """A grid does not learn."""


def _by_turns(
    points: Iterable[tuple[dict[str, Any], Configuration]],
) -> list[tuple[dict[str, Any], Configuration]]:
    """The first point of each baseline in the order given, then the second of each, ..."""
    num_seen: Counter[str] = Counter()
    turns = []
    for point in points:
        baseline = digest(point[1].baseline)
        turns.append((num_seen[baseline], point))
        num_seen[baseline] += 1
    return [point for _, point in sorted(turns, key=lambda turn: turn[0])]


def in_space(spec: SweepSpec, proposal: Proposal) -> bool:
    """Whether a proposal of an earlier start still lies in the space as it is now."""

    def ask(name: str, word: Any) -> Any:
        value = proposal.parameters[name]
        inside = (
            value in option_labels(word) if isinstance(word, OneOf)
            else value in word.values if isinstance(word, Choice)
            else word.low <= value <= word.high
        )  # fmt: skip
        if not inside:
            raise KeyError(name)
        return value

    try:
        filled = fill({"baseline": spec.baseline, "prune": spec.prune}, ask)
    except KeyError:
        return False
    old = proposal.configuration
    return filled == {"baseline": old.baseline, "prune": old.prune} and old.n <= spec.iterations
