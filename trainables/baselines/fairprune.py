from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from trainables.baselines.base import Task
from trainables.baselines.weight_pruning import WeightPruning
from trainables.errors import UserError
from trainables.metrics.groups import group_scores
from trainables.pruning.base import ScoringError
from trainables.pruning.strata import group_weights
from trainables.registry import baselines

if TYPE_CHECKING:
    from trainables.deriving import TrainingImages

BETA = 0.33
"""Remembered of the original, not checked against it."""


@baselines.register("fairprune")
class FairPrune(WeightPruning):
    """Zero the weights that matter little to the worse-served group and much to the better-served.

    Wu et al., MICCAI 2022: saliency ``1/2 theta_j^2 (h_jj^unprivileged - beta h_jj^privileged)``,
    the lowest are zeroed. More than two groups: ``1/2 theta_j^2 sum_g w_g h_jj^g`` with
    ``w = -beta`` for the privileged group and an equal part of 1 for each other, or the weights
    given.
    """

    name: ClassVar[str]

    class Config(WeightPruning.Config):
        """Options beside those of weight pruning."""

        name: Literal["fairprune"] = "fairprune"
        beta: float = Field(BETA, ge=0, allow_inf_nan=False)
        privileged: str = Field(
            "auto",
            description="name of the better-served group; `auto`: the one with the higher "
            "validation macro F1 of the model that is pruned",
        )
        group_weights: dict[str, FiniteFloat] = Field(
            {}, description="weight of each group's curvature, in the place of beta"
        )
        balance: bool = Field(True, description="equally many images of each group")

        @model_validator(mode="after")
        def _one_way(self) -> FairPrune.Config:
            if self.group_weights and (self.privileged != "auto" or self.beta != BETA):
                raise ValueError("give either group_weights, or beta and privileged")
            return self

    config: FairPrune.Config

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        if config.group_weights:
            for name in config.group_weights:
                self._check_name(name, "group_weights")
            missing = [name for name in task.groups if name not in config.group_weights]
            if missing:
                raise UserError(f"fairprune.group_weights: no weight for group {missing[0]!r}")
        elif task.num_groups < 2:
            raise UserError(f"fairprune needs at least two groups but got {task.num_groups}")
        elif config.privileged != "auto":
            self._check_name(config.privileged, "privileged")

    @classmethod
    def reads_group(cls, config: Any) -> bool:
        """Always."""
        return True

    @property
    def balance(self) -> bool:
        """As configured."""
        return self.config.balance

    def strata(self, group_N: Tensor) -> Tensor:
        """The groups; images of unknown group are left out."""
        return group_N

    def stratum_weights(self, images: TrainingImages) -> Tensor:
        """Weights by name, or from beta and the privileged group."""
        given = self.config.group_weights
        if given:
            return torch.tensor([given[name] for name in self.task.groups])
        if self.config.privileged == "auto":
            privileged = self._better_served(images)
        else:
            privileged = self.task.groups.index(self.config.privileged)
        return group_weights(self.task.num_groups, privileged, self.config.beta)

    def _better_served(self, images: TrainingImages) -> int:
        """The group with the highest macro F1; of equal ones the first."""
        f1_G = group_scores(images.validation_counts()).f1_G
        if np.isnan(f1_G).all():
            raise ScoringError("fairprune: no validation image of a known group to compare F1 by")
        best = int(np.nanargmax(f1_G))
        names = self.task.groups or tuple(map(str, range(self.task.num_groups)))
        told = ", ".join(f"{name} {f1:.4f}" for name, f1 in zip(names, f1_G, strict=True))
        images.note(f"fairprune: privileged group is {names[best]} (validation macro F1: {told})")
        return best

    def _check_name(self, name: str, option: str) -> None:
        known = self.task.groups
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"fairprune.{option}: unknown group {name!r}{hint} (groups: {', '.join(known)})"
            )
