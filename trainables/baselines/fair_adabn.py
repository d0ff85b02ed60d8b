"""Shape legend: N images, K classes, D groups."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trainables.baselines.base import Baseline, Batch
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.group_batch_norm import split_norms
from trainables.registry import baselines


@baselines.register("fair_adabn")
class FairAdaBN(Baseline):
    """A BatchNorm for each group, all else shared, and a loss on statistical disparity.

    Xu et al., MICCAI 2023 (arXiv 2303.08325): ``CE + strength * L_SD``. Needs each image's group
    to predict, and a net with BatchNorm. Images of unknown group are part of neither loss nor of
    any statistics; their logits are those of group 0 and count in no metric. A group with fewer
    than two images in a batch is normalised by its running statistics there, so let the sampling
    balance the groups (``sampling: group``, as published) where one is rare.
    """

    name: ClassVar[str]
    couples_images = True
    needs_group_at_inference = True

    class Config(Baseline.Config):
        """How strong the disparity loss is."""

        name: Literal["fair_adabn"] = "fair_adabn"
        strength: float = Field(1.0, ge=0, description="weight of the statistical disparity loss")

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """Groups choose the norms, with any strength."""
        return True

    @classmethod
    def check_net(cls, config: Any, net: nn.Module) -> None:
        """The net must have BatchNorm.

        Raises:
            UserError: it has none.
        """
        if not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
            kind = type(net).__name__
            raise UserError(
                f"baseline {cls.name} needs a net with BatchNorm but this {kind} has none: use "
                "backbone resnet18 or vgg11_bn"
            )

    def adapt(self, model: Classifier) -> None:
        """Put a BatchNorm for each group in the place of every BatchNorm.

        Raises:
            UserError: the net has none.
        """
        self.check_net(self.config, model.net)
        split_norms(model.net, self.task.num_groups)

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        """Cross-entropy of the images of known group, and the disparity between the groups."""
        logits_NK = self.logits(model, batch.image_NCHW, batch.group_N).float()
        disparity = statistical_disparity(logits_NK, batch.group_N, self.task.num_groups)
        return _known_cross_entropy(logits_NK, batch) + self.config.strength * disparity

    def plain_cross_entropy(self, model: Classifier, batch: Batch) -> Tensor:
        """Cross-entropy of the images of known group."""
        logits_NK = self.logits(model, batch.image_NCHW, batch.group_N)
        return _known_cross_entropy(logits_NK, batch)

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        """Logits (N, K), each image normalised as its own group's."""
        return model(image_NCHW, group_N)


def statistical_disparity(logits_NK: Tensor, group_N: Tensor, num_groups: int) -> Tensor:
    """``L_SD``: squared differences between the groups' mean predictions, over all classes.

    ``sum_c (P(yhat = c | s = 0) - P(yhat = c | s = 1))^2`` (Xu et al. 2023, eq. 3), summed over
    the pairs of groups that the batch holds. P is the mean softmax of the group's images: counts
    of the predicted classes, as in the released code, have no gradient. In float32; images of
    unknown group (negative) are left out; 0 where the batch has fewer than two groups.
    """
    member_DN = (group_N == torch.arange(num_groups, device=group_N.device)[:, None]).float()
    num_D1 = member_DN.sum(1, keepdim=True)
    # a sum, not a product of matrices, which autocast would round to bf16
    mean_DK = (member_DN[..., None] * logits_NK.float().softmax(1)).sum(1) / num_D1.clamp(min=1)
    square_DD = (mean_DK[:, None] - mean_DK[None, :]).square().sum(2)
    present_D1 = num_D1 > 0
    # every pair is there twice
    return (square_DD * (present_D1 & present_D1.T)).sum() / 2


def _known_cross_entropy(logits_NK: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy over the images of known group, in float32; 0 where there are none."""
    loss_N = functional.cross_entropy(logits_NK.float(), batch.label_N, reduction="none")
    known_N = batch.group_N >= 0
    return (loss_N * known_N).sum() / known_N.sum().clamp(min=1)
