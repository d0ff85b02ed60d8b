"""HSIC of a channel and the sensitive group: how far the channel's map tells the group.

Shape legend: N images, C channels, H height, W width, P positions, G groups.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.distances import mean_over_pairs, square_distances
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
    z_CNP = feature_NCHW.float().flatten(2).transpose(0, 1)
    if maps == "pooled":
        z_CNP = z_CNP.mean(2, keepdim=True)
    distance_CNN = square_distances(z_CNP).double()
    if distance_CNN.is_cuda:
        scale_C11 = -2 * bandwidth * mean_over_pairs(distance_CNN)
        return hsic_1_by_groups(distance_CNN.div_(scale_C11).exp_(), group_N).float()
    kernel_CNN = torch.exp(-distance_CNN / (2 * bandwidth * mean_over_pairs(distance_CNN)))
    group_N = group_N.to(distance_CNN.device)
    same_NN = (group_N[:, None] == group_N[None, :]).double()
    return _hsic_1(kernel_CNN, same_NN).float()


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


def hsic_1_by_groups(kernel_CNN: Tensor, group_N: Tensor) -> Tensor:
    """The same of a kernel and the groups, in a third of the passes over all pairs: one product
    with the groups gives all sums. Overwrites the kernel's diagonal.

    Args:
        kernel_CNN: float64.
        group_N: all known; on the CPU it costs a GPU no stop.
    """
    num, device = len(group_N), kernel_CNN.device
    _, index_N, num_G = group_N.unique(return_inverse=True, return_counts=True)
    other_N = (num_G[index_N] - 1).double().to(device, non_blocking=True)
    own_NG = functional.one_hot(index_N, len(num_G)).double().to(device, non_blocking=True)
    num_pairs = float((num_G * (num_G - 1)).sum())
    kernel_CNN.diagonal(dim1=1, dim2=2).zero_()
    sum_CNG = kernel_CNN @ own_NG
    row_CN = sum_CNG.sum(2)
    trace_C = (sum_CNG * own_NG).sum((1, 2))
    product_C = row_CN.sum(1) * (num_pairs / ((num - 1) * (num - 2)))
    return (trace_C + product_C - 2 * (row_CN @ other_N) / (num - 2)) / (num * (num - 3))


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
        if len(batch.group_N) < 4 or len(torch.unique(batch.on_cpu.group_N)) < 2:
            return
        score_C = channel_hsic(
            batch.feature_NCHW,
            batch.on_cpu.group_N,
            maps=self.config.maps,
            bandwidth=self.config.bandwidth,
        )
        self._sum_C = self._sum_C.to(score_C.device) + score_C.double() * len(batch.group_N)
        self._weight += len(batch.group_N)

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
