"""Shape legend: N images, F features, D groups (domains)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.baselines.adversary import frozen, train_domain_head, uniform_confusion
from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.models.classifier import Classifier
from trainables.registry import baselines


@baselines.register("adv_conf")
class AdvConf(Baseline):
    """Uniform-confusion adversary: features on which a domain head cannot tell the groups apart.

    Alvi et al., ECCV workshops 2018, after Tzeng et al., ICCV 2015. Each step first trains the
    domain head alone, on the batch's detached features, then the net alone on
    ``CE + alpha * L_conf`` through the frozen head. So the two alternate by step, and the net has
    as many updates as in every other baseline. Images of unknown group train the class loss only.
    """

    name: ClassVar[str]
    couples_images = True
    VERSION = 2

    class Config(Baseline.Config):
        """How strong the confusion is, and how well the domain head keeps up."""

        name: Literal["adv_conf"] = "adv_conf"
        alpha: float = Field(1.0, gt=0, description="weight of the confusion loss")
        domain_steps: int = Field(
            20, ge=1, description="descents of the domain head before each update of the net"
        )

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """The domain head learns the groups."""
        return True

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """The domain head."""
        return nn.ModuleDict({"domain": nn.Linear(num_features, self.task.num_groups)})

    def feature_heads(self, model: Classifier) -> Sequence[nn.Linear]:
        """The domain head reads what the class head reads."""
        domain = model.extra["domain"]
        assert isinstance(domain, nn.Linear)
        return (domain,)

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """The domain head's update, then the net's; one forward pass.

        The head gets no gradient, so the optimiser leaves it as it is.
        """
        (domain,) = self.feature_heads(model)
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            feature_NF, logits_NK = model.forward_features(batch.image_NCHW)
        domain_loss = train_domain_head(
            domain, feature_NF.detach(), batch.group_N, self.config.domain_steps
        )
        with autocast:
            class_loss = cross_entropy(logits_NK, batch.label_N)
            confusion = uniform_confusion(frozen(domain, feature_NF), batch.group_N)
            loss = class_loss + self.config.alpha * confusion
        loss.backward()
        optimizer.step()
        return {
            "loss": loss.detach(),
            "class_loss": class_loss.detach(),
            "confusion_loss": confusion.detach(),
            "domain_loss": domain_loss,
        }
