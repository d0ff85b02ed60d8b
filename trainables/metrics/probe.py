"""Linear probe: how well frozen features tell the sensitive group (Alain and Bengio 2016).

Shape legend: N samples, F features, D groups.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def fit_probe(
    feature_NF: Tensor, group_N: Tensor, num_groups: int, *, l2: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression by full-batch L-BFGS; weights (D, F) and biases (D,).

    Minimises ``sum_i w_i * CE_i + l2/2 * |weights|^2`` with w_i = N / (D * count of i's group), so
    that all groups weigh alike; biases are not penalised. That is scikit-learn's
    ``LogisticRegression(C=1/l2, class_weight="balanced")`` for three or more groups; for two its
    single vector is the difference of ours, and its C is 2/l2.

    Args:
        feature_NF: features, used as they are.
        group_N: group of each sample in [0, D).
        num_groups: D.
        l2: strength of the penalty, above 0.

    Raises:
        ValueError: ``l2`` is not positive, or a group has no sample.
    """
    if not l2 > 0:
        raise ValueError(f"l2 must be above 0 but got {l2}")
    count_D = torch.bincount(group_N, minlength=num_groups)
    if len(count_D) > num_groups or int(count_D.min()) == 0:
        raise ValueError(f"each of {num_groups} groups needs a sample but they have {count_D}")
    feature_NF = feature_NF.double()
    weight_N = (len(group_N) / (num_groups * count_D.double()))[group_N]
    zeros = feature_NF.new_zeros
    weight_DF = zeros(num_groups, feature_NF.shape[1]).requires_grad_()
    bias_D = zeros(num_groups).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_DF, bias_D], max_iter=1000, tolerance_grad=1e-8, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss_N = functional.cross_entropy(
            feature_NF @ weight_DF.T + bias_D, group_N, reduction="none"
        )
        loss = (weight_N * loss_N).sum() + l2 / 2 * weight_DF.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight_DF.detach(), bias_D.detach()


def balanced_accuracy(predicted_N: Tensor, group_N: Tensor) -> float:
    """Mean recall over the groups that occur in ``group_N``."""
    recalls = [(predicted_N[group_N == g] == g).double().mean() for g in group_N.unique()]
    return float(torch.stack(recalls).mean())


def group_predictability(
    feature_NF: Tensor,
    group_N: Tensor,
    held_out_NF: Tensor,
    held_out_group_N: Tensor,
    num_groups: int,
    *,
    l2: float = 1.0,
) -> float:
    """Balanced accuracy, on held-out samples, of a linear probe for the group; chance is 1/D.

    Features are standardised by the mean and standard deviation of the samples that the probe is
    fitted on. Where group and class go together, a feature of the class tells something of the
    group as well: compare on samples in which they are independent. Samples of unknown group (-1)
    are left out of both sets.

    Raises:
        ValueError: a group has no sample to fit on, or none of the held-out groups is known.
    """
    known_N, held_known_N = group_N >= 0, held_out_group_N >= 0
    if not bool(held_known_N.any()):
        raise ValueError("no held-out sample has a known group")
    feature_NF = feature_NF[known_N].double()
    mean_F, std_F = feature_NF.mean(0), feature_NF.std(0, correction=0)
    std_F = std_F.where(std_F > 0, 1.0)
    weight_DF, bias_D = fit_probe(
        (feature_NF - mean_F) / std_F, group_N[known_N], num_groups, l2=l2
    )
    held_out_NF = (held_out_NF[held_known_N].double() - mean_F) / std_F
    predicted_N = (held_out_NF @ weight_DF.T + bias_D).argmax(1)
    return balanced_accuracy(predicted_N, held_out_group_N[held_known_N])
