"""SNNL-Fair: remove the channels that separate the groups best.

Kong et al., MICCAI 2024 (arXiv 2405.08681): the soft nearest neighbour loss of a channel
(``snnl_loss.py``), averaged over batches of training images; the lowest are removed first.

Shape legend: N images, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from trainables.errors import UserError
from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.orders import Sampling, group_batches
from trainables.pruning.snnl_loss import PAPER_EPS, anchors, chance_level, rows_of, snnl_fair
from trainables.pruning.snnl_together import SAFE_TEMPERATURE, counted, weighted_loss
from trainables.registry import criteria

__all__ = ["PAPER", "PAPER_EPS", "SNNL", "chance_level", "snnl_fair"]


@criteria.register("snnl")
class SNNL(Criterion):
    """SNNL-Fair: the mean of the channel's loss over batches of training images."""

    name: ClassVar[str]
    VERSION = 3

    class Config(Criterion.Config):
        """Options; :data:`PAPER` names those that give the published computation."""

        name: Literal["snnl"] = "snnl"
        temperature: float = Field(1.0, gt=0)
        normalise: Literal["none", "chance"] = "chance"
        self_pair: bool = Field(
            False, description="count (i, i) in the numerator, as the released code does"
        )
        anchor_weight: Literal["image", "group"] = "image"
        direction: Literal["lowest", "highest"] = "lowest"
        batch_size: int = Field(128, ge=4)
        min_group: int = Field(
            2, ge=2, description="a group with fewer images is left out of the batch"
        )
        sampling: Sampling = "stratified"
        distance: Literal["cosine", "euclidean"] = "cosine"
        scale: Literal["none", "mean"] = Field(
            "none", description="distances divided by nothing, or by the channel's mean distance"
        )
        condition: Literal["none", "class"] = Field(
            "none", description="`class`: compare only images of the same diagnosis"
        )
        attributes: dict[str, float] = Field(
            {}, description="weight of each attribute; empty: the sweep's own alone"
        )

        @field_validator("attributes")
        @classmethod
        def _weights(cls, value: dict[str, float]) -> dict[str, float]:
            for name, weight in value.items():
                if not 0 < weight < float("inf"):
                    raise ValueError(f"weight of {name!r} must be positive but got {weight}")
            return value

        @model_validator(mode="after")
        def _published(self) -> SNNL.Config:
            if self.self_pair and self.condition == "class":
                raise ValueError("self_pair is the released code's, which has no condition: class")
            return self

    config: SNNL.Config

    def __init__(self, config: SNNL.Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._weight_of = config.attributes or {context.attribute: 1.0}
        self._sum_C = {
            name: torch.zeros(context.num_channels, dtype=torch.float64)
            for name in self._weight_of
        }
        self._num = dict.fromkeys(self._weight_of, 0)

    @classmethod
    def check_attributes(cls, config: Any, known: Sequence[str]) -> None:
        """Every attribute with a weight is one that the data keep."""
        for name in config.attributes:
            if name not in known:
                raise UserError(
                    f"snnl.attributes: the data have no attribute {name!r} "
                    f"(they have: {', '.join(known)}; data.further_attributes names more)"
                )

    @classmethod
    def scoring_order(
        cls, config: Any, group_N: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        """Batches of known-group rows; the last, partial one is dropped unless it is alone."""
        return group_batches(group_N, generator, config.batch_size, config.sampling)

    def update(self, batch: ScoringBatch) -> None:
        """Add one batch, weighted by its images; what is left with one group says nothing."""
        for name, group_N in self._groups(batch).items():
            label_N = batch.on_cpu.label_N if self.config.condition == "class" else None
            self._add(name, batch.feature_NCHW, group_N, label_N)

    def update_together(self, batch: ScoringBatch, sizes: Sequence[int]) -> None:
        """Batches of one size with the plain loss at once; on a CPU a single one as ever."""
        config = self.config
        is_plain = not config.self_pair and config.distance == "cosine" and config.scale == "none"
        is_large = len(sizes) > 1 or batch.feature_NCHW.device.type == "cuda"
        if not (is_plain and is_large and len(set(sizes)) == 1) or (
            config.temperature < SAFE_TEMPERATURE
        ):
            super().update_together(batch, sizes)
            return
        shape = (len(sizes), sizes[0])
        label_BN = batch.on_cpu.label_N.view(shape) if config.condition == "class" else None
        for name, group_N in self._groups(batch).items():
            images = counted(
                group_N.view(shape),
                label_BN,
                min_group=config.min_group,
                anchor_weight=config.anchor_weight,
                by_chance=config.normalise == "chance",
            )
            if not images.num_anchors:
                continue
            sum_C = weighted_loss(batch.feature_NCHW, images, config.temperature)
            self._sum_C[name] = self._sum_C[name].to(sum_C.device) + sum_C
            self._num[name] += images.num_anchors

    def _groups(self, batch: ScoringBatch) -> dict[str, Tensor]:
        """Attribute -> group of each image, on the CPU."""
        known = batch.on_cpu
        return {
            name: known.group_N if name == self.context.attribute else known.further[name]
            for name in self._weight_of
        }

    def _add(
        self, name: str, feature_NCHW: Tensor, group_N: Tensor, label_N: Tensor | None
    ) -> None:
        """Groups and classes are on the CPU."""
        # a group with too few images in this batch (of a class) is left out of it, not the batch
        cell_N = group_N
        if label_N is not None:
            cell_N = torch.where(group_N < 0, -1, label_N * (group_N.max() + 1) + group_N)
        large = torch.bincount(cell_N[cell_N >= 0], minlength=1) >= self.config.min_group
        row_N = torch.nonzero((cell_N >= 0) & large[cell_N.clamp(min=0)]).flatten()
        row_N = row_N[anchors(group_N[row_N], None if label_N is None else label_N[row_N])]
        if not len(row_N):
            return
        counts_N = torch.zeros(len(group_N), dtype=torch.bool)
        counts_N[row_N] = True
        feature_NCHW, group_N = rows_of(feature_NCHW, counts_N), group_N[row_N]
        label_N = None if label_N is None else label_N[row_N]
        weight = self.config.anchor_weight
        loss_C = snnl_fair(
            feature_NCHW,
            group_N,
            temperature=self.config.temperature,
            mode="paper" if self.config.self_pair else "corrected",
            anchor_weight=weight,
            distance=self.config.distance,
            scale=self.config.scale,
            label_N=label_N,
        )
        if self.config.normalise == "chance":
            loss_C = loss_C / chance_level(group_N, anchor_weight=weight, label_N=label_N)
        self._sum_C[name] = self._sum_C[name].to(loss_C.device) + loss_C.double() * len(group_N)
        self._num[name] += len(group_N)

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Sums and numbers of images of each attribute."""
        return {name: sum_C.cpu() for name, sum_C in self._sum_C.items()}, self._num

    def merge(self, state: tuple[dict[str, Tensor], dict[str, int]]) -> None:
        """Add them."""
        sum_C, num = state
        for name in self._weight_of:
            self._sum_C[name] = self._sum_C[name].cpu() + sum_C[name]
            self._num[name] += num[name]

    def one_pixel_note(self) -> str | None:
        """The cosine of two numbers is the product of their signs."""
        if self.config.distance == "euclidean":
            return None
        return (
            "snnl sees only their signs; larger images or an earlier layer tell channels apart "
            "better"
        )

    def score(self) -> Tensor:
        """Mean over batches, of several attributes the weighted sum; negated where the highest
        are to go.
        """
        of_class = " of one class" if self.config.condition == "class" else ""
        total_C = torch.zeros(self.context.num_channels, dtype=torch.float64)
        for name, weight in self._weight_of.items():
            if self._num[name] == 0:
                by = f" by {name}" if self.config.attributes else ""
                raise ScoringError(
                    f"snnl: no batch of {self.config.batch_size} holds two groups{by} of "
                    f"{self.config.min_group} images{of_class}"
                )
            total_C += weight * self._sum_C[name].cpu() / self._num[name]
        score_C = total_C.float()
        return -score_C if self.config.direction == "highest" else score_C


PAPER = {"normalise": "none", "self_pair": True, "sampling": "sequential"}
"""Options that give what the released code computes (method 1.2 to 1.5)."""
