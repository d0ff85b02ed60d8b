from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion
from trainables.registry import criteria


@criteria.register("none")
class NoPruning(Criterion):
    """Control arm: the same fine-tuning, no channel removed."""

    name: ClassVar[str]
    uses_group = False
    cuts = False
    is_control = True
    needs_features = False

    class Config(Criterion.Config):
        """No options."""

        name: Literal["none"] = "none"

    def score(self) -> Tensor:
        """All channels alike; nothing is removed."""
        return torch.zeros(self.context.num_channels)
