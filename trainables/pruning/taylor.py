"""Shape legend: N images, C channels, H height, W width."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext
from trainables.registry import criteria


@criteria.register("taylor")
class Taylor(Criterion):
    """Remove the channels without which the loss changes least, to first order.

    Molchanov et al., ICLR 2017 (arXiv 1611.06440), eq. 8: the mean over images of
    ``|sum over positions of activation x gradient|``, the gradient being that of the image's own
    cross-entropy. Summed over positions instead of averaged, which is the same to a factor within
    a layer, and is the loss change itself when layers are compared.
    """

    name: ClassVar[str]
    uses_group = False
    sums_over_images = True
    needs_gradients = True

    class Config(Criterion.Config):
        """No options."""

        name: Literal["taylor"] = "taylor"

    def __init__(self, config: Taylor.Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._sum_C = torch.zeros(context.num_channels, dtype=torch.float64)
        self._num = 0

    def update(self, batch: ScoringBatch) -> None:
        """Add one batch."""
        assert batch.gradient_NCHW is not None
        change_NC = (batch.feature_NCHW * batch.gradient_NCHW).sum((2, 3))
        self._sum_C = self._sum_C.to(change_NC.device) + change_NC.abs().double().sum(0)
        self._num += len(change_NC)

    def state(self) -> tuple[Tensor, int]:
        """Sum and number of images."""
        return self._sum_C.cpu(), self._num

    def merge(self, state: tuple[Tensor, int]) -> None:
        """Add them."""
        self._sum_C = self._sum_C.cpu() + state[0]
        self._num += state[1]

    def score(self) -> Tensor:
        """Mean over images."""
        return (self._sum_C.cpu() / max(self._num, 1)).float()
