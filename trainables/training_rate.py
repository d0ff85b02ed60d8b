"""How fast a trial trains on a device, measured for a few seconds without keeping anything."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

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

    Raises:
        UserError: the trial's baseline cannot be used with the data.
        ValueError: it has parents, so its training starts elsewhere.
    """

    def __init__(self, trial: Trial, dataset: Dataset, device: str) -> None:
        if trial.parents:
            raise ValueError("only a root's training can be measured: others have parents")
        self.trial = trial
        self.device = torch.device(device)
        self.baseline = make_baseline(trial, dataset)
        prepare_device(self.device, trial)
        self.trainer = Trainer(DeviceData(dataset, self.device), trial.compute, trial.seed, 0)
        self.model = initial_model(trial, self.baseline, self.device)
        self.baseline.begin(self.model, [])
        self.recipe = trial.baseline.training
        self.optimizer = self.baseline.optimizer(self.model, self.recipe)
        self._batches = self.trainer.training_batches(self.recipe, 0)
        self._epoch = 0
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

    def _step(self) -> int:
        batch = next(self._batches, None)
        if batch is None:
            self._epoch = (self._epoch + 1) % self.recipe.epochs
            self._batches = self.trainer.training_batches(self.recipe, self._epoch)
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
