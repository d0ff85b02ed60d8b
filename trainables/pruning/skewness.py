"""Skewness of a channel's feature maps; needs no group labels.

Shape legend: N images, C channels, H height, W width, M values that are taken together.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext
from trainables.registry import criteria

CONSTANT = 1e-12
"""Values whose variance is below this share of their mean square count as constant (float32)."""


def central_moments(value_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and the sums of the second and third powers of deviations, over the last axis.

    In float64; deviations that are only rounding are zero.
    """
    value_M = value_M.double()
    mean = value_M.mean(-1)
    deviation_M = value_M - mean[..., None]
    second = deviation_M.square().sum(-1)
    constant = second <= CONSTANT * value_M.square().sum(-1)
    third = (deviation_M**3).sum(-1)
    return mean, second.masked_fill(constant, 0), third.masked_fill(constant, 0)


def skewness(num: int, second: Tensor, third: Tensor) -> Tensor:
    """Fisher's g1 = m3 / m2^1.5 from the sums of powers; 0 where the values are constant."""
    variance = second / num
    safe = torch.where(variance > 0, variance, 1)
    return torch.where(variance > 0, third / num / safe**1.5, 0)


@criteria.register("skewness")
class Skewness(Criterion):
    """Rank channels by how skewed the values of their feature maps are.

    After "prune learning" (Paxton et al. 2025, arXiv 2509.00745), of which only the abstract was
    read: that it calculates "the skewness of the feature map" and removes channels "related to
    skin tone", not the formula and not which end is removed. What is computed here is our reading:
    Fisher's ``g1 = m3 / m2^1.5`` of the values, population moments, 0 where they are constant.
    ``over: map`` takes it over the positions of each image's map and averages over images;
    ``over: all`` takes all values of all images together, as do maps of one pixel. By default the
    lowest go: a channel that answers to a small lesion is high in few positions (a long upper
    tail), one that answers to the skin around it in most of them.
    """

    name: ClassVar[str]
    uses_group = False
    sums_over_images = True

    class Config(Criterion.Config):
        """Over which values, and which end is removed."""

        name: Literal["skewness"] = "skewness"
        over: Literal["map", "all"] = "map"
        direction: Literal["lowest", "highest"] = "lowest"

    config: Skewness.Config

    def __init__(self, config: Skewness.Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._num = 0
        self._sum_C, self._mean_C, self._second_C, self._third_C = torch.zeros(
            4, context.num_channels, dtype=torch.float64
        )
        self._over_maps = config.over == "map"

    def update(self, batch: ScoringBatch) -> None:
        """Add one batch."""
        value_CNP = batch.feature_NCHW.flatten(2).transpose(0, 1)
        self._over_maps = self._over_maps and value_CNP.shape[2] > 1
        if self._over_maps:
            _, second_CN, third_CN = central_moments(value_CNP)
            each_CN = skewness(value_CNP.shape[2], second_CN, third_CN)
            self._sum_C = self._sum_C.to(each_CN.device) + each_CN.sum(1)
            self._num += value_CNP.shape[1]
        else:
            value_CM = value_CNP.flatten(1)
            self._move(value_CM.device)
            self._add(value_CM.shape[1], *central_moments(value_CM))

    def state(self) -> tuple[bool, int, Tensor, list[Tensor]]:
        """Kind of sum, number of maps or values, sum over maps, moments of all values."""
        self._move(torch.device("cpu"))
        moments = [self._mean_C, self._second_C, self._third_C]
        return self._over_maps, self._num, self._sum_C, moments

    def _move(self, device: torch.device) -> None:
        """Take the sums to a device."""
        self._sum_C, self._mean_C, self._second_C, self._third_C = (
            part.to(device) for part in (self._sum_C, self._mean_C, self._second_C, self._third_C)
        )

    def merge(self, state: tuple[bool, int, Tensor, list[Tensor]]) -> None:
        """Add them."""
        self._move(torch.device("cpu"))
        over_maps, num, sum_C, moments = state
        self._over_maps = self._over_maps and over_maps
        if self._over_maps:
            self._sum_C += sum_C
            self._num += num
        elif num:
            self._add(num, *moments)

    def _add(self, new: int, mean_C: Tensor, second_C: Tensor, third_C: Tensor) -> None:
        """Pébay 2008 (SAND2008-6212), eq. 1.4 and 1.5: moments of two sets from those of each."""
        old = self._num
        total = old + new
        delta_C = mean_C - self._mean_C
        self._third_C += (
            third_C
            + delta_C**3 * old * new * (old - new) / total**2
            + 3 * delta_C * (old * second_C - new * self._second_C) / total
        )
        self._second_C += second_C + delta_C**2 * old * new / total
        self._mean_C += delta_C * new / total
        self._num = total

    def one_pixel_note(self) -> str | None:
        """One value has no skewness."""
        if self.config.over == "all":
            return None
        return "skewness takes the values of all images together"

    def score(self) -> Tensor:
        """Skewness, or its negative where the highest are to go."""
        self._move(torch.device("cpu"))
        num = max(self._num, 1)
        if self._over_maps:
            score_C = self._sum_C / num
        else:
            score_C = skewness(num, self._second_C, self._third_C)
        return (-score_C if self.config.direction == "highest" else score_C).float()
