"""Distances between the maps of images, channel by channel.

Shape legend: N images, C channels, P positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-12
"""Maps whose squared deviations are below this share of their squares are alike (float32)."""


def square_distances(z_CNP: Tensor) -> Tensor:
    """Squared Euclidean distances distance_CNN, never below 0; exactly 0 for a constant channel.

    Taken around the channel's mean map, so that nothing large cancels.
    """
    z_CNP = z_CNP.float()
    raw_C = z_CNP.square().sum((1, 2))
    z_CNP = z_CNP - z_CNP.mean(1, keepdim=True)
    square_CN = z_CNP.square().sum(2)
    alike_C = square_CN.sum(1) <= ROUNDING * raw_C
    product_CNN = z_CNP @ z_CNP.transpose(1, 2)
    distance_CNN = square_CN[:, :, None] + square_CN[:, None] - 2 * product_CNN
    return distance_CNN.clamp(min=0).masked_fill(alike_C[:, None, None], 0)


def mean_over_pairs(distance_CNN: Tensor, floor: float = 0.0) -> Tensor:
    """Mean distance of two different images (C, 1, 1); 1 where it is not above the floor."""
    num = distance_CNN.shape[1]
    off_NN = ~torch.eye(num, dtype=torch.bool, device=distance_CNN.device)
    mean_C11 = (distance_CNN * off_NN).sum((1, 2), keepdim=True) / max(num * (num - 1), 1)
    return torch.where(mean_C11 > floor, mean_C11, 1)
