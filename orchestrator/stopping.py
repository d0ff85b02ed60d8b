"""Early stopping for several objectives: a chain is not continued when it cannot reach the front.

A chain is one arm pruned again and again. While this is on, few iterations come before many: when
all that is open of up to n iterations is measured, a chain is stopped where, in a share of at
least ``search.stop_at`` of pooled joint draws of seeds and patients
(``trainables/metrics/joint.py``), some configuration of up to n iterations dominates it by more
than the indifference zone: not even the optimistic end of what it may be worth reaches the front.
(Pooled draws, for by those of three seeds alone nothing is ever stopped.) What a chain might gain
by further iterations is not foreseen. Controls and baselines always run to the end.

So the decision does not depend on how many workers there are or who is fast. A decision to stop is
an event of the ledger (``stopped``) with its reason; a chain that has once been continued stays
so. Validation only. What it saves: ``benchmarks/stopping.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from orchestrator.front import build_front
from orchestrator.records import Ledger
from orchestrator.standings import Standings
from orchestrator.tree import Node, Tree
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
        is_started: whether a node was ever handed out.
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
        front = build_front(
            self.records,
            self.search.resolved_objectives,
            max_f1_loss=self.search.max_f1_loss,
            racing=self.search.racing,
            confirmed=False,
        )
        found = [member.aggregate for member in (*front.members, *front.dominated)]
        points = [point for point in found if point.trial["n"] <= n]
        asked = {
            before
            for node in self.tree.nodes.values()
            if node.trial.n == n + 1
            and (before := self.before(node)) is not None
            and before not in self._continued | self.stopped
        }
        standing = self.standings.of(
            [p for p in points if front.is_feasible(p) or p.configuration in asked]
        )
        if standing is not None:
            able = [i for i, point in enumerate(standing.points) if front.is_feasible(point)]
            zone_K = zone_of(self.search.resolved_objectives)
            share_A, by_AA = dominance_shares(standing.pooled_RAK, zone_K, able)
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
