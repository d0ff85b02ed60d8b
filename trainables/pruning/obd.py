"""Shape legend: C channels, G groups."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.baselines.weight_pruning import saliency
from trainables.pruning.base import Criterion
from trainables.pruning.curvature import Kind
from trainables.registry import criteria


class ChannelSaliency(Criterion):
    """Sum of a weight-by-weight saliency over everything that goes with a channel.

    ``sum_j 1/2 theta_j^2 sum_g w_g h_jj^g`` over the filter, its bias and BatchNorm and the
    columns that read the channel: what the weighted loss rises by when all of it is zero, without
    cross terms.
    """

    needs_features = False
    needs_weights = True
    needs_curvature = True
    balance: ClassVar[bool] = False

    class Config(Criterion.Config):
        """As in the baseline of the same name, which zeroes single weights."""

        curvature: Kind = "gauss_newton_mc"
        max_images: int = Field(1024, ge=1, description="training images the curvature is read of")

    def weight_by_group(self) -> Tensor | None:
        """w_g; None where all images count alike."""
        raise NotImplementedError

    def score(self) -> Tensor:
        """The sum over the channel's coupled parameters."""
        assert self.context.curvature is not None
        weight_G = self.weight_by_group()
        diagonal = self.context.curvature(
            self.config.curvature,
            self.config.max_images,
            grouped=weight_G is not None,
            balance=weight_G is not None and self.config.balance,
        )
        weight_G = torch.ones(1) if weight_G is None else weight_G
        total_C = torch.zeros(self.context.num_channels, dtype=torch.float64)
        for parameter in self.context.weights:
            value, own = {parameter.name: parameter.value.detach()}, diagonal[parameter.name]
            each = saliency(value, {parameter.name: own}, weight_G.to(own))
            total_C += parameter.per_channel(each[parameter.name])
        return total_C.float()


@criteria.register("obd")
class OptimalBrainDamageChannels(ChannelSaliency):
    """Remove the channels whose weights the loss feels least, whoever the images show.

    LeCun, Denker and Solla, NeurIPS 1989, section 2, summed over a channel's coupled parameters.
    """

    name: ClassVar[str]
    uses_group = False

    class Config(ChannelSaliency.Config):
        """How the curvature is read."""

        name: Literal["obd"] = "obd"

    def weight_by_group(self) -> None:
        """All images count alike, also those of unknown group."""
        return None
