"""SNNL-Fair: how well a channel separates the groups, by the soft nearest neighbour loss.

Kong et al., MICCAI 2024 (arXiv 2405.08681), after Frosst, Papernot and Hinton, ICML 2019 (arXiv
1902.01889), eq. 1 with the sensitive group in the place of the class. Low = an image's neighbours
share its group = the channel separates the groups = it is removed first.

Shape legend: N images, C channels, P = H * W positions, G groups.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.pruning.base import Criterion, ScoringContext, ScoringError
from trainables.registry import criteria

PAPER_EPS = 1e-9


def snnl_fair(
    feature_NCHW: Tensor,
    group_N: Tensor,
    *,
    temperature: float = 1.0,
    mode: Literal["corrected", "paper"] = "corrected",
    anchor_weight: Literal["image", "group"] = "image",
) -> Tensor:
    """Soft nearest neighbour loss of every channel in one batch, under cosine distance.

    ``corrected``, with ``w_ij = exp(-d_ij / T)``:
    ``-mean_i log(sum_{j != i, s_j = s_i} w_ij / sum_{j != i} w_ij)`` over the images that share
    their group with another image of the batch. ``paper``: what the released code computes, the
    pair (i, i) counted in the numerator only, plus 1e-9, over all images.

    Args:
        feature_NCHW: the channels' maps; the cosine with an all-zero map is 0.
        group_N: group of each image, integers; negative = unknown, such images are left out.
        temperature: T > 0.
        mode: see above.
        anchor_weight: ``image`` weighs all images alike, ``group`` all groups alike.

    Returns:
        score_C (float32, device of the features); NaN where fewer than two groups are present in
        ``corrected`` mode.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive but got {temperature}")
    known_N = group_N >= 0
    feature_NCHW, group_N = feature_NCHW[known_N], group_N[known_N]
    num = len(group_N)
    same_NN = group_N[:, None] == group_N[None, :]
    self_NN = torch.eye(num, dtype=torch.bool, device=group_N.device)
    partner_NN = same_NN & ~self_NN
    anchor_N = (
        partner_NN.any(1) if mode == "corrected" else torch.ones_like(group_N, dtype=torch.bool)
    )
    score_C = torch.full((feature_NCHW.shape[1],), torch.nan, device=feature_NCHW.device)
    if not bool(anchor_N.any()) or (mode == "corrected" and bool(same_NN.all())):
        return score_C

    logit_CNN = -_cosine_distance(feature_NCHW) / temperature
    outside = torch.tensor(-torch.inf, device=logit_CNN.device)
    below_CN = torch.where(self_NN, outside, logit_CNN).logsumexp(2)
    if mode == "paper":
        exp_CNN = logit_CNN.exp()
        above_CN = torch.log(torch.where(partner_NN, exp_CNN, 0).sum(2) + 1 + PAPER_EPS)
    else:
        above_CN = torch.where(partner_NN, logit_CNN, outside).logsumexp(2)
    loss_CN = (below_CN - above_CN)[:, anchor_N]
    return loss_CN @ _anchor_weights(group_N[anchor_N], anchor_weight).to(loss_CN.dtype)


def chance_level(group_N: Tensor, *, anchor_weight: Literal["image", "group"] = "image") -> float:
    """What ``snnl_fair`` (corrected) gives a channel that knows nothing of the group.

    ``c = -(1/b') sum_g n_g log((n_g - 1) / (b - 1))`` over groups with n_g >= 2 (b' images);
    all-constant channels score exactly this.
    """
    group_N = group_N[group_N >= 0]
    num_NN = (group_N[:, None] == group_N[None, :]).sum(1)
    anchor_N = num_NN >= 2
    level_N = -torch.log((num_NN[anchor_N] - 1).double() / (len(group_N) - 1))
    return float(level_N @ _anchor_weights(group_N[anchor_N], anchor_weight).double())


def _anchor_weights(group_N: Tensor, anchor_weight: str) -> Tensor:
    """Weights of the anchors, summing to one."""
    if anchor_weight == "image":
        return torch.full((len(group_N),), 1 / max(len(group_N), 1), device=group_N.device)
    _, inverse, counts = torch.unique(group_N, return_inverse=True, return_counts=True)
    return 1 / (counts[inverse] * len(counts)).float()


def _cosine_distance(feature_NCHW: Tensor) -> Tensor:
    """1 - cosine between the flattened maps of every pair of images, per channel: distance_CNN."""
    z_CNP = feature_NCHW.float().flatten(2).transpose(0, 1)
    norm_CN1 = z_CNP.norm(dim=2, keepdim=True)
    unit_CNP = z_CNP / torch.where(norm_CN1 > 0, norm_CN1, 1)
    return 1 - unit_CNP @ unit_CNP.transpose(1, 2)


@criteria.register("snnl")
class SNNL(Criterion):
    """SNNL-Fair: the mean of the channel's loss over batches of training images."""

    name: ClassVar[str]
    VERSION = 2
    uses_maps = True

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
        sampling: Literal["stratified", "shuffled", "sequential"] = "stratified"

    config: SNNL.Config

    def __init__(self, config: SNNL.Config, context: ScoringContext) -> None:
        super().__init__(config, context)
        self._sum_C = torch.zeros(context.num_channels, dtype=torch.float64)
        self._weight = 0.0

    @classmethod
    def scoring_order(
        cls,
        config: Any,
        group_N: Tensor,
        generator: torch.Generator,
    ) -> list[Tensor]:
        """Batches of known-group rows; ``stratified`` gives each batch the groups' overall shares.

        The last, partial batch is dropped unless it is the only one.
        """
        rows = torch.nonzero(group_N >= 0).flatten()
        if config.sampling == "shuffled":
            rows = rows[torch.randperm(len(rows), generator=generator)]
        elif config.sampling == "stratified":
            place = torch.empty(len(rows), dtype=torch.float64)
            for group in torch.unique(group_N[rows]).tolist():
                members = torch.nonzero(group_N[rows] == group).flatten()
                rank = torch.randperm(len(members), generator=generator).double()
                place[members] = (rank + 0.5) / len(members)
            rows = rows[torch.sort(place, stable=True).indices]
        batches = list(rows.split(config.batch_size))
        if len(batches) > 1 and len(batches[-1]) < config.batch_size:
            batches.pop()
        return batches

    def update(self, feature_NCHW: Tensor, group_N: Tensor) -> None:
        """Add one batch, weighted by its images; what is left with one group says nothing."""
        counts = torch.bincount(group_N, minlength=self.context.num_groups)
        # a group with too few images in this batch is left out of it, not the batch
        large = counts >= self.config.min_group
        if int(large.sum()) < 2:
            return
        kept = large[group_N]
        feature_NCHW, group_N = feature_NCHW[kept], group_N[kept]
        loss_C = snnl_fair(
            feature_NCHW,
            group_N,
            temperature=self.config.temperature,
            mode="paper" if self.config.self_pair else "corrected",
            anchor_weight=self.config.anchor_weight,
        )
        if self.config.normalise == "chance":
            loss_C = loss_C / chance_level(group_N, anchor_weight=self.config.anchor_weight)
        self._sum_C += loss_C.double().cpu() * len(group_N)
        self._weight += len(group_N)

    def score(self) -> Tensor:
        """Mean over batches; negated where the highest are to go."""
        if self._weight == 0:
            raise ScoringError(
                f"snnl: no batch of {self.config.batch_size} holds two groups of "
                f"{self.config.min_group} images"
            )
        score_C = (self._sum_C / self._weight).float()
        return -score_C if self.config.direction == "highest" else score_C


PAPER = {"normalise": "none", "self_pair": True, "sampling": "sequential"}
"""Options that give what the released code computes (method 1.2 to 1.5)."""
