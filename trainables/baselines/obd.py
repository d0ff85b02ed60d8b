from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from trainables.baselines.weight_pruning import WeightPruning
from trainables.registry import baselines

if TYPE_CHECKING:
    from trainables.deriving import TrainingImages


@baselines.register("obd")
class OptimalBrainDamage(WeightPruning):
    """Zero the weights whose loss is felt least, whoever the images show.

    LeCun, Denker and Solla, NeurIPS 1989: saliency ``1/2 h_jj theta_j^2`` with the curvature of
    all images together, also those of unknown group.
    """

    name: ClassVar[str]

    class Config(WeightPruning.Config):
        """The options of weight pruning."""

        name: Literal["obd"] = "obd"

    def stratum_weights(self, images: TrainingImages) -> Tensor:
        """One weight: all images count alike."""
        return torch.ones(1)

    def strata(self, group_N: Tensor) -> Tensor:
        """All images in one stratum."""
        return torch.zeros_like(group_N)
