"""Batches of few classes with many images each, for losses that compare images of one class.

Shape legend: N images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

IMAGES_PER_CLASS = 16
"""Images of one class that stand together in a batch, about."""


def class_grouped(
    label_N: np.ndarray, batch_size: int, generator: torch.Generator
) -> list[Tensor]:
    """Positions in ``label_N`` of each batch of one epoch.

    A batch is made of ``batch_size // 16`` blocks, at least 2, of equal size (to within one
    image), each of one class. The classes go round: all in a random order, then all in another;
    so do the images within each class. All classes are thus equally frequent, as with ``class``;
    an epoch is N images long, its last partial batch dropped unless it is the only one.
    """
    size = min(batch_size, len(label_N))
    sizes = [len(part) for part in np.array_split(np.arange(size), _num_blocks(batch_size))]
    classes = np.unique(label_N)
    images = {
        int(label): _rounds(torch.from_numpy(np.flatnonzero(label_N == label)), generator)
        for label in classes
    }
    order = _rounds(torch.from_numpy(classes), generator)
    batches = []
    for _ in range(len(label_N) // size):
        blocks = [(int(next(order)), num) for num in sizes]
        rows = [next(images[label]) for label, num in blocks for _ in range(num)]
        batches.append(torch.stack(rows))
    return batches


def _num_blocks(batch_size: int) -> int:
    return max(2, batch_size // IMAGES_PER_CLASS)


def _rounds(values_N: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """The values over and over, each time in a fresh random order."""
    while True:
        yield from values_N[torch.randperm(len(values_N), generator=generator)]
