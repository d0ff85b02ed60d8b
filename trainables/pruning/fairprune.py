"""Shape legend: G groups."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from trainables.baselines.fairprune import BETA
from trainables.errors import UserError
from trainables.pruning.obd import ChannelSaliency
from trainables.pruning.strata import group_weights
from trainables.registry import criteria


@criteria.register("fairprune")
class FairPruneChannels(ChannelSaliency):
    """Remove the channels that matter little to the worse-served group, much to the better-served.

    Wu et al., MICCAI 2022, with the saliency ``1/2 theta_j^2 (h_jj^unprivileged - beta
    h_jj^privileged)`` summed over a channel's coupled parameters instead of ranked weight by
    weight; options mean what they do for the baseline of the same name. More than two groups:
    ``sum_g w_g h^g`` with ``w = -beta`` for the privileged group and an equal part of 1 for each
    other, or the weights given.
    """

    name: ClassVar[str]

    class Config(ChannelSaliency.Config):
        """Whose curvature counts how much."""

        name: Literal["fairprune"] = "fairprune"
        beta: float = Field(BETA, ge=0, allow_inf_nan=False)
        privileged: str = Field(
            "auto",
            description="name of the better-served group; `auto`: the one with the higher "
            "validation macro F1 of the trained baseline the chain starts from",
        )
        group_weights: dict[str, FiniteFloat] = Field(
            {}, description="weight of each group's curvature, in the place of beta"
        )
        balance: bool = Field(True, description="equally many images of each group")

        @model_validator(mode="after")
        def _one_way(self) -> FairPruneChannels.Config:
            if self.group_weights and (self.privileged != "auto" or self.beta != BETA):
                raise ValueError("give either group_weights, or beta and privileged")
            return self

    @classmethod
    def check_groups(cls, config: Any, groups: Sequence[str]) -> None:
        """Names of groups exist, and there are two of them to compare."""
        for name in config.group_weights:
            _check_name(name, "group_weights", groups)
        if config.group_weights:
            missing = [name for name in groups if name not in config.group_weights]
            if missing:
                raise UserError(f"fairprune.group_weights: no weight for group {missing[0]!r}")
        elif len(groups) < 2:
            raise UserError(f"fairprune needs at least two groups but got {len(groups)}")
        elif config.privileged != "auto":
            _check_name(config.privileged, "privileged", groups)

    def weight_by_group(self) -> Tensor:
        """Weights by name, or from beta and the privileged group."""
        given, groups = self.config.group_weights, self.context.groups
        if given:
            return torch.tensor([given[name] for name in groups])
        if self.config.privileged == "auto":
            assert self.context.better_served is not None
            privileged = self.context.better_served()
        else:
            privileged = groups.index(self.config.privileged)
        return group_weights(self.context.num_groups, privileged, self.config.beta)


def _check_name(name: str, option: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"fairprune.{option}: unknown group {name!r}{hint} (groups: {', '.join(known)})"
        )
