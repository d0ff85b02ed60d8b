"""How much disk a sweep takes: models that nobody needs are dropped when room is short.

A node's record and predictions always stay. A model that is wanted again is computed again, under
the same key. Kept are the models that trials still to run start from, and the members of the
front.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.fronts.front import sweep_front
from orchestrator.search.tree import full_tree
from trainables.node import MODEL_FILES
from trainables.store import Store

if TYPE_CHECKING:
    from orchestrator.search.schedule import Schedule
    from orchestrator.search.tree import Node

LOW_WATER = 0.9
"""Of the limit: what is dropped once is dropped for a while, for the front is computed anew."""

FREE_BYTES = 2 << 30
"""Of a local store's file system: below this, models are dropped though nobody gave a limit."""


def free_bytes(store: Store) -> int | None:
    """Free bytes where a local store lies; None of a remote one."""
    return shutil.disk_usage(nearest_existing(Path(store.root))).free if store.is_local else None


def nearest_existing(path: Path) -> Path:
    """The path, or the first of its parents that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


class DiskKeeper:
    """Keeps the nodes of one sweep within a limit; asked after every settled node.

    Args:
        schedule: whose nodes these are.
        limit_bytes: of all files of the sweep's nodes; None: only a file system that runs full is
            a limit.
        free: free bytes where the store lies, None where nobody knows; may be replaced in tests.
    """

    def __init__(
        self,
        schedule: Schedule,
        limit_bytes: int | None,
        free: Callable[[Store], int | None] = free_bytes,
    ) -> None:
        self.schedule = schedule
        self.limit_bytes = limit_bytes
        self.num_dropped = 0
        self.peak_bytes = 0
        self.is_short = False
        """Whether the limit cannot be held: everything that is left is needed."""
        self._free = free
        self._models: dict[str, int] = {}
        self._grid: dict[str, Node] | None = None
        self._dropped: dict[str, int] = {}
        self.bytes_held = 0
        """Of the sweep's nodes, as far as they are known."""
        self._seen: set[str] = set()

    def settled(self) -> None:
        """Take in the nodes that are new, and make room where it is short."""
        free = self._free(self.schedule.store) if self.limit_bytes is None else None
        if self.limit_bytes is None and (free is None or free >= self._reserve + FREE_BYTES):
            return
        self._look()
        for key in [k for k in self._dropped if k not in self.schedule.absent]:
            self._note_model(key, self._dropped.pop(key))  # a child made it again
        limit = self.limit_bytes
        if limit is None:
            assert free is not None
            limit = max(self.bytes_held + free - FREE_BYTES, 1)
        self.peak_bytes = max(self.peak_bytes, self.bytes_held)
        if self.bytes_held + self._reserve > limit:
            self._make_room(int(LOW_WATER * limit) - self._reserve)

    def _look(self) -> None:
        """Sizes of the nodes that were settled since the last time; what came from another sweep's
        work in a shared store is that one's to drop.
        """
        schedule = self.schedule
        for key in [k for k, s in schedule.settled.items() if s == "done" and k not in self._seen]:
            self._seen.add(key)
            node = schedule.store.node(key)
            if node is None or schedule.records[key]["execution"].get("cached"):
                continue
            sizes = {name: entry["num_bytes"] for name, entry in node["files"].items()}
            model = sum(sizes.pop(name, 0) for name in MODEL_FILES)
            self.bytes_held += sum(sizes.values())
            self._note_model(key, model)

    @property
    def notes(self) -> list[str]:
        """What people should know of it at the end."""
        notes = []
        if self.num_dropped:
            notes.append(
                f"{self.num_dropped} models were dropped to keep to the disk; the same key is "
                "computed again where one is needed"
            )
        if self.is_short:
            assert self.limit_bytes is not None
            notes.append(
                f"--max-disk {self.limit_bytes / 1e9:g} could not be held: the models that are "
                f"needed and the results take up to {self.peak_bytes / 1e9:.2f} GB"
            )
        return notes

    def _note_model(self, key: str, num_bytes: int) -> None:
        if self.schedule.store.is_there(key, MODEL_FILES[0]):
            self._models[key] = num_bytes
            self.bytes_held += num_bytes
        else:
            self._dropped[key] = num_bytes

    @property
    def _reserve(self) -> int:
        """What the trials that run may write before they are looked at."""
        return max(self._models.values(), default=0) * len(self.schedule.running)

    def _make_room(self, target: int) -> None:
        """Drop models, the least missed first, until ``target`` bytes are held."""
        dropped = []
        for key in self._droppable():
            if self.bytes_held <= target:
                break
            self.schedule.store.drop(key, MODEL_FILES)
            self._dropped[key] = self._models.pop(key)
            self.bytes_held -= self._dropped[key]
            dropped.append(key)
        self.schedule.absent |= set(dropped)
        self.num_dropped += len(dropped)
        if self.limit_bytes is not None and self.bytes_held > self.limit_bytes:
            self.is_short = True
        # a line of the ledger stays below 4 KB
        for start in range(0, len(dropped), 50):
            self.schedule.ledger.append("dropped", keys=dropped[start : start + 50])

    def _droppable(self) -> list[str]:
        """Models nobody needs, in the order in which they go: inner and last ones of chains, then
        those that a sampler may yet continue from, then baselines, which every new arm would.
        """
        schedule = self.schedule
        kept = self._needed() | set(sweep_front(schedule.records, schedule.spec).keys)
        nodes = schedule.tree.nodes
        return sorted(
            (key for key in self._models if key not in kept and key in nodes),
            key=lambda key: _missed(nodes[key], schedule.spec.iterations),
        )

    def _needed(self) -> set[str]:
        """Nodes that a trial starts from which may still run; of a grid all of them are known."""
        schedule = self.schedule
        if schedule.spec.search.sampler == "grid" and self._grid is None:
            tree = schedule.tree
            self._grid = full_tree(schedule.spec, tree.data, tree.device).nodes
        to_come = {
            key: node
            for key, node in (self._grid or {}).items()
            if key not in schedule.tree.nodes and not self._never_runs(node)
        }
        to_come |= {
            key: node
            for key, node in schedule.unsettled().items()
            if key in schedule.running or not schedule.blocked(key)
        }
        return {parent for node in to_come.values() for parent in node.parents}

    def _never_runs(self, node: Node) -> bool:
        """Whether an ancestor of a node that is not in the tree yet failed or was stopped."""
        schedule, grid = self.schedule, self._grid or {}
        return any(
            schedule.leads_nowhere(key)
            if key in schedule.tree.nodes
            else self._never_runs(grid[key])
            for key in node.parents
        )


def _missed(node: Node, iterations: int) -> tuple[int, int]:
    """How much a model would be missed: what may start from it, and how long its chain is."""
    n = node.trial.n
    if n == 0:
        return (2, 0)
    return (0 if node.height or n >= iterations else 1, n)
