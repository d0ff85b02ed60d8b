"""Shape legend: N images, C channels, H height, W width."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.registry import criteria


@criteria.register("apoz")
class APoZ(Criterion):
    """Remove the channels that are most often silent.

    Hu et al. 2016, Network Trimming (arXiv 1607.03250), eq. 1: the average percentage of zeros
    after the ReLU. The score is its complement, the share of positions at which the channel is
    positive, which is the same before and after a ReLU.
    """

    name: ClassVar[str]
    uses_group = False

    class Config(Criterion.Config):
        """No options."""

        name: Literal["apoz"] = "apoz"

    def __init__(self, config: Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._positive_C = torch.zeros(context.num_channels, dtype=torch.int64)
        self._num = 0

    def update(self, batch: ScoringBatch) -> None:
        """Count the positions of one batch."""
        feature_NCHW = batch.feature_NCHW
        self._positive_C += (feature_NCHW > 0).sum(dim=(0, 2, 3)).cpu()
        self._num += feature_NCHW[:, 0].numel()

    def score(self) -> Tensor:
        """The share of positive positions, 0 to 1."""
        if self._num == 0:
            raise ScoringError("apoz: no image was scored")
        return (self._positive_C.double() / self._num).float()
