"""Trials that ran out of memory: once more with half as many on a machine, then a failure.

How many trials share a GPU or a machine is the user's guess. A trial that did not fit is put off
until all else that can run is finished; then such trials run by themselves in a round with half
the packing. What waits for them runs afterwards, with the packing that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

OUT_OF_MEMORY = "OutOfMemory"
"""Type of the error, of a GPU's memory or the machine's."""
NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How libraries say it in a plain RuntimeError; a new process on a full GPU gets no handle."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, of a GPU or of the machine."""
    import torch

    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY)


@dataclass
class MemoryRetries:
    """Which nodes wait for the next round with half the packing; for one start of a sweep."""

    waiting: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)
    is_half: bool = False

    def put_off(self, key: str, error: Mapping[str, Any]) -> bool:
        """Whether the attempt is repeated; a second time is a failure."""
        if error.get("type") != OUT_OF_MEMORY or key in self.retried:
            return False
        self.waiting.add(key)
        self.retried.add(key)
        return True

    def may_run(self, key: str) -> bool:
        """Whether this round is the node's."""
        return (key in self.waiting) == self.is_half

    def turn(self) -> bool:
        """Begin the next round; False when none is needed. What a round with half the packing
        left undone is nothing special from then on, so that there is an end.
        """
        if not self.is_half and not self.waiting:
            return False
        if self.is_half:
            self.waiting.clear()
        self.is_half = not self.is_half
        return True


@dataclass(frozen=True)
class Packing:
    """What a trial asks of Ray. ``cpus`` only keeps others away: threads stay as they are."""

    workers: int
    cpus: float
    gpus: float
    processes: int = 1
    """That compute one trial together, on one machine."""


def half(packing: Packing, nodes: Iterable[Mapping[str, float]]) -> Packing:
    """Twice the share of a machine a trial, as far as some machine has it; half the workers.

    ``nodes`` are Ray's resources of the nodes that are up.
    """
    gpus = max(packing.gpus, min(2 * packing.gpus, 1.0))
    rooms = [node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= gpus]
    cpus = max(packing.cpus, min([2 * packing.cpus, max(rooms, default=0.0)]))
    workers = packing.workers // 2
    if 0 < packing.gpus < 1:  # of 1/3 three fit on a GPU, of 2/3 one
        workers = packing.workers * int(1 / gpus + 1e-9) // int(1 / packing.gpus + 1e-9)
    workers = max(1, min(workers, packing.workers // 2))
    return replace(packing, workers=workers, cpus=cpus, gpus=gpus)
