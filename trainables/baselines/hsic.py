from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trainables.baselines.base import Batch
from trainables.baselines.stratified_term import StratifiedTerm
from trainables.metrics.kernels import (
    MIN_HSIC,
    full_precision,
    hsic_by_stratum,
    rbf_by_stratum,
)
from trainables.registry import baselines


@baselines.register("hsic")
class HSIC(StratifiedTerm):
    """Features independent of the group within each class: CE + strength * sum_c HSIC_u(f, s | c).

    HSIC_u is the unbiased estimate (Song et al. 2012) between the features and the one-hot
    group, both with RBF kernels on L2-normalised rows whose bandwidth is the mean squared distance
    of that class in that batch. Quadrianto et al. 2019 proposed HSIC for this; the term here is
    the one that compared methods use (arXiv 2405.08681), with diagonals that are really zero.
    """

    name: ClassVar[str]

    class Config(StratifiedTerm.Config):
        """How strong, and within what the features are compared."""

        name: Literal["hsic"] = "hsic"
        strength: float = Field(0.5, ge=0)
        min_group: int = Field(
            MIN_HSIC, ge=MIN_HSIC, description="least images of a class in a batch, groups known"
        )

    def term(self, feature_NF: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum over strata of at least ``min_group`` images and two groups; may be below 0."""
        with full_precision(feature_NF):
            member_NS, group_NG = self.strata(batch)
            num_groups_S = (member_NS.T @ group_NG > 0).sum(1)
            used_S = (member_NS.sum(0) >= self.config.min_group) & (num_groups_S >= 2)
            used_NS = member_NS * used_S
            feature_NN = rbf_by_stratum(feature_NF, used_NS)
            group_NN = rbf_by_stratum(group_NG, used_NS)
            return hsic_by_stratum(feature_NN, group_NN, used_NS).sum(), used_NS.sum()
