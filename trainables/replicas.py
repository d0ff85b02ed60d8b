"""The processes that train one trial together, each on its part of every batch.

Data parallel as DistributedDataParallel is (Li et al., VLDB 2020): every process has the whole
model, computes the gradient of its part of a batch, and all apply the mean. What DDP hangs onto
the net's forward hangs here onto the optimizer's step, because a baseline's step may run parts of
the net by themselves or several times. BatchNorm normalises by each process's own part, as DDP's
without SyncBN; running statistics are averaged after each epoch.

All processes run the same code, and whatever decides what comes next (is this node stored, does
training stop) is decided alike: from values that all have, or by the first process for all.

Shape legend: N images, K classes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

T = TypeVar("T")

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""By kind of device; what is no tensor of a GPU goes by gloo."""


@dataclass
class Replicas:
    """One of the processes, ``rank`` of ``size``; alone by default."""

    rank: int = 0
    size: int = 1
    share: float = 1.0
    """This process's part of the present batch."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def part(self, number: int) -> slice:
        """Which of ``number`` things are this process's; those of all differ by one at most."""
        each, more = divmod(number, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def same(self, value: T) -> T:
        """The first process's value."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def each(self, value: T) -> list[T]:
        """Every process's value, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Mean over processes of each value, of those that have it."""
        found: dict[str, list[float]] = {}
        for one in self.each(values):
            for name, value in one.items():
                found.setdefault(name, []).append(value)
        return {name: sum(each) / len(each) for name, each in found.items()}

    def total(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device by their sums over processes, in place."""
        if self.size > 1:
            for group in _by_dtype(tensors):
                _reduce(group)

    def gather(self, part_NK: Tensor, number: int) -> Tensor:
        """Rows that each process computed of its ``part(number)``, put together."""
        if self.size == 1:
            return part_NK
        parts = [Replicas(rank, self.size).part(number) for rank in range(self.size)]
        most = max(part.stop - part.start for part in parts)
        padded = part_NK.new_zeros((most, *part_NK.shape[1:]))
        padded[: len(part_NK)] = part_NK
        found = [torch.empty_like(padded) for _ in parts]
        distributed.all_gather(found, padded)
        each = zip(found, parts, strict=True)
        return torch.cat([rows[: part.stop - part.start] for rows, part in each])

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors by the first process's."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors of one device by their means over processes, in place."""
        if self.size > 1:
            for group in _by_dtype([each for each in tensors if each.is_floating_point()]):
                _reduce(group, 1 / self.size)

    @contextlib.contextmanager
    def averaging(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """While open, each step of the optimizer descends the gradient of the whole batch."""
        if self.size == 1:
            yield
            return
        handle = optimizer.register_step_pre_hook(lambda *_: self._average_gradients(optimizer))
        try:
            yield
        finally:
            handle.remove()

    def _average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for settings in optimizer.param_groups for p in settings["params"]]
        # a part of a batch may leave a parameter untouched that another reaches (BatchNorm of a
        # group that it has no image of); one that none reaches must stay as it is
        reached = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8)
        distributed.all_reduce(reached, op=distributed.ReduceOp.MAX)
        taken = [p for p, any_does in zip(parameters, reached.tolist(), strict=True) if any_does]
        for parameter in taken:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for group in _by_dtype([p.grad for p in taken]):
            _reduce(group, self.share)


ALONE = Replicas()


def join(rank: int, size: int, address: str, device: str) -> Replicas:
    """Make this process one of several on one machine; returns when all have come.

    Args:
        rank: which one, the first is 0.
        size: how many.
        address: ``host:port`` on which the first one listens.
        device: of the trials.
    """
    if sys.platform == "linux":  # what they say to each other leaves the machine by no interface
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        BACKENDS[torch.device(device).type],
        init_method=f"tcp://{address}",
        rank=rank,
        world_size=size,
    )
    return Replicas(rank, size)


def leave() -> None:
    """Undo ``join``."""
    distributed.destroy_process_group()


def free_address() -> str:
    """``host:port`` of this machine that nothing listens on; not reached from others."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def _by_dtype(tensors: Sequence[Tensor | None]) -> list[list[Tensor]]:
    found: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if tensor is not None:
            found.setdefault(tensor.dtype, []).append(tensor)
    return list(found.values())


def _reduce(tensors: list[Tensor], weight: float = 1.0) -> None:
    """The weighted sum over processes of tensors of one type, in one message."""
    flat = _flatten_dense_tensors(tensors)
    if weight != 1.0:
        flat.mul_(weight)
    distributed.all_reduce(flat)
    for tensor, summed in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
        tensor.copy_(summed)
