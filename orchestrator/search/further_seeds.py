"""After the search: racing gives configurations whose place is in doubt further seeds, then fresh
seeds confirm the members (contracts: saying how sure).

Only validation is read. What was decided stands in the ledger (``raced``, ``confirmed``) and is
replayed at a restart, never decided again: the same seeds are trained as if nothing had happened.

Racing seeds are the smallest numbers that a configuration has not had, confirmation seeds those
from ``CONFIRMATION`` on. A treated arm's seed brings its controls and the reference along, so that
every comparison stays paired.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.fronts.front import Front, sweep_front
from orchestrator.judging.standings import Standings
from orchestrator.ledger.records import Ledger
from orchestrator.search.racing import further_seeds
from orchestrator.search.tree import Node, Tree
from search_spaces.sweep_spec import CONFIRMATION, SweepSpec
from trainables.metrics.membership import lost_shares, zone_of

MAX_ARMS_A_LINE = 45
"""Of a ledger line, which must stay under 4 KB."""

Addition = tuple[Node, int]
"""A node of an arm, and the seed with which the arm is to be run again."""


class FurtherSeeds:
    """What a sweep trains after its search; see the module's docstring.

    Args:
        spec: the sweep.
        tree: is extended.
        ledger: decisions are appended.
        records: key -> record, as they are at each step.
        standings: draws of the configurations; needed for racing only.
    """

    def __init__(
        self,
        spec: SweepSpec,
        tree: Tree,
        ledger: Ledger,
        records: Mapping[str, Mapping[str, Any]],
        standings: Standings,
    ) -> None:
        self.spec, self.search, self.tree = spec, spec.search, tree
        self.ledger, self.records = ledger, records
        self.standings = standings
        self._round = 0
        self._settled: frozenset[str] = frozenset()
        self._lost: dict[str, float] = {}
        self.notes: list[str] = []
        """Why racing is over, for people."""

    def restore(self) -> None:
        """Extend the tree by what was decided before; what lies outside the space is left out."""
        for event in self.ledger.events:
            if event["event"] == "raced":
                self._round = max(self._round, event["round"])
                self._extend(event["seeds"].items())
            elif event["event"] == "confirmed":
                self._extend((event["configuration"], seed) for seed in event["seeds"])

    def _extend(self, seeds: Iterable[tuple[str, int]]) -> None:
        for configuration, seed in seeds:
            node = self.tree.example(configuration)
            if node is not None:
                self.tree.again(node, seed)

    def step(self, room: int | None, has: Callable[[str], bool], *, may_race: bool = True) -> bool:
        """Decide what is trained next, when nothing runs and nothing is ready; False: the end.

        Args:
            room: nodes that may still be computed; None: no limit.
            has: whether a node need not be computed.
            may_race: False when the time that is left is for confirmation.
        """
        if not (self.search.racing or self.search.num_confirming):
            return False
        front = sweep_front(self.records, self.spec, confirmed=False)
        confirming = self._confirmation(front, self.search.num_confirming)
        if self.search.racing and not may_race:
            self.notes = ["racing ended with the hours"]
        if self.search.racing and may_race:
            left = None if room is None else room - self._cost(confirming, has)
            if self._race(front, left, has):
                return True
        return self._confirm(front, room, has)

    def _race(self, front: Front, room: int | None, has: Callable[[str], bool]) -> bool:
        settled = frozenset(
            key for key, record in self.records.items() if record["trial"]["seed"] < CONFIRMATION
        )
        if settled == self._settled:  # nothing new was seen since the last round found no more
            return False
        additions: list[Addition] = []
        wanted = self._wanted(front)
        for node, seed in wanted:
            if room is not None and self._cost([*additions, (node, seed)], has) > room:
                break
            additions.append((node, seed))
        if not additions:
            self._settled = settled
            self.notes = self._why_over(wanted)
            return False
        self._round += 1
        for start in range(0, len(additions), MAX_ARMS_A_LINE):
            batch = additions[start : start + MAX_ARMS_A_LINE]
            seeds = {node.configuration: seed for node, seed in batch}
            lost = {name: self._lost[name] for name in seeds}
            self.ledger.append("raced", round=self._round, seeds=seeds, lost=lost)
            self._extend(seeds.items())
        return True

    def _why_over(self, wanted: Sequence[Addition]) -> list[str]:
        if self.standings.problem is not None:
            return [f"no racing: {self.standings.problem}"]
        if wanted:
            return [
                f"racing ended with the budget: {len(wanted)} more configurations would get a seed"
            ]
        return [f"racing ended after {self._round} rounds: nothing that may have more is in doubt"]

    def _wanted(self, front: Front) -> list[Addition]:
        """The arms that get one more seed by the rule, those where it tells most first."""
        points = [member.aggregate for member in (*front.members, *front.dominated)]
        standing = self.standings.of(points)
        if standing is None:
            return []
        lost_A, _ = lost_shares(
            standing.draw_RAK, zone_of(self.search.resolved_objectives), standing.barred_RA
        )
        self._lost = {
            point.configuration: round(float(lost), 4)
            for point, lost in zip(standing.points, lost_A, strict=True)
        }
        had = [self._seeds(point.configuration) for point in standing.points]
        chosen = further_seeds(
            standing.draw_RAK,
            standing.pooled_RAK,
            zone_of(self.search.resolved_objectives),
            [len(seeds) for seeds in had],
            self.search.max_seeds,
            barred_RA=standing.barred_RA,
            pooled_barred_RA=standing.pooled_barred_RA,
        )
        return [
            (node, _smallest_free(had[arm]))
            for arm in chosen
            if (node := self.tree.example(standing.points[arm].configuration)) is not None
        ]

    def _seeds(self, configuration: str) -> set[int]:
        """Selection seeds that a configuration was given, failed ones too."""
        return {
            node.trial.seed
            for node in self.tree.nodes.values()
            if node.configuration == configuration and node.trial.seed < CONFIRMATION
        }

    def _confirmation(self, front: Front, num: int) -> list[Addition]:
        """What the members lack of so many fresh seeds each."""
        additions = []
        for member in front.members:
            node = self.tree.example(member.aggregate.configuration)
            if node is None:
                continue
            had = {
                other.trial.seed
                for other in self.tree.nodes.values()
                if other.configuration == node.configuration
            }
            wanted = range(CONFIRMATION, CONFIRMATION + num)
            additions += [(node, seed) for seed in wanted if seed not in had]
        return additions

    def _confirm(self, front: Front, room: int | None, has: Callable[[str], bool]) -> bool:
        """As many fresh seeds as there is room for, the same number for each member."""
        for num in range(self.search.num_confirming, 0, -1):
            additions = self._confirmation(front, num)
            if room is not None and self._cost(additions, has) > room:
                continue
            for configuration, batch in itertools.groupby(
                additions, key=lambda one: one[0].configuration
            ):
                seeds = [seed for _, seed in batch]
                self.ledger.append("confirmed", configuration=configuration, seeds=seeds)
                self._extend((configuration, seed) for seed in seeds)
            return bool(additions)
        return False

    def _cost(self, additions: Sequence[Addition], has: Callable[[str], bool]) -> int:
        """Nodes that would have to be computed."""
        trial_tree = Tree(self.spec, self.tree.data, self.tree.device)
        for node, seed in additions:
            trial_tree.again(node, seed)
        return sum(key not in self.tree.nodes and not has(key) for key in trial_tree.nodes)


def _smallest_free(seeds: set[int]) -> int:
    return next(seed for seed in itertools.count() if seed not in seeds)
