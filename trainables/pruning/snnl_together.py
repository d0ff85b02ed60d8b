"""SNNL-Fair of several batches at once: one product gives the sums of all.

On a GPU a batch of 128 images costs its launches, not its arithmetic. What is computed is that of
``snnl_loss.snnl_fair`` in its plain form (corrected, cosine, no scale), batch by batch.

Shape legend: B batches, N images of a batch, C channels, P = H * W positions, G groups, Y classes,
K = Y * G cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainables.pruning.base import values_at_once

SAFE_TEMPERATURE = 0.05
"""From here on exp(1 / T) and exp(-1 / T), the weights of equal and of opposite maps, are far from
the ends of float32."""
TINY = 1e-30

@dataclass(frozen=True)
class Counted:
    """Which images of each batch count and how much; on the CPU."""

    cell_BN: Tensor  # class * G + group of an anchor, -1 of all others
    weight_BN: Tensor  # float64, 0 but at anchors: of an image's loss in the sum over all batches
    num_groups: int
    num_cells: int
    num_anchors: int


def counted(
    group_BN: Tensor,
    label_BN: Tensor | None,
    *,
    min_group: int,
    anchor_weight: Literal["image", "group"],
    by_chance: bool,
) -> Counted:
    """The anchors of each batch, weighed so that the sum over images is the batches' losses, each
    times its number of anchors and (``by_chance``) divided by its ``chance_level``.

    A group (with labels: of a class) with fewer than ``min_group`` images is left out of the
    batch; unknown groups (-1) are, too.
    """
    num_groups = int(group_BN.max().clamp(min=0)) + 1
    class_BN = torch.zeros_like(group_BN) if label_BN is None else label_BN
    num_classes = int(class_BN.max()) + 1
    cell_BN = torch.where(group_BN < 0, 0, class_BN * num_groups + group_BN)
    here_BN = (group_BN >= 0).long()
    num_BK = torch.zeros(len(group_BN), num_classes * num_groups, dtype=torch.long)
    num_BK.scatter_add_(1, cell_BN, here_BN)
    num_BK[num_BK < min_group] = 0
    own_BN = num_BK.gather(1, cell_BN) * here_BN
    near_BN = num_BK.unflatten(1, (num_classes, num_groups)).sum(2).gather(1, class_BN)
    anchor_BN = (own_BN > 1) & (own_BN < near_BN)

    num_B1 = anchor_BN.sum(1, keepdim=True).double()
    if anchor_weight == "image":
        weight_BN = anchor_BN / num_B1.clamp(min=1)
    else:
        group_BN = group_BN.clamp(min=0)
        num_BG = torch.zeros(len(group_BN), num_groups, dtype=torch.double)
        num_BG.scatter_add_(1, group_BN, anchor_BN.double())
        num_present_B1 = (num_BG > 0).sum(1, keepdim=True)
        weight_BN = anchor_BN / (num_BG.gather(1, group_BN) * num_present_B1).clamp(min=1)
    scale_B1 = num_B1
    if by_chance:
        level_BN = -torch.log((own_BN - 1).clamp(min=1) / (near_BN - 1).clamp(min=1).double())
        level_B1 = (level_BN * weight_BN).sum(1, keepdim=True)
        scale_B1 = torch.where(num_B1 > 0, num_B1 / level_B1, 0)
    return Counted(
        torch.where(anchor_BN, cell_BN, -1),
        weight_BN * scale_B1,
        num_groups,
        num_classes * num_groups,
        int(anchor_BN.sum()),
    )


def weighted_loss(feature_MCHW: Tensor, images: Counted, temperature: float) -> Tensor:
    """sum_C (float64, device of the maps): the images' losses times their weights.

    Args:
        feature_MCHW: the maps of B * N images, batch after batch; any floating type.
        images: of the same.
        temperature: T, not below ``SAFE_TEMPERATURE``.
    """
    device, (num_batches, size) = feature_MCHW.device, images.cell_BN.shape
    feature_BNCP = feature_MCHW.flatten(2).unflatten(0, (num_batches, size))
    num_channels, num_positions = feature_BNCP.shape[2:]
    most = values_at_once(num_channels * size * max(size, num_positions, images.num_cells))
    weight_BN = images.weight_BN.to(device, non_blocking=True)
    cell_BN = images.cell_BN.to(device, non_blocking=True)
    cell_K = torch.arange(images.num_cells, device=device)
    total_C = torch.zeros(num_channels, dtype=torch.float64, device=device)
    for start in range(0, num_batches, most):
        part = slice(start, start + most)
        own_BNK = cell_BN[part, :, None] == cell_K
        near_BNK = None
        if images.num_cells > images.num_groups:
            class_BN1 = cell_BN[part, :, None].div(images.num_groups, rounding_mode="floor")
            near_BNK = (class_BN1 == cell_K // images.num_groups).float()
        loss_BCN = _losses(feature_BNCP[part], own_BNK.float(), near_BNK, temperature)
        loss_BCN = loss_BCN.double().masked_fill(cell_BN[part, None] < 0, 0)
        total_C += (loss_BCN * weight_BN[part, None]).sum((0, 2))
    return total_C


def _losses(
    feature_BNCP: Tensor, own_BNK: Tensor, near_BNK: Tensor | None, temperature: float
) -> Tensor:
    """loss_BCN of each image in its batch; not finite for an image that is no anchor. Without
    ``near_BNK`` all others are neighbours.
    """
    z_BCNP = feature_BNCP.transpose(1, 2).to(
        torch.float32, memory_format=torch.contiguous_format
    )
    num_batches, num_channels, size, _ = z_BCNP.shape
    unit_MNP = functional.normalize(z_BCNP.flatten(0, 1), dim=2, eps=TINY).div_(temperature**0.5)
    # exp((cosine - 1) / T) but for the factor exp(-1 / T), which cancels in the quotient
    weight_MNN = (unit_MNP @ unit_MNP.transpose(1, 2)).exp_()
    weight_MNN.diagonal(dim1=1, dim2=2).zero_()
    weight_BLN = weight_MNN.view(num_batches, num_channels * size, size)
    sum_BCNK = (weight_BLN @ own_BNK).view(num_batches, num_channels, size, -1)
    own_BCN = (sum_BCNK * own_BNK[:, None]).sum(3)
    near_BCN = (sum_BCNK if near_BNK is None else sum_BCNK * near_BNK[:, None]).sum(3)
    return near_BCN.log() - own_BCN.log()
