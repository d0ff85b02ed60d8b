"""How many trials a sweep will have run in the end, and how long the rest takes.

The plan says how much work each trial is; the trials that are done say how fast this machine
does it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan import Cost, tree_of_grid, trials_at_most
from orchestrator.search.tree import Node, Tree
from orchestrator.watching.progress import SweepProgress
from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import is_finite
from trainables.trial_spec import DataIdentity

MOST_DONE = 0.95
"""Share of a running trial's expected time that it is believed to have behind it at most."""


@dataclass(frozen=True)
class Remaining:
    """What is left.

    Attributes:
        num_trials: in all, those that are settled included; None where nothing limits them.
        at_most: fewer may be run: a sampler or a budget decides.
        seconds: until the end, by the wall clock; None where ``num_trials`` is.
        measured: whether finished trials of this sweep say how fast it goes; else the plan's
            assumption does.
    """

    num_trials: int | None
    at_most: bool
    seconds: float | None
    measured: bool


class Forecast:
    """The tree of a sweep with the work of each node; data and device are its manifest's."""

    def __init__(self, spec: SweepSpec, manifest: dict[str, Any]) -> None:
        data = manifest["data"]
        self.spec = spec
        self._identity = DataIdentity(data["fingerprint"], data["group_digest"])
        self._device = manifest["device"]
        self._cost = Cost(spec, self._device, (data["num_images"], len(data["classes"])))
        self._work: dict[str, float] = {}
        self._tree: Tree | None = None
        self._whole: Tree | None = None
        self._bound: tuple[int | None, bool] = (None, True)
        self._budget: object = None
        self._num_proposed = 0

    def remaining(self, progress: SweepProgress, now: float) -> Remaining:
        """What is left ``now``, in the seconds of ``progress.steady``."""
        tree = self._tree_of(progress)
        left = [n for n in tree.nodes.values() if _may_run(n.key, tree, progress)]
        num_left, at_most = self._num_left(len(left), progress)
        rate, measured = self._rate(tree, progress)
        if num_left is None:
            return Remaining(None, True, None, measured)
        work = sum(map(self._seconds, left))
        if num_left != len(left):  # which ones, a sampler or a budget decides
            work += self._mean(tree) * (num_left - len(left))
        behind = {
            key: self._behind(key, begun, rate, now, tree)
            for key, begun in progress.running.items()
        }
        work = max(0.0, work - sum(behind.values()))
        workers = max(1, progress.start.workers if progress.start else 1, len(progress.running))
        seconds = max(work / workers, self._longest(left, behind)) * rate
        hours = progress.start.budget.get("hours") if progress.start else None
        if hours is not None and progress.start is not None:
            seconds = min(seconds, max(0.0, progress.start.time + 3600 * hours - now))
        return Remaining(len(progress.settled) + num_left, at_most, seconds, measured)

    def _tree_of(self, progress: SweepProgress) -> Tree:
        """The grid as its budget leaves it, or what the sampler has proposed so far."""
        budget = dict(progress.start.budget) if progress.start else {}
        if self._tree is None or budget != self._budget:
            search = self.spec.search.model_copy(update=budget)
            self.spec = self.spec.model_copy(update={"search": search})
            self._budget, self._num_proposed = budget, 0
            self._tree = Tree(self.spec, self._identity, self._device)
            if is_finite([self.spec.baseline, self.spec.prune]):
                whole = tree_of_grid(self.spec, self._identity, self._device)
                self._whole = whole
                self._bound = (trials_at_most(self.spec, whole), search.sampler != "grid")
            else:
                self._bound = (search.trials, True)
            if search.sampler == "grid" and self._whole is not None:
                self._tree = self._whole
        if self.spec.search.sampler != "grid":
            for configuration in progress.proposed[self._num_proposed :]:
                self._tree.add(configuration)
            self._num_proposed = len(progress.proposed)
        return self._tree

    def _num_left(self, num_open: int, progress: SweepProgress) -> tuple[int | None, bool]:
        most, at_most = self._bound
        trials = self.spec.search.trials
        if trials is not None:
            paid = max(0, trials - progress.num_computed)
            if not at_most:
                return min(num_open, paid), paid < num_open
            most = trials + len(progress.cached) if most is None else most
            return max(len(progress.running), min(most - len(progress.settled), paid)), True
        if not at_most:
            return num_open, False
        return None if most is None else max(num_open, most - len(progress.settled)), True

    def _seconds(self, node: Node) -> float:
        if node.key not in self._work:
            self._work[node.key] = self._cost.seconds(node)
        return self._work[node.key]

    def _mean(self, tree: Tree) -> float:
        """Planned seconds of a trial of the whole grid, or of those proposed so far."""
        nodes = (self._whole or tree).nodes.values()
        return sum(map(self._seconds, nodes)) / len(nodes) if nodes else 0.0

    def _rate(self, tree: Tree, progress: SweepProgress) -> tuple[float, bool]:
        """Seconds that a planned second takes, and whether that was measured."""
        known = {k: s for k, s in progress.seconds.items() if k in tree.nodes and s > 0}
        warm = {k: s for k, s in known.items() if k not in progress.cold}
        known = warm or known
        planned = sum(self._seconds(tree.nodes[key]) for key in known)
        return (sum(known.values()) / planned, True) if planned else (1.0, False)

    def _behind(self, key: str, begun: float, rate: float, now: float, tree: Tree) -> float:
        """Planned seconds that a running trial has behind it."""
        if key not in tree.nodes:
            return 0.0
        whole = self._seconds(tree.nodes[key])
        return min(max(0.0, now - begun) / rate if rate else 0.0, MOST_DONE * whole)

    def _longest(self, left: Collection[Node], behind: Mapping[str, float]) -> float:
        """Planned seconds of the longest chain: its trials wait for one another."""
        longest: dict[str, float] = {}
        for node in sorted(left, key=lambda node: node.trial.n):
            before = max((longest.get(parent, 0.0) for parent in node.parents), default=0.0)
            longest[node.key] = before + self._seconds(node) - behind.get(node.key, 0.0)
        return max(longest.values(), default=0.0)


def _may_run(key: str, tree: Tree, progress: SweepProgress) -> bool:
    """Whether a node is still to be settled: not yet, no ancestor failed, its chain goes on."""
    return key not in progress.settled and not _ends_at_parent(key, tree, progress)


def _ends_at_parent(key: str, tree: Tree, progress: SweepProgress) -> bool:
    return any(
        progress.settled.get(parent) == "failed"
        or tree.nodes[parent].configuration in progress.stopped_chains
        or (parent not in progress.settled and _ends_at_parent(parent, tree, progress))
        for parent in tree.nodes[key].parents
    )
