"""Shape legend: N images, K classes."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainables.baselines.base import Baseline, Batch
from trainables.models.classifier import Classifier
from trainables.registry import baselines


@baselines.register("label_smoothing")
class LabelSmoothing(Baseline):
    """Cross-entropy against ``(1 - epsilon) onehot(y) + epsilon / K``.

    Szegedy et al., CVPR 2016 (arXiv 1512.00567), section 7. It reads no groups.
    """

    name: ClassVar[str]

    class Config(Baseline.Config):
        """How much of the target is spread over all classes."""

        name: Literal["label_smoothing"] = "label_smoothing"
        epsilon: float = Field(0.1, ge=0, lt=1)

    @classmethod
    def loss_is_plain(cls, config: Any) -> bool:
        """Without smoothing it is cross-entropy."""
        return bool(config.epsilon == 0)

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """The mean over the batch, in float32 whatever the autocast type."""
        logits_NK = self.logits(model, batch.image_NCHW, batch.group_N)
        return functional.cross_entropy(
            logits_NK.float(), batch.label_N, label_smoothing=self.config.epsilon
        )
