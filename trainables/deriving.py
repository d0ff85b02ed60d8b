"""What a baseline that derives is given of the data: training images, made when they are asked
for.

Shape legend: N images, G groups, C classes (true, predicted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.baselines.base import Baseline, Batch
from trainables.data.base import TRAIN, VALIDATION
from trainables.models.classifier import Classifier
from trainables.predictions import split_counts, split_predictions
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial_spec import Recipe


@dataclass(frozen=True)
class TrainingImages:
    """The training split, not augmented, as batches that can be gone through any number of times.

    A batch exists only while it is used: float images of a whole split would fill a GPU.
    """

    label_N: Tensor  # CPU
    group_N: Tensor  # CPU, -1 where unknown
    batch_size: int
    make: Callable[[Tensor], Batch]
    """The batch of some positions in the split (a CPU index tensor), on the trial's device."""
    generator: torch.Generator
    """The trial's stream of purpose ``select``, on the CPU."""
    validation_counts: Callable[[], np.ndarray]
    """``count_GCC`` on the validation split of the model that is derived from."""
    note: Callable[[str], None]
    """Takes what a user should know of this trial."""

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.label_N) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Every image once, in order."""
        return self.batches(torch.arange(len(self.label_N)))

    def batches(self, rows: Tensor) -> Iterator[Batch]:
        """Batches of chosen positions in the split, in their order."""
        return (self.make(part) for part in rows.split(self.batch_size))


def training_images(
    trainer: Trainer, recipe: Recipe, source: Classifier, source_baseline: Baseline
) -> TrainingImages:
    """The training images of a trial that derives from the model ``source``."""
    data = trainer.data
    train_rows = torch.from_numpy(data.dataset.indices(TRAIN))

    def make(positions: Tensor) -> Batch:
        rows = train_rows[positions]
        on_device = rows.to(data.device)
        return Batch(
            image_NCHW=trainer.eval_images(recipe, rows),
            label_N=data.label_N[on_device],
            group_N=data.group_N[on_device],
            progress=0.0,
        )

    def validation_counts() -> np.ndarray:
        rows = data.dataset.indices(VALIDATION)
        logits_NK = trainer.predict(source, source_baseline, recipe, rows)
        stored = split_predictions(data.dataset, "validation", logits_NK)
        return split_counts(data.dataset, "validation", stored)

    return TrainingImages(
        label_N=data.label_N.cpu()[train_rows],
        group_N=data.group_N.cpu()[train_rows],
        batch_size=recipe.batch_size,
        make=make,
        generator=stream(trainer.seed, "select", trainer.iteration),
        validation_counts=validation_counts,
        note=trainer.note,
    )
