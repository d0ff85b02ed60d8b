"""Which node runs next: the tree, the ledger and the proposer together.

No Ray here, so that it can be tested alone.

Ancestors come before descendants, the longest remaining path first, of equal ones the one whose
parent was computed on the machine that has just become idle; a node is never handed out twice; a
configuration is opened only when nothing else is ready and the budget has room for all that it
needs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from orchestrator.fronts.aggregate import aggregate
from orchestrator.fronts.constraints import violations
from orchestrator.judging.evidence import Evidence
from orchestrator.judging.standings import Standings
from orchestrator.ledger.environments import Environments
from orchestrator.ledger.records import Ledger, compact, project
from orchestrator.search.full_disk import DISK_FULL, FullDisk
from orchestrator.search.further_seeds import FurtherSeeds
from orchestrator.search.lost_data import LostData
from orchestrator.search.memory_retries import MemoryRetries
from orchestrator.search.proposals import Measured, Proposal, Proposer, in_space
from orchestrator.search.stopping import Stopping
from orchestrator.search.taken_back import PREEMPTED
from orchestrator.search.tree import Configuration, Node, Tree
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.node import MODEL_FILES
from trainables.store import Store, StoreError
from trainables.trial_spec import DataIdentity

MAX_FAILED_SHARE, MIN_FAILED = 0.2, 5
MAX_INFRASTRUCTURE_RETRIES = 2
MAX_AHEAD = 4
"""Configurations opened in a row of which no node can start yet: all wait for running ones.

Opening more would occupy no worker, and would keep a sampler from learning: with one root and one
idle worker it would propose its whole budget blindly, and an endless space for ever.
"""

FINISHED = "finished"


@dataclass(frozen=True)
class Budget:
    """Limits; None = none. ``trials``: computed nodes in the folder in all, cached ones not
    counted.
    """

    trials: int | None = None
    configurations: int | None = None
    hours: float | None = None


@dataclass
class Attempt:
    """One node handed to a worker."""

    node: Node
    attempt: str


class Schedule:
    """Hands out nodes, takes in results; every change is in the ledger before it counts."""

    def __init__(
        self,
        spec: SweepSpec,
        data: DataIdentity,
        device: str,
        ledger: Ledger,
        store: Store,
        proposer: Proposer,
        budget: Budget,
        *,
        retry_failed: bool = False,
        measure_stored: Callable[[str], dict[str, Any]],
        evidence: Callable[[], Evidence] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.tree = Tree(spec, data, device)
        self.ledger = ledger
        self._environments = Environments(ledger)
        self.store = store
        self.proposer = proposer
        self.budget = budget
        self.retry_failed = retry_failed
        self._measure_stored = measure_stored
        self._clock = clock
        self._begun = clock()
        self.records = project(ledger.events)
        self.settled = {
            k: r["status"] for k, r in self.records.items() if r["status"] != "running"
        }
        if retry_failed:
            self.settled = {k: s for k, s in self.settled.items() if s == "done"}
        self._left: dict[str, Node] = {}
        self._num_seen = 0
        self._num_computed = sum(_is_computed(self.records[key]) for key in self.settled)
        # by this or an earlier start: such a node, found in the store, is recovered, not cached
        self.started = set(self.records)
        self.running: dict[str, Attempt] = {}
        self.retries: dict[str, int] = {}
        self.memory = MemoryRetries()
        self.images = LostData()
        self.disk = FullDisk()
        self.stopping: str | None = None
        dropped = [k for e in ledger.events if e["event"] == "dropped" for k in e["keys"]]
        self.absent = {key for key in dropped if not store.is_there(key, MODEL_FILES[0])}
        """Nodes whose models were dropped; the first child that runs makes them again."""
        self._configurations: dict[str, tuple[Configuration, list[str]]] = {}
        self._pending: dict[str, tuple[Configuration, list[str]]] = {}
        standings = Standings(
            evidence, self.records, spec.search.resolved_objectives, spec.search.max_f1_loss
        )
        self.standings = standings
        self._further = FurtherSeeds(spec, self.tree, ledger, self.records, standings)
        self.stopping_chains = Stopping(
            spec, self.tree, ledger, self.records, standings,
            is_started=lambda key: key in self.started or key in self.settled,
        )  # fmt: skip
        self._restore()
        self._host = _last_host(ledger.events)  # of the worker that finished last

    def _restore(self) -> None:
        proposals, held = _proposals(self.ledger.events)
        self._num_proposed = sum(map(_costs, proposals))
        for proposal in proposals:
            if proposal.chosen_by != "repeat" and in_space(self.spec, proposal):
                self._open(proposal.configuration)
        self._further.restore()
        self._compare_anew()
        for key in list(self.tree.nodes):
            self._find(key)
        if held and all(in_space(self.spec, proposal) for proposal in held):
            self._held, self._held_noted = held, True
        self.proposer.restore(
            [*proposals, *(self._held or [])],
            lambda configuration: self._known(configuration, proposals),
        )

    def _known(self, configuration: Configuration, proposals: list[Proposal]) -> Measured | None:
        """What a rebuilt study is told; points of an earlier, wider space stay unknown."""
        if configuration.key not in self._configurations and any(
            proposal.configuration.key == configuration.key for proposal in proposals
        ):
            return self._nothing
        return self._measured(configuration)

    def _open(self, configuration: Configuration) -> None:
        keys = self.tree.add(configuration)
        self._compare_anew()
        entry = (configuration, keys)
        self._configurations[configuration.key] = entry
        self._pending[configuration.key] = entry

    def _compare_anew(self) -> None:
        """Note for finished nodes what an extension (more controls) compares them with."""
        touched, self.tree.touched = self.tree.touched, set()
        for key in sorted(touched):
            node = self.tree.nodes[key]
            if key in self.settled:
                known = self.records[key]["compares_with"]
                new = {k: v for k, v in node.compares_with.items() if known.get(k) != v}
                if new:
                    self.ledger.append("compared", key=key, compares_with=new)
                    known |= new

    def _find(self, key: str) -> bool:
        """Take a node from the store if it is there: finished while no driver looked, or by
        another sweep.
        """
        if self.settled.get(key) == "done":
            return True
        node = self.store.node(key)
        if node is None:
            return False
        if absent := {"model", "execution"} - node.keys():
            raise StoreError(f"node {key} in {self.store.uri} lacks {min(absent)!r}")
        measured = self._measure_stored(key)
        execution = node["execution"] | {"cached": key not in self.started, "attempt": "found"}
        self._record(
            "done", self.tree.nodes[key], result=result_of(node, measured), execution=execution
        )
        return True

    def next(self) -> Attempt | str | None:
        """The next node to run, None while all that is left waits for running ones, or
        ``FINISHED``.
        """
        while True:
            if self.stopping is None and self._used_hours(1.0):
                self.stopping = "hours"
            if self.stopping is not None or self.images.is_lost:
                return None if self.running else FINISHED
            node = self._ready()
            if node is not None:
                if self._find(node.key):
                    self._observe()
                    continue
                if self._spent():  # more seeds or controls than the budget was made for
                    return None if self.running else FINISHED
                return self._hand_out(node)
            is_ahead = self.memory.is_half or self._ahead >= MAX_AHEAD
            if is_ahead and self.running:
                return None
            if is_ahead and self.memory.waiting:  # all else waits for what the next round runs
                return FINISHED
            if not self.memory.is_half and self._propose():
                self._ahead += 1
            elif self.running:
                return None
            elif self.memory.is_half or self.memory.waiting or not self._add_seeds():
                return FINISHED

    def next_round(self) -> Attempt | None:
        """After ``FINISHED``: the first node of a round with the images put again, or with another
        packing, if one is needed.
        """
        while self.stopping is None:
            if self.images.is_lost:
                self.images.put_again()
            elif not self.memory.turn():
                break
            first = self.next()
            if isinstance(first, Attempt):
                return first
        return None

    def _used_hours(self, share: float) -> bool:
        """Whether this share of the hours is over."""
        hours = self.budget.hours
        return hours is not None and self._clock() > self._begun + 3600 * hours * share

    def _add_seeds(self) -> bool:
        """When the search is over: further seeds where they are needed; whether any were added."""
        trials, search = self.budget.trials, self.spec.search.share_of_search
        room = None if trials is None else trials - self.num_computed
        before = set(self.tree.nodes)
        may_race = not self._used_hours((1 + search) / 2)
        if not self._further.step(room, self.store.has, may_race=may_race):
            return False
        self._compare_anew()
        for key in [k for k in self.tree.nodes if k not in before]:
            self._find(key)
        return True

    def _spent(self) -> bool:
        trials = self.budget.trials
        return trials is not None and self.num_computed + len(self.running) >= trials

    def _ready(self) -> Node | None:
        ready = [
            node
            for node in self.unsettled().values()
            if node.key not in self.running
            and self.memory.may_run(node.key)
            and all(self.settled.get(parent) == "done" for parent in node.parents)
            and not self._is_being_made(self._missing(node))
        ]
        if not self.stopping_chains.is_on:
            return max(ready, key=lambda node: (node.height, self._is_near(node)), default=None)
        ready.sort(key=lambda node: (node.trial.n, -node.height, not self._is_near(node)))
        to_come = [n.trial.n for key, n in self.unsettled().items() if not self.blocked(key)]
        lowest = min(to_come, default=0)
        return next((n for n in ready if self.stopping_chains.state(n, lowest) == "go"), None)

    def _is_near(self, node: Node) -> bool:
        """Whether a parent's model lies where the last trial ended: its worker is the one that
        most likely takes the next, and need not fetch the model from the store.
        """
        parents = (self.records[key].get("execution", {}) for key in node.parents)
        return bool(self._host) and any(how.get("host") == self._host for how in parents)

    def _missing(self, node: Node) -> set[str]:
        """Ancestors whose models the node's trial has to make again."""
        found = {parent for parent in node.parents if parent in self.absent}
        return found.union(*(self._missing(self.tree.nodes[key]) for key in found))

    def _is_being_made(self, keys: set[str]) -> bool:
        """Whether a running trial makes one of these models: nothing is computed twice."""
        return bool(keys) and any(
            keys & self._missing(attempt.node) for attempt in self.running.values()
        )

    def unsettled(self) -> dict[str, Node]:
        """Key -> node of those that are not settled, in the tree's order; looking through all that
        ever ran would make each step of a long sweep longer than the last.
        """
        if len(self.tree.nodes) > self._num_seen:
            for key in islice(self.tree.nodes, self._num_seen, None):
                if key not in self.settled:
                    self._left[key] = self.tree.nodes[key]
            self._num_seen = len(self.tree.nodes)
        return self._left

    def _hand_out(self, node: Node) -> Attempt:
        attempt = Attempt(node, uuid.uuid4().hex[:12])
        self.ledger.append(
            "scheduled", key=node.key, attempt=attempt.attempt, trial=node.document(),
            parents=list(node.parents), compares_with=node.compares_with,
        )  # fmt: skip
        self.started.add(node.key)
        self.running[node.key] = attempt
        self._ahead = 0
        return attempt

    def _propose(self) -> bool:
        """Open the next configuration if the budget allows; whether anything may have become
        ready.
        """
        proposals = self._affordable()
        before = set(self.tree.nodes)
        for proposal in proposals:
            self.ledger.append("proposal", **proposal.event())
            self._num_proposed += _costs(proposal)
            if proposal.chosen_by != "repeat":
                self._open(proposal.configuration)
        for key in [k for k in self.tree.nodes if k not in before and k not in self.settled]:
            self._find(key)
        self._observe()
        return bool(proposals)

    def _affordable(self) -> list[Proposal]:
        most = self.budget.configurations
        if most is not None and self._num_proposed >= most:
            return []
        share = self.spec.search.share_of_search
        trials = None if self.budget.trials is None else int(self.budget.trials * share)
        if self._used_hours(share) or (trials is not None and self.num_computed >= trials):
            return []
        if self._held is None:
            self._held, self._held_noted = self.proposer.propose(), False
        proposals = self._held
        if proposals and trials is not None:
            new: set[str] = set()
            for proposal in proposals:
                new |= self.tree.needs(proposal.configuration) - set(self.tree.nodes)
            new = {key for key in new if not self.store.has(key)}
            if self.num_computed + self.num_open + len(new) > trials:
                if not self.tree.nodes:
                    left = "" if share == 1 else f" ({trials} of them for the search)"
                    raise UserError(
                        f"--trials {self.budget.trials}{left} is too few: the first configuration "
                        f"needs {len(new)} "
                        "(its chain, its controls and its reference, for every seed)"
                    )
                self._note_held(proposals)
                return []
        self._held = None
        return proposals

    def _note_held(self, proposals: list[Proposal]) -> None:
        """Keep what did not fit: asked anew, a sampler might answer with something that does, and
        the same command would go on.
        """
        if not self._held_noted:
            for proposal in proposals:
                self.ledger.append("held", **proposal.event())
            self._held_noted = True

    _held: list[Proposal] | None = None
    """Proposed but not yet affordable: in the ledger as ``held``, not as a proposal."""
    _held_noted = False
    _ahead = 0

    @property
    def num_computed(self) -> int:
        """Nodes that this folder computed, failed ones included, cached ones not."""
        return self._num_computed

    @property
    def num_open(self) -> int:
        """Nodes of the tree that are neither settled nor cut off."""
        return sum(not self.blocked(key) for key in self.unsettled())

    def blocked(self, key: str) -> bool:
        """Whether the node never runs: an ancestor failed, or its chain was stopped."""
        return self.stopping_chains.is_stopped(self.tree.nodes[key]) or any(
            self.leads_nowhere(parent) for parent in self.tree.nodes[key].parents
        )

    def leads_nowhere(self, key: str) -> bool:
        """Whether no child of the node ever runs: it failed, or never runs itself."""
        return self.settled.get(key) == "failed" or self.blocked(key)

    @property
    def notes(self) -> list[str]:
        """What people should know of how the sweep ended."""
        notes = list(self._further.notes)
        if self.stopping_chains.is_on and self.standings.problem is not None:
            notes.append(f"no chain could be stopped: {self.standings.problem}")
        return notes

    @property
    def cut_off(self) -> list[str]:
        """Keys that never run because an ancestor failed."""
        stopped = self.stopping_chains.is_stopped
        return [k for k, node in self.tree.nodes.items() if self.blocked(k) and not stopped(node)]

    @property
    def num_stopped(self) -> int:
        """Nodes that are not run because their chain was stopped."""
        stopped = self.stopping_chains.is_stopped
        return sum(stopped(node) for node in self.unsettled().values())

    def succeeded(self, key: str, result: dict[str, Any], execution: dict[str, Any]) -> None:
        """Take in a finished node."""
        attempt = self.running.pop(key)
        self.absent -= self._missing(attempt.node)
        ignored = execution.get("checkpoint", {}).get("ignored")
        if ignored:
            self.ledger.append("checkpoint_ignored", key=key, reason=ignored)
        execution = execution | {"cached": False, "attempt": attempt.attempt}
        self._host = execution.get("host")
        self._record("done", attempt.node, result=result, execution=execution)
        self._observe()

    def failed(
        self, key: str, error: dict[str, Any], execution: dict[str, Any] | None = None
    ) -> None:
        """Take in a failure; one of the machine's is retried, one of the trial's is a result.

        Raises:
            DiskFull: there is no room for the node.
        """
        attempt = self.running.pop(key)
        if error.get("type") == DISK_FULL:
            self.ledger.append("retry", key=key, error=error, attempt=attempt.attempt)
            self.disk.note(key, error)
            return
        again = self.images.lose(error) or self.memory.put_off(key, error)
        if again or self._is_retried(key, error):
            self.ledger.append("retry", key=key, error=error, attempt=attempt.attempt)
            return
        if self._find_after_failure(key):
            return
        execution = (execution or {}) | {"cached": False, "attempt": attempt.attempt}
        self._record("failed", attempt.node, error=error, execution=execution)
        num_failed = sum(status == "failed" for status in self.settled.values())
        if num_failed >= MIN_FAILED and num_failed > MAX_FAILED_SHARE * len(self.settled):
            self.stopping = "too many failures"
        self._observe()

    def _is_retried(self, key: str, error: dict[str, Any]) -> bool:
        """Whether it was the machine's fault, and not for the third time."""
        if error.get("type") == PREEMPTED:
            return True
        num_before = self.retries.get(key, 0)
        if not error.get("infrastructure") or num_before >= MAX_INFRASTRUCTURE_RETRIES:
            return False
        self.retries[key] = num_before + 1
        return True

    def _find_after_failure(self, key: str) -> bool:
        """A worker may die between its commit and its report."""
        found = self._find(key)
        if found:
            self._observe()
        return found

    def _record(self, event: str, node: Node, **fields: Any) -> None:
        self._environments.note_node(self.store, node.key, fields["execution"])
        appended = self.ledger.append(
            event, key=node.key, trial=node.document(), parents=list(node.parents),
            compares_with=node.compares_with, **fields,
        )  # fmt: skip
        self.records[node.key] = project([appended])[node.key]
        self.settled[node.key] = event
        self._left.pop(node.key, None)
        self._num_computed += _is_computed(self.records[node.key])

    def _observe(self) -> None:
        """Tell the proposer every configuration whose seeds are all settled by now."""
        for name, (configuration, keys) in list(self._pending.items()):
            if all(key in self.settled or self.blocked(key) for key in keys):
                measured = self._measured(configuration)
                if measured is not None:
                    del self._pending[name]
                    self.proposer.observe(configuration, measured)

    @property
    def _nothing(self) -> Measured:
        """Of a configuration that failed, is stopped, or lies outside the space."""
        return Measured((None,) * len(self.spec.search.resolved_objectives))

    def _measured(self, configuration: Configuration) -> Measured | None:
        entry = self._configurations.get(configuration.key)
        search = self.spec.search
        if entry is None or not all(key in self.settled or self.blocked(key) for key in entry[1]):
            return None
        if any(self.settled.get(key) != "done" for key in entry[1]):
            return self._nothing
        references = {self.tree.nodes[key].compares_with["reference"] for key in entry[1]}
        if any(key not in self.settled for key in references):
            return None
        wanted = references | set(entry[1])
        found = aggregate({key: self.records[key] for key in wanted if key in self.records})
        figures = found.get(self.tree.nodes[entry[1][0]].configuration)
        if figures is None:
            return self._nothing
        return Measured(
            figures.objectives(search.resolved_objectives),
            violations(figures.figures["f1_loss"], search.max_f1_loss),
        )


def _costs(proposal: Proposal) -> bool:
    """Whether it counts against ``configurations``."""
    return proposal.origin == "proposal" and proposal.chosen_by != "repeat"


def _last_host(events: list[dict[str, Any]]) -> str | None:
    """Where the newest node that this folder computed was: what a driver that died knew."""
    for event in reversed(events):
        execution = event.get("execution", {})
        if event["event"] == "done" and not execution.get("cached"):
            host: str | None = execution.get("host")
            return host
    return None


def _is_computed(record: dict[str, Any]) -> bool:
    """Whether this folder computed it, be it in vain."""
    return record["status"] in ("done", "failed") and not (record.get("execution") or {}).get(
        "cached", False
    )


def _proposals(events: list[dict[str, Any]]) -> tuple[list[Proposal], list[Proposal]]:
    """The ledger's proposals, and those that the last budget could not pay."""
    proposals: list[Proposal] = []
    held: list[Proposal] = []
    for event in events:
        if event["event"] == "proposal":
            proposals.append(Proposal.from_event(event))
            held = []
        elif event["event"] == "held":
            if event["number"] == len(proposals):  # the first of a batch; a later one replaces it
                held = []
            held.append(Proposal.from_event(event))
    return proposals, held


def result_of(node: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """``record.result``: what is promised to be the same wherever the key is computed."""
    return {"model": node["model"]} | compact(measured)
