"""SNNL-Fair of one batch: how well each channel separates the groups.

The soft nearest neighbour loss of Frosst, Papernot and Hinton, ICML 2019 (arXiv 1902.01889), eq. 1
with the sensitive group in the place of the class, as in Kong et al., MICCAI 2024 (arXiv
2405.08681). Low = an image's neighbours share its group = the channel separates the groups.

Shape legend: N images, C channels, P = H * W positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainables.pruning.distances import mean_over_pairs, square_distances

PAPER_EPS = 1e-9
COSINE_ROUNDING = 1e-6
"""A mean cosine distance below this is rounding: all maps of the channel point the same way."""


def snnl_fair(
    feature_NCHW: Tensor,
    group_N: Tensor,
    *,
    temperature: float = 1.0,
    mode: Literal["corrected", "paper"] = "corrected",
    anchor_weight: Literal["image", "group"] = "image",
    distance: Literal["cosine", "euclidean"] = "cosine",
    scale: Literal["none", "mean"] = "none",
    label_N: Tensor | None = None,
) -> Tensor:
    """Soft nearest neighbour loss of every channel in one batch.

    ``corrected``, with ``w_ij = exp(-d_ij / T)``:
    ``-mean_i log(sum_{j != i, s_j = s_i} w_ij / sum_{j != i} w_ij)`` over the images that share
    their group with another image of the batch. ``paper``: what the released code computes, the
    pair (i, i) counted in the numerator only, plus 1e-9, over all images.

    With labels both sums run over ``y_j = y_i`` only (that a disease is more frequent in a group
    is then no sensitivity), and images whose class holds one group of the batch are left out.

    Args:
        feature_NCHW: the channels' maps; the cosine with an all-zero map is 0.
        group_N: group of each image, integers; negative = unknown, such images are left out. On
            the CPU it costs a GPU no stop.
        temperature: T > 0.
        mode: see above.
        anchor_weight: ``image`` weighs all images alike, ``group`` all groups alike.
        distance: d_ij of the flattened maps: 1 - cosine, or (Frosst et al.) the squared Euclidean
            one, summed over positions: maps that are a times as large give what T / a^2 gives.
        scale: ``mean`` divides a channel's distances by their mean over the pairs of the batch, so
            that its scale does not matter and T is in units of a typical distance.
        label_N: class of each image, for the loss within classes.

    Returns:
        score_C (float32, device of the features); NaN where no image has both a partner and a
        neighbour of another group, in ``corrected`` mode.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive but got {temperature}")
    if label_N is not None and mode == "paper":
        raise ValueError("the released code does not look at classes: labels need mode corrected")
    known_N = group_N >= 0
    feature_NCHW, group_N = rows_of(feature_NCHW, known_N), group_N[known_N]
    label_N = None if label_N is None else label_N[known_N]
    anchor_N = anchors(group_N, label_N)
    if mode == "paper":
        anchor_N = torch.ones_like(anchor_N)
    device = feature_NCHW.device
    if not bool(anchor_N.any()):
        return torch.full((feature_NCHW.shape[1],), torch.nan, device=device)
    weight_N = _anchor_weights(group_N[anchor_N], anchor_weight).to(device, non_blocking=True)
    if distance == "cosine":
        distance_CNN = _cosine_distance(feature_NCHW)
    else:
        distance_CNN = square_distances(feature_NCHW.flatten(2).transpose(0, 1))
    if scale == "mean":
        floor = COSINE_ROUNDING if distance == "cosine" else 0.0
        distance_CNN = distance_CNN / mean_over_pairs(distance_CNN, floor)
    logit_CNN = -distance_CNN / temperature
    group_N = group_N.to(device, non_blocking=True)
    label_N = None if label_N is None else label_N.to(device, non_blocking=True)
    self_NN = torch.eye(len(group_N), dtype=torch.bool, device=device)
    partner_NN = (group_N[:, None] == group_N) & ~self_NN
    stranger_NN = self_NN
    if label_N is not None:
        near_NN = label_N[:, None] == label_N
        partner_NN, stranger_NN = partner_NN & near_NN, self_NN | ~near_NN
    below_CN = logit_CNN.masked_fill(stranger_NN, -torch.inf).logsumexp(2)
    if mode == "paper":
        exp_CNN = logit_CNN.exp()
        above_CN = torch.log(torch.where(partner_NN, exp_CNN, 0).sum(2) + 1 + PAPER_EPS)
    else:
        above_CN = logit_CNN.masked_fill(~partner_NN, -torch.inf).logsumexp(2)
    return rows_of(below_CN - above_CN, anchor_N, dim=1) @ weight_N.to(below_CN.dtype)


def chance_level(
    group_N: Tensor,
    *,
    anchor_weight: Literal["image", "group"] = "image",
    label_N: Tensor | None = None,
) -> float:
    """What ``snnl_fair`` (corrected) gives a channel that knows nothing of the group.

    ``c = -(1/b') sum_g n_g log((n_g - 1) / (b - 1))`` over groups with n_g >= 2 (b' images);
    all-constant channels score exactly this. With labels the same within each class y that holds
    two groups, ``-(1/b') sum_y sum_g n_yg log((n_yg - 1) / (n_y - 1))``.
    """
    known_N = group_N >= 0
    group_N, label_N = group_N[known_N], None if label_N is None else label_N[known_N]
    same_N, near_N, anchor_N = _neighbours(group_N, label_N)
    level_N = -torch.log((same_N - 1)[anchor_N].double() / (near_N[anchor_N] - 1))
    return float(level_N @ _anchor_weights(group_N[anchor_N], anchor_weight).double())


def anchors(group_N: Tensor, label_N: Tensor | None) -> Tensor:
    """Images that share their group (and class) with another one and have a neighbour of another
    group (in their class): a mask.
    """
    return _neighbours(group_N, label_N)[2]


def _neighbours(group_N: Tensor, label_N: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of each image the number of its group (and class), of its class, both with itself, and
    whether it is an anchor.
    """
    near_N, cell_N = torch.full_like(group_N, len(group_N)), group_N
    if label_N is not None and len(group_N):
        _, class_N, num_Y = label_N.unique(return_inverse=True, return_counts=True)
        near_N, cell_N = num_Y[class_N], class_N * (group_N.max() + 1) + group_N
    _, own_N, num_K = cell_N.unique(return_inverse=True, return_counts=True)
    same_N = num_K[own_N]
    return same_N, near_N, (same_N > 1) & (same_N < near_N)


def rows_of(value: Tensor, chosen_N: Tensor, dim: int = 0) -> Tensor:
    """The chosen rows (a mask, on the CPU for no stop of a GPU) of a tensor on any device."""
    if bool(chosen_N.all()):
        return value
    row_M = chosen_N.nonzero().flatten().to(value.device, non_blocking=True)
    return value.index_select(dim, row_M)


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
