"""How fast a trial trains on a device, measured for a few seconds without keeping anything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from trainables.baselines.base import Batch
from trainables.data.base import Dataset
from trainables.data.device import DeviceData
from trainables.node import make_baseline
from trainables.training import Trainer
from trainables.trial import initial_model, prepare_device
from trainables.trial_spec import Trial

WARM_UP_STEPS = 10


@dataclass(frozen=True)
class Measured:
    """Images trained on, the seconds that took, and the most memory of a GPU that was held
    (bytes; 0 on a CPU).
    """

    images: int
    seconds: float
    memory: int


class TrainingRate:
    """A root's training step on real images, repeated for as long as one asks.

    Args:
        trial: resolved.
        dataset: what it trains on.
        device: where.
        make_trainer: another source of its batches (``benchmarks/``).

    Raises:
        UserError: the trial's baseline cannot be used with the data.
        ValueError: it has parents, so its training starts elsewhere.
    """

    def __init__(
        self,
        trial: Trial,
        dataset: Dataset,
        device: str,
        make_trainer: Callable[[DeviceData, Trial], Trainer] | None = None,
    ) -> None:
        if trial.parents:
            raise ValueError("only a root's training can be measured: others have parents")
        self.trial = trial
        self.device = torch.device(device)
        self.baseline = make_baseline(trial, dataset)
        prepare_device(self.device, trial)
        data = DeviceData(dataset, self.device)
        make = make_trainer or (lambda data, t: Trainer(data, t.compute, t.seed, 0))
        self.trainer = make(data, trial)
        self.model = initial_model(trial, self.baseline, self.device)
        self.baseline.begin(self.model, [])
        self.recipe = trial.baseline.training
        self.optimizer = self.baseline.optimizer(self.model, self.recipe)
        self._batches = self.endless()
        for _ in range(WARM_UP_STEPS):  # cuDNN looks for its algorithms in the first of them
            self._step()
        self._wait()

    def run(self, seconds: float) -> Measured:
        """Train for about this long."""
        images, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(5):
                images += self._step()
            self._wait()
        took = time.perf_counter() - began
        return Measured(images, took, self._memory())

    def run_steps(self, number: int) -> None:
        """Train for so many steps that are not measured."""
        for _ in range(number):
            self._step()
        self._wait()

    def endless(self) -> Iterator[Batch]:
        """Batches, epoch after epoch."""
        for epoch in itertools.cycle(range(self.recipe.epochs)):
            yield from self.trainer.training_batches(self.recipe, epoch)

    def _step(self) -> int:
        batch = next(self._batches)
        self.model.train()
        self.baseline.step(self.model, batch, self.optimizer, self.trainer.autocast())
        return len(batch.label_N)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _memory(self) -> int:
        """What this process takes of the device: its tensors' reserve and its CUDA context."""
        return torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else 0
