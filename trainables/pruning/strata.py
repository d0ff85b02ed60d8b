"""Which images a curvature per group is read off, and how the groups' curvatures are weighed.

Shape legend: N images, G groups.
"""

import torch
from torch import Tensor

from trainables.pruning.base import ScoringError


def choose_rows(
    group_N: Tensor,
    num_groups: int,
    max_images: int,
    generator: torch.Generator,
    *,
    balance: bool = False,
) -> Tensor:
    """A random part of the images, stratified by group: positions, ascending.

    Each group gives its share of ``max_images`` (at least one image), or with ``balance`` every
    group equally many: an equal part of ``max_images``, at most what the smallest group has.

    Args:
        group_N: group of each image; images of unknown group (negative) are left out.
        num_groups: G; with one group for all images the part is not stratified.
        max_images: about how many images are wanted; all of them where there are fewer.
        generator: CPU generator.
        balance: see above.

    Raises:
        ScoringError: a group has no image.
    """
    group_N = group_N.cpu()
    members = [torch.nonzero(group_N == g).flatten() for g in range(num_groups)]
    empty = [g for g, rows in enumerate(members) if not len(rows)]
    if empty:
        raise ScoringError(f"curvature per group: group {empty[0]} has no training image")
    total = sum(len(rows) for rows in members)
    smallest = min(len(rows) for rows in members)
    picked = []
    for rows in members:
        wanted = smallest if balance else len(rows)
        allowed = max_images / num_groups if balance else max_images * len(rows) / total
        num = min(wanted, max(1, int(allowed)))
        picked.append(rows[torch.randperm(len(rows), generator=generator)[:num]])
    return torch.cat(picked).sort().values


def group_weights(num_groups: int, privileged: int, beta: float) -> Tensor:
    """Weights w_G of FairPrune's ``sum_g w_g h_g``: -beta for the privileged group, an equal part
    of 1 for each other, so that two groups give ``h_unprivileged - beta h_privileged``.
    """
    weight_G = torch.full((num_groups,), 1 / max(num_groups - 1, 1))
    weight_G[privileged] = -beta
    return weight_G
