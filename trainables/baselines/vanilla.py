from typing import ClassVar, Literal

from torch import Tensor

from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.models.classifier import Classifier
from trainables.registry import baselines


@baselines.register("vanilla")
class Vanilla(Baseline):
    """Plain empirical risk minimisation: cross-entropy; ``training.sampling`` balances classes or
    groups.
    """

    name: ClassVar[str]
    plain_loss = True

    class Config(Baseline.Config):
        """No options beyond the recipe."""

        name: Literal["vanilla"] = "vanilla"

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """Mean cross-entropy."""
        return cross_entropy(model(batch.image_NCHW), batch.label_N)
