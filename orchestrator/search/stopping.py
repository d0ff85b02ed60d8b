"""Early stopping for several objectives: a chain is not continued when it is unlikely to reach the
front.

A chain is one arm pruned again and again. While this is on, few iterations come before many: when
all that is open of up to n iterations is measured, a chain is stopped where, in a share of at
least ``search.stop_at`` of pooled joint draws of seeds and patients
(``trainables/metrics/joint.py``), some configuration of up to n iterations that keeps the
constraint on F1 dominates it by more than the indifference zone. Pooled draws, for by those of
three seeds alone nothing is ever stopped; they are narrow, and some one of many dominates more
easily than a named one does, so this is a bet on where the work is worth least and no test:
``benchmarks/stopping.py`` measures how often it stops what belongs to the front. What a chain
might gain by further iterations is not foreseen. Controls and baselines always run to the end.

So the decision does not depend on how many workers there are or who is fast. A decision to stop is
an event of the ledger (``stopped``) with its reason; a chain that has once been continued stays
so. Validation only. What it saves: ``benchmarks/stopping.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from orchestrator.fronts.front import sweep_front
from orchestrator.judging.standings import Standings
from orchestrator.ledger.records import Ledger
from orchestrator.search.tree import Node, Tree
from search_spaces.sweep_spec import SweepSpec
from trainables.metrics.membership import dominance_shares, zone_of

State = Literal["go", "wait", "stopped"]


class Stopping:
    """Which nodes of a sweep's chains are not run.

    Args:
        spec: the sweep.
        tree: as it is at each call.
        ledger: decisions are appended.
        records: key -> record, as they are at each call.
        standings: draws of the configurations.
        is_started: whether a node was ever handed out, or came from the store.
    """

    def __init__(
        self,
        spec: SweepSpec,
        tree: Tree,
        ledger: Ledger,
        records: Mapping[str, Mapping[str, Any]],
        standings: Standings,
        *,
        is_started: Callable[[str], bool],
    ) -> None:
        self.spec, self.search, self.tree = spec, spec.search, tree
        self.ledger, self.records, self.standings = ledger, records, standings
        self._is_started = is_started
        self.stopped = {e["configuration"] for e in ledger.events if e["event"] == "stopped"}
        self._continued: set[str] = set()

    @property
    def is_on(self) -> bool:
        """Whether chains are stopped at all."""
        return self.search.stop_at is not None

    def before(self, node: Node) -> str | None:
        """Configuration of the chain's step before, of a treated arm's second step and later."""
        if not self.is_on or node.role != "treatment" or node.trial.n < 2:
            return None
        return self.tree.nodes[self._step_before(node)].configuration

    def _step_before(self, node: Node) -> str:
        return next(
            key for key in node.parents if self.tree.nodes[key].trial.n == node.trial.n - 1
        )

    def is_stopped(self, node: Node) -> bool:
        """Whether the node's chain ended before it."""
        before = self.before(node)
        if before is None:
            return False
        if before in self.stopped:
            return True
        return self.is_stopped(self.tree.nodes[self._step_before(node)])

    def state(self, node: Node, lowest: int) -> State:
        """Whether a node whose parents are done may run; decides where that is still open.

        ``lowest``: least number of iterations of a node that is still to be settled.
        """
        before = self.before(node)
        if before is None or before in self._continued:
            return "go"
        if before in self.stopped:
            return "stopped"
        if any(self._is_started(key) for key in self._seeds(node.configuration)):
            self._continued.add(before)
            return "go"
        if lowest < node.trial.n:
            return "wait"
        self._decide(node.trial.n - 1)
        return "stopped" if before in self.stopped else "go"

    def _seeds(self, configuration: str) -> list[str]:
        nodes = self.tree.nodes.values()
        return [node.key for node in nodes if node.configuration == configuration]

    def _decide(self, n: int) -> None:
        """Judge all chains at once that are measured with n iterations and may go on."""
        front = sweep_front(self.records, self.spec, confirmed=False)
        found = [member.aggregate for member in (*front.members, *front.dominated)]
        points = [point for point in found if point.trial["n"] <= n]
        asked = {
            before
            for node in self.tree.nodes.values()
            if node.trial.n == n + 1
            and (before := self.before(node)) is not None
            and before not in self._continued | self.stopped
            and not any(self._is_started(key) for key in self._seeds(node.configuration))
        }
        standing = self.standings.of(points)
        if standing is not None:
            zone_K = zone_of(self.search.resolved_objectives)
            share_A, by_AA = dominance_shares(
                standing.pooled_RAK, zone_K, standing.pooled_barred_RA
            )
            for arm, point in enumerate(standing.points):
                if point.configuration in asked and share_A[arm] >= (self.search.stop_at or 1.0):
                    best = int(np.argmax(by_AA[:, arm]))
                    by = standing.points[best].configuration
                    self._stop(point.configuration, n, share_A[arm], by, by_AA[best, arm])
        self._continued |= asked - self.stopped

    def _stop(self, name: str, n: int, share: float, best: str, by_best: float) -> None:
        self.ledger.append(
            "stopped",
            configuration=name,
            n=n,
            dominated=round(float(share), 4),
            mostly_by=best,
            mostly_by_share=round(float(by_best), 4),
        )
        self.stopped.add(name)
