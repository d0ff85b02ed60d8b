"""HSIC of a channel and the sensitive group: how far the channel's map tells the group.

Shape legend: N images, C channels, H height, W width, P positions, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainables.metrics.kernels import MIN_HSIC as MIN_IMAGES
from trainables.pruning.base import (
    Criterion,
    ScoringBatch,
    ScoringContext,
    ScoringError,
    values_at_once,
)
from trainables.pruning.distances import ROUNDING, mean_over_pairs, square_distances
from trainables.pruning.orders import Sampling, group_batches
from trainables.registry import criteria


def channel_hsic(
    feature_NCHW: Tensor,
    group_N: Tensor,
    *,
    maps: Literal["pooled", "flat"] = "pooled",
    bandwidth: float = 1.0,
) -> Tensor:
    """HSIC_1 (Song et al., JMLR 2012, eq. 5) of each channel's map and the one-hot group.

    RBF kernel ``exp(-d_ij^2 / (2 b m))`` with m the channel's mean squared distance over pairs of
    images and b the ``bandwidth``, so that the scale of a channel does not matter; the kernel of
    the groups is 1 for two images of one group, else 0. Its mean is 0 where the map says nothing
    of the group, as it is for a constant channel.

    Args:
        feature_NCHW: maps of at least four images.
        group_N: their groups, all known; on the CPU they cost a GPU no stop.
        maps: ``flat`` compares maps position by position, ``pooled`` their means.
        bandwidth: b > 0.

    Returns:
        score_C (float32, device of the features).
    """
    kernel_CNN = _kernel(feature_NCHW.flatten(2).transpose(0, 1), maps, bandwidth)
    group_N = group_N.to(kernel_CNN.device)
    same_NN = (group_N[:, None] == group_N[None, :]).double()
    return _hsic_1(kernel_CNN, same_NN).float()


def _kernel(z_CNP: Tensor, maps: str, bandwidth: float) -> Tensor:
    """The channels' kernel_CNN, float64."""
    z_CNP = z_CNP.float()
    if maps == "pooled":
        z_CNP = z_CNP.mean(2, keepdim=True)
    distance_CNN = square_distances(z_CNP).double()
    return torch.exp(-distance_CNN / (2 * bandwidth * mean_over_pairs(distance_CNN)))


def _kernel_in_place(z_CNP: Tensor, maps: str, bandwidth: float) -> Tensor:
    """The same in half the memory traffic: all but the sums in float32."""
    z_CNP = z_CNP.float()
    if maps == "pooled":
        z_C1N = z_CNP.mean(2)[:, None]
        square_C = (z_C1N - z_C1N.mean(2, keepdim=True)).square().sum((1, 2))
        alike_C = square_C <= ROUNDING * z_C1N.square().sum((1, 2))
        distance_CNN = (z_C1N.transpose(1, 2) - z_C1N).square_()
    else:
        distance_CNN = square_distances(z_CNP)
        distance_CNN.diagonal(dim1=1, dim2=2).zero_()
        alike_C = torch.zeros(len(z_CNP), dtype=torch.bool, device=z_CNP.device)
    num = distance_CNN.shape[1]
    mean_C = distance_CNN.sum((1, 2), dtype=torch.float64) / (num * (num - 1))
    factor_C = -1 / (2 * bandwidth * torch.where(mean_C > 0, mean_C, 1))
    factor_C = factor_C.masked_fill(alike_C, 0).float()  # a constant channel's kernel is constant
    return distance_CNN.mul_(factor_C[:, None, None]).exp_().double()


def _hsic_1(kernel_CNN: Tensor, other_NN: Tensor) -> Tensor:
    """[tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n (n-3)), diagonals zero; of every
    channel at once what ``metrics.kernels.hsic_unbiased`` is of one.

    In float64: the three terms nearly cancel for a channel that says nothing of the group.
    """
    num = len(other_NN)
    off_NN = ~torch.eye(num, dtype=torch.bool, device=other_NN.device)
    kernel_CNN, other_NN = kernel_CNN * off_NN, other_NN * off_NN
    trace_C = (kernel_CNN * other_NN).sum((1, 2))
    product_C = kernel_CNN.sum((1, 2)) * other_NN.sum() / ((num - 1) * (num - 2))
    mixed_C = kernel_CNN.sum(1) @ other_NN.sum(1) / (num - 2)
    return (trace_C + product_C - 2 * mixed_C) / (num * (num - 3))


def hsic_1_by_groups(kernel_BCNN: Tensor, group_BN: Tensor) -> Tensor:
    """The same of the kernels and groups of several batches, score_BC, in a third of the passes
    over all pairs: one product with the groups gives all sums. Overwrites the kernels' diagonals.

    Args:
        kernel_BCNN: float64, batch by batch.
        group_BN: all known; on the CPU they cost a GPU no stop.
    """
    num_batches, num_channels, num, _ = kernel_BCNN.shape
    num_BG = functional.one_hot(group_BN).sum(1)
    other_BN = (num_BG.gather(1, group_BN) - 1).double()
    num_pairs_B1 = (num_BG * (num_BG - 1)).sum(1, keepdim=True).double()
    device, num_groups = kernel_BCNN.device, num_BG.shape[1]
    other_B1N, num_pairs_B1 = (
        each.to(device, non_blocking=True) for each in (other_BN[:, None], num_pairs_B1)
    )
    known_BN = group_BN.to(device, non_blocking=True)
    own_BNG = (known_BN[..., None] == torch.arange(num_groups, device=device)).double()
    kernel_BCNN.diagonal(dim1=2, dim2=3).zero_()
    sum_BLG = kernel_BCNN.view(num_batches, num_channels * num, num) @ own_BNG
    sum_BCNG = sum_BLG.view(num_batches, num_channels, num, num_groups)
    row_BCN = sum_BCNG.sum(3)
    trace_BC = (sum_BCNG * own_BNG[:, None]).sum((2, 3))
    product_BC = row_BCN.sum(2) * num_pairs_B1 / ((num - 1) * (num - 2))
    mixed_BC = (row_BCN * other_B1N).sum(2) / (num - 2)
    return (trace_BC + product_BC - 2 * mixed_BC) / (num * (num - 3))


@criteria.register("hsic")
class HSIC(Criterion):
    """Remove the channels whose maps depend most on the group, by HSIC with the one-hot group."""

    name: ClassVar[str]

    class Config(Criterion.Config):
        """What of a map is compared, and how wide the kernel is."""

        name: Literal["hsic"] = "hsic"
        maps: Literal["pooled", "flat"] = "pooled"
        bandwidth: float = Field(1.0, gt=0, description="times the mean squared distance")
        batch_size: int = Field(128, ge=4)
        sampling: Sampling = "stratified"

    config: HSIC.Config

    def __init__(self, config: HSIC.Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._sum_C = torch.zeros(context.num_channels, dtype=torch.float64)
        self._weight = 0

    @classmethod
    def scoring_order(
        cls, config: Any, group_N: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        """As ``snnl``, so that one pass can serve both."""
        return group_batches(group_N, generator, config.batch_size, config.sampling)

    def update(self, batch: ScoringBatch) -> None:
        """Add one batch, weighted by its images; one group alone says nothing."""
        if len(batch.group_N) < MIN_IMAGES or len(torch.unique(batch.on_cpu.group_N)) < 2:
            return
        score_C = channel_hsic(
            batch.feature_NCHW,
            batch.on_cpu.group_N,
            maps=self.config.maps,
            bandwidth=self.config.bandwidth,
        )
        self._sum_C = self._sum_C.to(score_C.device) + score_C.double() * len(batch.group_N)
        self._weight += len(batch.group_N)

    def update_together(self, batch: ScoringBatch, sizes: Sequence[int]) -> None:
        """Batches of one size at once; on a CPU a single one as ever."""
        feature_NCHW, size = batch.feature_NCHW, sizes[0]
        is_large = len(sizes) > 1 or feature_NCHW.device.type == "cuda"
        if not is_large or len(set(sizes)) > 1 or size < MIN_IMAGES:
            super().update_together(batch, sizes)
            return
        group_BN = batch.on_cpu.group_N.view(len(sizes), size)
        two_B = (group_BN != group_BN[:, :1]).any(1)  # one group alone says nothing
        feature_BNCP = feature_NCHW.flatten(2).unflatten(0, group_BN.shape)
        num_channels, num_positions = feature_BNCP.shape[2:]
        most = values_at_once(num_channels * size * max(size, num_positions) * 2)
        for start in range(0, len(sizes), most):
            part = slice(start, start + most)
            z_CNP = feature_BNCP[part].transpose(1, 2).flatten(0, 1)
            kernel_CNN = _kernel_in_place(z_CNP, self.config.maps, self.config.bandwidth)
            kernel_BCNN = kernel_CNN.unflatten(0, (-1, num_channels))
            score_BC = hsic_1_by_groups(kernel_BCNN, group_BN[part])
            weight_B = (two_B[part] * size).double().to(score_BC.device, non_blocking=True)
            self._sum_C = self._sum_C.to(score_BC.device) + weight_B @ score_BC
        self._weight += size * int(two_B.sum())

    def state(self) -> tuple[Tensor, int]:
        """Sum and number of images."""
        return self._sum_C.cpu(), self._weight

    def merge(self, state: tuple[Tensor, int]) -> None:
        """Add them."""
        self._sum_C = self._sum_C.cpu() + state[0]
        self._weight += state[1]

    def score(self) -> Tensor:
        """Minus the mean over batches: the most dependent channels come first."""
        if self._weight == 0:
            raise ScoringError(
                f"hsic: no batch of {self.config.batch_size} holds two groups and four images"
            )
        return (-self._sum_C.cpu() / self._weight).float()
