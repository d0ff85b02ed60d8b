"""Checkpoints of one trial: when one is written, where it lies, and what became of it.

A checkpoint is a convenience: one that cannot be written, read or used costs time, never a trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from trainables.checkpoint import CheckpointError, Packed, Standing, pack, restore, unpack
from trainables.leaving import is_leaving
from trainables.models.classifier import Classifier
from trainables.replicas import Replicas
from trainables.store import Store

if TYPE_CHECKING:
    from trainables.baselines.base import Baseline

FOLDER = "checkpoints"
MOST_OF_THE_TIME = 1 / 20
"""Writing takes no larger share: where it is slow there are fewer."""


def checkpoint_path(store: Store, key: str) -> str:
    """Where the checkpoint of a node that is being made lies."""
    return f"{store.root}/{FOLDER}/{key}"


@dataclass
class Checkpoints:
    """Those of one attempt at a node. Of several processes the first writes and reads.

    Args:
        store: where the node will be.
        key: of the node.
        every: seconds of training between two; 0 writes and reads none.
        replicas: the processes that train together.
        clock: seconds; replaced in tests.
        versions: what this attempt computes with (``environment.environment``).
    """

    store: Store
    key: str
    every: float = 0.0
    replicas: Replicas = field(default_factory=Replicas)
    clock: Callable[[], float] = time.monotonic
    versions: Mapping[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    """What the step wants to find again, as JSON: ``plan``, ``files``."""
    found: Packed | None = field(init=False, default=None)
    num_written: int = field(init=False, default=0)
    resumed_from: int = field(init=False, default=0)
    ignored: str | None = field(init=False, default=None)
    begun_with: dict[str, str] = field(init=False, default_factory=dict)
    """Name -> version of the attempt whose checkpoint was found, where it is another."""
    _due: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.every:
            self._look()

    def _look(self) -> None:
        data = None
        if self.replicas.is_first:
            try:
                data = self.store.storage.read(checkpoint_path(self.store, self.key))
            except FileNotFoundError:
                pass
            except OSError as error:
                self.ignored = f"cannot be read: {error.strerror}"
        data = self.replicas.same(data)
        if data is None:
            return
        try:
            found = unpack(data)
            if found.document["about"].get("key") != self.key:
                raise CheckpointError("of another node")
        except CheckpointError as error:
            self.ignored = str(error)
        else:
            self.found = found
            theirs = found.document["about"].get("versions")
            self.begun_with = {
                name: value
                for name, value in (theirs if isinstance(theirs, dict) else {}).items()
                if self.versions.get(name, value) != value
            }

    @property
    def known(self) -> dict[str, Any]:
        """What an attempt that did not come to its end knew beside its weights; empty without."""
        return dict(self.found.document["about"]) if self.found is not None else {}

    def resume(
        self, model: Classifier, optimizer: torch.optim.Optimizer, baseline: Baseline
    ) -> Standing:
        """Begin training: where an earlier attempt was, in place, or with the first epoch."""
        standing = Standing()
        if self.found is not None:
            try:
                standing = restore(self.found, model, optimizer, baseline)
            except CheckpointError as error:
                self.ignored = str(error)
            self.resumed_from = len(standing.curves)
            self.found = None  # its tensors are as large as the model and its optimizer
        self._due = self.clock() + self.every
        return standing

    def offer(
        self,
        model: Classifier,
        optimizer: torch.optim.Optimizer,
        baseline: Baseline,
        standing: Standing,
        notes: Sequence[str],
    ) -> None:
        """An epoch that is not the last is over: write a checkpoint if one is due, or if this
        machine is about to go.
        """
        begun = self.clock()
        if not self.every or not self.replicas.is_first:
            return
        if begun < self._due and not is_leaving():
            return
        versions = {**self.versions, **self.begun_with}  # of its first epochs
        about = self.about | {"key": self.key, "notes": list(notes), "versions": versions}
        try:
            content = pack(model, optimizer, baseline, standing, about)
            self.store.storage.put(checkpoint_path(self.store, self.key), content)
            self.num_written += 1
        except OSError:  # no room, a store that is away: the training goes on without
            pass
        now = self.clock()
        self._due = now + max(self.every, (now - begun) / MOST_OF_THE_TIME)

    def remove(self) -> None:
        """The node is committed, or cannot be computed."""
        if self.every and self.replicas.is_first:
            remove_checkpoint(self.store, self.key)

    @property
    def told(self) -> dict[str, Any]:
        """For the node's ``execution``: what there was to tell, if anything."""
        parts = {
            "written": self.num_written,
            "resumed_from": self.resumed_from,
            "ignored": self.ignored,
            "begun_with": self.begun_with if self.resumed_from else None,
        }
        kept = {name: value for name, value in parts.items() if value}
        return {"checkpoint": kept} if kept else {}


def remove_checkpoint(store: Store, key: str) -> None:
    """Remove the checkpoint of a node if there is one; what cannot be removed does no harm."""
    try:
        path = checkpoint_path(store, key)
        if store.storage.exists(path):
            store.storage.remove(path)
            store.storage.remove_empty(path.rpartition("/")[0])
    except OSError:
        pass


def remove_needless(store: Store) -> int:
    """Remove the checkpoints of all nodes that are committed by now: whoever wrote one was killed
    before it could; returns how many there were.
    """
    paths = store.storage.sizes(f"{store.root}/{FOLDER}")
    keys = [path.rpartition("/")[2] for path in paths]
    needless = [key for key in keys if not key.startswith(".") and store.has(key)]
    for key in needless:
        remove_checkpoint(store, key)
    return len(needless)
