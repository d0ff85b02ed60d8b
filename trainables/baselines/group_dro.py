"""Shape legend: N images, K classes, D groups, G cells (groups, or classes x groups)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trainables.baselines.base import Baseline, Batch
from trainables.models.classifier import Classifier
from trainables.registry import baselines


class CellWeights(nn.Module):
    """The weights q of the cells as a buffer, so that they are stored with the model.

    Kept as logarithms: over a long training the weight of an easy cell falls below the smallest
    float32, from where it could never rise again.
    """

    log_weight_G: Tensor

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        uniform_G = torch.full((num_cells,), 1 / num_cells)
        self.register_buffer("log_weight_G", uniform_G.log())

    @torch.no_grad()
    def update(self, loss_G: Tensor, step_size: float) -> Tensor:
        """``q_g <- q_g exp(step_size * loss_g)``, normalised; returns q (float32)."""
        raised_G = self.log_weight_G + step_size * loss_G
        self.log_weight_G.copy_(raised_G - raised_G.logsumexp(0))
        return self.log_weight_G.exp()


def cell_losses(loss_N: Tensor, cell_N: Tensor, num_cells: int) -> Tensor:
    """Mean loss of each cell's images (G,); 0 for a cell without any; negative cells are ignored.
    """
    member_NG = (cell_N[:, None] == torch.arange(num_cells, device=cell_N.device)).float()
    return (loss_N[:, None] * member_NG).sum(0) / member_NG.sum(0).clamp(min=1)


@baselines.register("group_dro")
class GroupDRO(Baseline):
    """Group distributionally robust optimisation: descend the loss of the worst-off groups.

    Sagawa et al., ICLR 2020, algorithm 1, with a batch in the place of one example. Each step
    raises the weights, ``q_g <- q_g exp(eta * loss_g)``, then descends ``sum_g q_g loss_g``. A
    group that a batch lacks has loss 0 there: its weight changes by normalisation only. Images of
    unknown group belong to no group and are left out. Fine-tuning goes on from the weights q that
    training ended with.
    """

    name: ClassVar[str]
    couples_images = True

    class Config(Baseline.Config):
        """Which groups, and how fast their weights move."""

        name: Literal["group_dro"] = "group_dro"
        groups: Literal["group", "class_group"] = Field(
            "group", description="one weight a group, or one a class in a group"
        )
        eta: float = Field(0.01, gt=0, description="step size of the weights")

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """Losses are compared between groups."""
        return True

    @property
    def num_cells(self) -> int:
        """How many weights there are."""
        classes = self.task.num_classes if self.config.groups == "class_group" else 1
        return classes * self.task.num_groups

    def extra_modules(self, num_features: int) -> nn.ModuleDict:
        """The weights; nothing that is trained by gradients."""
        return nn.ModuleDict({"weights": CellWeights(self.num_cells)})

    def cells(self, batch: Batch) -> Tensor:
        """Cell of each image: its group, or ``label * D + group``; -1 where it is unknown."""
        if self.config.groups == "group":
            return batch.group_N
        cell_N = batch.label_N * self.task.num_groups + batch.group_N
        return cell_N.where(batch.group_N >= 0, -1)

    def step(
        self,
        model: Classifier,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        autocast: torch.autocast,
    ) -> dict[str, Tensor]:
        """One update of the weights, then one of the net."""
        weights = model.extra["weights"]
        assert isinstance(weights, CellWeights)
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits_NK = model(batch.image_NCHW)
        loss_N = functional.cross_entropy(logits_NK.float(), batch.label_N, reduction="none")
        loss_G = cell_losses(loss_N, self.cells(batch), self.num_cells)
        weight_G = weights.update(loss_G.detach(), self.config.eta)
        loss = (weight_G * loss_G).sum()
        loss.backward()
        optimizer.step()
        return {
            "loss": loss.detach(),
            "class_loss": loss_N.detach().mean(),
            "worst_loss": loss_G.detach().max(),
            "largest_weight": weight_G.max(),
        }
