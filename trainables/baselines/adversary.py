"""What the two adversarial baselines share: how the domain head is trained, and what the net is
told of it.

Images of unknown group (-1) are part of neither. Selecting rows by a mask would wait for a GPU,
so their terms are zero instead.

Shape legend: N images, F inputs of the head, D groups (domains).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RIDGE = 0.003
"""Penalty of the domain head's weights, relative to the mean square of its centred inputs."""


def domain_cross_entropy(logits_ND: Tensor, group_N: Tensor) -> Tensor:
    """Mean cross-entropy of the group over the images of known group, in float32; 0 with none."""
    total = functional.cross_entropy(logits_ND.float(), group_N, ignore_index=-1, reduction="sum")
    return total / _num_known(group_N)


def uniform_confusion(logits_ND: Tensor, group_N: Tensor) -> Tensor:
    """Mean cross-entropy between the uniform distribution and the domain head's softmax.

    ``-mean_i (1/D) sum_d log p_d`` over the images of known group (Tzeng et al., ICCV 2015, eq. 3;
    Alvi et al., ECCV workshops 2018, eq. 2), in float32; log D where the head knows nothing, 0
    where no group is known.
    """
    loss_N = -functional.log_softmax(logits_ND.float(), dim=1).mean(1)
    return (loss_N * (group_N >= 0)).sum() / _num_known(group_N)


@torch.no_grad()
def train_domain_head(
    head: nn.Linear, input_NF: Tensor, group_N: Tensor, num_steps: int
) -> Tensor:
    """Bring the head towards its best response to one batch, in place; its loss before that.

    It descends ``CE + RIDGE/2 * mean_i |x_i|^2 * |W|^2`` over the images of known group, from
    where the last batch left it, by Nesterov's accelerated gradient with steps 1 / L; the inputs
    are centred on the batch, the bias makes up for it. No rate has to be chosen, no state is kept
    between batches, and the scale and number of the inputs hardly matter.

    Why not the optimiser of the net: an adversary that is no faster than the net is outrun. The
    net then moves from one encoding of the group to the next, the domain loss grows without bound
    (into NaN on a ResNet-18 with momentum 0.9) and the features tell the group as well as before.
    The ridge keeps a head on many features from learning a small batch by heart.

    L bounds the curvature: the Hessian of the cross-entropy is at most
    ``1/2 mean_i (1, x_i)(1, x_i)^T`` (Boehning, 1992), which for centred inputs is 1/2 for the
    bias and at most ``1/2 mean_i |x_i|^2`` for the weights (1 is added, for inputs near zero).
    """
    share_N1 = (group_N >= 0)[:, None] / _num_known(group_N)
    input_NF = input_NF.to(head.weight.dtype)
    mean_F = (input_NF * share_N1).sum(0)
    input_NF = input_NF - mean_F
    power = (input_NF.square().sum(1, keepdim=True) * share_N1).sum()
    rate, ridge = 1 / ((1 + power) / 2 + RIDGE * power), RIDGE * power
    target_ND = group_N[:, None] == torch.arange(head.out_features, device=group_N.device)
    weight_DF, bias_D = head.weight, head.bias + head.weight @ mean_F
    last_DF, last_D = weight_DF, bias_D
    loss = domain_cross_entropy(input_NF @ weight_DF.T + bias_D, group_N)
    for number in range(num_steps):
        momentum = number / (number + 3)
        ahead_DF = weight_DF + momentum * (weight_DF - last_DF)
        ahead_D = bias_D + momentum * (bias_D - last_D)
        p_ND = (input_NF @ ahead_DF.T + ahead_D).softmax(1)
        slope_ND = (p_ND - target_ND.to(p_ND.dtype)) * share_N1
        last_DF, last_D = weight_DF, bias_D
        weight_DF = ahead_DF - rate * (slope_ND.T @ input_NF + ridge * ahead_DF)
        bias_D = ahead_D - 2 * slope_ND.sum(0)
    head.weight.copy_(weight_DF)
    head.bias.copy_(bias_D - weight_DF @ mean_F)
    return loss


def frozen(head: nn.Linear, input_NF: Tensor) -> Tensor:
    """The head's logits; a gradient reaches the input and not the head."""
    return functional.linear(input_NF, head.weight.detach(), head.bias.detach())


def ramp(progress: float) -> float:
    """0 at the start of training, 1 at its end: ``2 / (1 + exp(-10 p)) - 1`` (Ganin et al., JMLR
    2016, section 5.2.2).
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(value: Tensor, strength: float) -> Tensor:
    """The value itself; its gradient is multiplied by ``-strength`` (Ganin et al. 2016, eq. 14).
    """
    reversed_value = _ReverseGradient.apply(value, strength)  # type: ignore[no-untyped-call]
    assert isinstance(reversed_value, Tensor)
    return reversed_value


def _num_known(group_N: Tensor) -> Tensor:
    return (group_N >= 0).sum().clamp(min=1)
