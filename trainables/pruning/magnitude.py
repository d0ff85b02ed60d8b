"""Shape legend: C channels."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion
from trainables.registry import criteria


@criteria.register("magnitude")
class Magnitude(Criterion):
    """Remove the channels whose filters are smallest (Li et al., ICLR 2017, section 3.1).

    The norm of the filter's weights, without bias; where channels of several convolutions go
    together (site ``group``), of all those filters taken as one vector. ``fold_norm`` multiplies
    each filter by what its BatchNorm multiplies the channel by at inference.
    """

    name: ClassVar[str]
    uses_group = False
    needs_features = False
    needs_weights = True

    class Config(Criterion.Config):
        """Which norm, and of what."""

        name: Literal["magnitude"] = "magnitude"
        norm: Literal["l1", "l2"] = "l1"
        fold_norm: bool = False

    config: Magnitude.Config

    def score(self) -> Tensor:
        """The norm of each channel's filters."""
        power = 1 if self.config.norm == "l1" else 2
        total_C = torch.zeros(self.context.num_channels, dtype=torch.float64)
        for parameter in self.context.weights:
            if parameter.role == "filter":
                part_C = parameter.per_channel(parameter.value.detach().float().abs() ** power)
                if self.config.fold_norm and parameter.scale_C is not None:
                    part_C *= parameter.scale_C.double().cpu() ** power
                total_C += part_C
        return (total_C if power == 1 else total_C.sqrt()).float()
