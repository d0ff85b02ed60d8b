"""Shape legend: N images, K classes, D groups (domains)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from trainables.baselines.base import Baseline, Batch, Task
from trainables.models.classifier import Classifier
from trainables.registry import baselines


@baselines.register("domain_independent")
class DomainIndependent(Baseline):
    """One classifier a group on shared features, combined at inference.

    Wang et al., CVPR 2020, section 4.4. The head's D * K outputs are D slices of K logits; an
    image trains only the slice of its own group (its softmax runs within the slice), and an image
    of unknown group none. Inference: ``sum_out`` adds the slices' logits (the group is not
    needed), ``mean_probability`` averages their probabilities and returns the logarithm, ``known``
    takes the slice of the image's group and, where that is unknown, ``sum_out``.
    """

    name: ClassVar[str]

    class Config(Baseline.Config):
        """How the groups' classifiers become one."""

        name: Literal["domain_independent"] = "domain_independent"
        inference: Literal["sum_out", "known", "mean_probability"] = "sum_out"

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        self.needs_group_at_inference = config.inference == "known"

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """The group chooses the slice that is trained."""
        return True

    def num_outputs(self) -> int:
        """K logits a group."""
        return self.task.num_groups * self.task.num_classes

    def slices(self, output_NO: Tensor) -> Tensor:
        """The head's outputs (N, D * K) as float32 logits (N, D, K)."""
        return output_NO.float().unflatten(1, (self.task.num_groups, self.task.num_classes))

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """Mean cross-entropy of each image in its group's slice, over images of known group."""
        known_N = batch.group_N >= 0
        own_NK = _own_slice(self.slices(model(batch.image_NCHW)), batch.group_N)
        loss_N = functional.cross_entropy(own_NK, batch.label_N, reduction="none")
        return (loss_N * known_N).sum() / known_N.sum().clamp(min=1)

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        """Class logits (N, K) by ``inference``."""
        logits_NDK = self.slices(model(image_NCHW))
        if self.config.inference == "mean_probability":
            log_p_NDK = functional.log_softmax(logits_NDK, dim=2)
            return log_p_NDK.logsumexp(1) - math.log(self.task.num_groups)
        sum_NK = logits_NDK.sum(1)
        if self.config.inference == "sum_out":
            return sum_NK
        return _own_slice(logits_NDK, group_N).where(group_N[:, None] >= 0, sum_NK)


def _own_slice(logits_NDK: Tensor, group_N: Tensor) -> Tensor:
    """Logits (N, K) of each image's own group; of the first group where it is unknown."""
    index_N11 = group_N.clamp(min=0)[:, None, None]
    return logits_NDK.take_along_dim(index_N11, dim=1).squeeze(1)
