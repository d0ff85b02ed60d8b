"""Shape legend: N images, K classes, F features, D groups (domains)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.baselines.adversary import (
    domain_cross_entropy,
    frozen,
    ramp,
    reverse_gradient,
    train_domain_head,
)
from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.models.classifier import Classifier
from trainables.registry import baselines

MIN_NORM = 1e-5


@baselines.register("adv_rev")
class AdvRev(Baseline):
    """Adversary whose gradient is reversed, or projected out of the classifier's.

    ``reversal`` (Ganin et al., JMLR 2016, section 4.2): a domain head on the features, whose
    gradient reaches the net times ``-alpha * ramp(progress)``. ``projection`` (Zhang, Lemoine and
    Mitchell, AIES 2018, eq. 1): a domain head on the class logits; the net follows ``project`` of
    the two gradients, one parameter tensor at a time as in AIF360's ``AdversarialDebiasing`` (the
    equation leaves open over what the projection is taken; not over the whole gradient). Each step
    trains the head first, on the detached batch. Images of unknown group train the class loss
    only. Fine-tuning is a training of its own: the ramp begins anew.
    """

    name: ClassVar[str]
    couples_images = True
    VERSION = 2

    class Config(Baseline.Config):
        """Which form, how strong the adversary becomes, and how well it keeps up."""

        name: Literal["adv_rev"] = "adv_rev"
        form: Literal["reversal", "projection"] = "reversal"
        alpha: float = Field(1.0, gt=0, description="weight of the adversary's gradient")
        ramp: bool = Field(
            True, description="reversal only: the weight grows from 0 to alpha during training"
        )
        domain_steps: int = Field(
            20, ge=1, description="descents of the domain head before each update of the net"
        )

        def key_fields(self) -> dict[str, Any]:
            """``ramp`` does not matter in the projection form."""
            return super().key_fields() | ({"ramp": True} if self.form == "projection" else {})

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """The domain head learns the groups."""
        return True

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """The domain head, on the features or on the class logits."""
        num_inputs = num_features if self.config.form == "reversal" else self.task.num_classes
        return nn.ModuleDict({"domain": nn.Linear(num_inputs, self.task.num_groups)})

    def feature_heads(self, model: Classifier) -> Sequence[nn.Linear]:
        """The domain head where it reads the features."""
        return (_domain(model),) if self.config.form == "reversal" else ()

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """The domain head's update, then the net's; one forward pass.

        ``loss`` is the class loss: of the other the net is meant to have as much as it can.
        """
        config, domain = self.config, _domain(model)
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            feature_NF, logits_NK = model.forward_features(batch.image_NCHW)
        seen = feature_NF if config.form == "reversal" else logits_NK
        train_domain_head(domain, seen.detach(), batch.group_N, config.domain_steps)
        with autocast:
            class_loss = cross_entropy(logits_NK, batch.label_N)
            if config.form == "reversal":
                strength = config.alpha * (ramp(batch.progress) if config.ramp else 1.0)
                seen = reverse_gradient(seen, strength)
            domain_loss = domain_cross_entropy(frozen(domain, seen), batch.group_N)
        if config.form == "reversal":
            (class_loss + domain_loss).backward()
        else:
            _projected_backward(model.net, class_loss, domain_loss, config.alpha)
        optimizer.step()
        return {
            "loss": class_loss.detach(),
            "domain_loss": domain_loss.detach(),
        }


def project(class_grad: Tensor, domain_grad: Tensor, alpha: float) -> Tensor:
    """Gradient of one parameter tensor: ``g_y - alpha g_s - proj_{g_s} g_y`` (Zhang 2018, eq. 1).

    Without the part of ``g_y`` along ``g_s``, descending the class loss cannot help the adversary.
    The projection is skipped where the norm of ``g_s`` is at most 1e-5: its direction is noise.
    """
    square = domain_grad.square().sum()
    along = torch.where(square.sqrt() > MIN_NORM, (class_grad * domain_grad).sum() / square, 0.0)
    return class_grad - (alpha + along) * domain_grad


def _projected_backward(
    net: nn.Module, class_loss: Tensor, domain_loss: Tensor, alpha: float
) -> None:
    """What ``backward`` does, with the net's two gradients projected tensor by tensor."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    class_grads = torch.autograd.grad(class_loss, parameters, retain_graph=True)
    domain_grads = torch.autograd.grad(domain_loss, parameters)
    for parameter, g_y, g_s in zip(parameters, class_grads, domain_grads, strict=True):
        parameter.grad = project(g_y, g_s, alpha)


def _domain(model: Classifier) -> nn.Linear:
    domain = model.extra["domain"]
    assert isinstance(domain, nn.Linear)
    return domain
