from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion
from trainables.registry import criteria


@criteria.register("random")
class RandomChannels(Criterion):
    """Control arm: as many channels removed as in the treated arm, drawn at random."""

    name: ClassVar[str]
    uses_group = False
    is_control = True
    needs_features = False

    class Config(Criterion.Config):
        """No options."""

        name: Literal["random"] = "random"

    def score(self) -> Tensor:
        """A random permutation of 0..C-1 from the stream of this seed and iteration."""
        order = torch.randperm(self.context.num_channels, generator=self.context.generator)
        return order.float()
