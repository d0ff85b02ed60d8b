"""Which training images a criterion that compares groups scores, batch by batch.

Shape legend: N images.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["stratified", "shuffled", "sequential"]


def group_batches(
    group_N: Tensor, generator: torch.Generator, batch_size: int, sampling: Sampling
) -> list[Tensor]:
    """Batches of known-group rows; ``stratified`` gives each batch the groups' overall shares.

    The last, partial batch is dropped unless it is the only one.
    """
    rows = torch.nonzero(group_N >= 0).flatten()
    if sampling == "shuffled":
        rows = rows[torch.randperm(len(rows), generator=generator)]
    elif sampling == "stratified":
        place = torch.empty(len(rows), dtype=torch.float64)
        for group in torch.unique(group_N[rows]).tolist():
            members = torch.nonzero(group_N[rows] == group).flatten()
            rank = torch.randperm(len(members), generator=generator).double()
            place[members] = (rank + 0.5) / len(members)
        rows = rows[torch.sort(place, stable=True).indices]
    batches = list(rows.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < batch_size:
        batches.pop()
    return batches
