"""Kernel statistics: RBF kernels, unbiased HSIC, biased MMD; of a whole batch, or of its parts.

The parts are computed at once from one N x N kernel and membership columns: no loop over classes.
Everything is float32 (float64 stays) whatever the autocast type: differences of kernel sums are
below the resolution of bf16.

Shape legend: N, M images, F features, S strata (parts of a batch that do not overlap), A cells.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-6
"""Least bandwidth: rows that all agree have distance 0 and would divide by it."""

MIN_HSIC = 4
"""Images below which the unbiased HSIC is not defined: it averages over 4 distinct ones."""


def full_precision(tensor: Tensor) -> torch.autocast:
    """Within the context autocast is off on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


def squared_distances(x_NF: Tensor, y_MF: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) of all pairs of rows, never below 0."""
    with full_precision(x_NF):
        x_NF, y_MF = _wide(x_NF), _wide(y_MF)
        # distances do not depend on the origin; near the rows the difference of squares is exact
        origin_F = y_MF.mean(0).detach()
        x_NF, y_MF = x_NF - origin_F, y_MF - origin_F
        squares_NM = x_NF.square().sum(1)[:, None] + y_MF.square().sum(1)[None, :]
        return (squares_NM - 2 * x_NF @ y_MF.T).clamp(min=0)


def rbf(distance_NM: Tensor, bandwidth: Tensor) -> Tensor:
    """exp(-d^2 / (2 bandwidth)) of squared distances; no gradient passes the bandwidth.

    The bandwidth (a squared distance; it broadcasts) is at least ``FLOOR``.
    """
    return (-distance_NM / (2 * bandwidth.detach().clamp(min=FLOOR))).exp()


def rbf_by_stratum(x_NF: Tensor, member_NS: Tensor) -> Tensor:
    """RBF kernel (N, N) of L2-normalised rows; entries between two strata have no meaning.

    A stratum's bandwidth is the mean squared distance of its distinct rows, so that its block is
    the kernel that the stratum has by itself.
    """
    with full_precision(x_NF):
        member_NS = _wide(member_NS)
        x_NF = functional.normalize(_wide(x_NF), dim=1, eps=FLOOR)
        distance_NN = squared_distances(x_NF, x_NF)
        num_S = member_NS.sum(0)
        total_S = member_NS.T @ (distance_NN * _pairs(member_NS)).sum(1)
        mean_S = total_S / (num_S * (num_S - 1)).clamp(min=1)
        return rbf(distance_NN, (member_NS @ mean_S)[:, None])


def hsic_unbiased(kernel_NN: Tensor, other_NN: Tensor) -> Tensor:
    """Unbiased estimate of the Hilbert-Schmidt independence criterion from two kernel matrices.

    HSIC_1 of Song et al. 2012 (JMLR 13): with diagonals set to 0,
    [tr(KL) + 1'K1 1'L1 / ((m-1)(m-2)) - 2 1'KL1 / (m-2)] / (m(m-3)). It may be below 0; its mean
    is 0 where the two are independent.

    Args:
        kernel_NN: symmetric kernel of the same m images as ``other_NN``.
        other_NN: symmetric kernel of the other variable.

    Raises:
        ValueError: fewer than 4 images.
    """
    if len(kernel_NN) < MIN_HSIC:
        raise ValueError(f"unbiased HSIC needs {MIN_HSIC} images but got {len(kernel_NN)}")
    return hsic_by_stratum(kernel_NN, other_NN, kernel_NN.new_ones(len(kernel_NN), 1))[0]


def hsic_by_stratum(kernel_NN: Tensor, other_NN: Tensor, member_NS: Tensor) -> Tensor:
    """``hsic_unbiased`` (S) of each stratum's block; 0 where a stratum has fewer than 4 images.

    Args:
        kernel_NN: symmetric kernel; only entries within a stratum are read.
        other_NN: symmetric kernel of the other variable.
        member_NS: 1 where the image is in the stratum, else 0; rows may be 0 throughout.
    """
    with full_precision(kernel_NN):
        member_NS = _wide(member_NS)
        pair_NN = _pairs(member_NS)
        kernel_NN, other_NN = _wide(kernel_NN) * pair_NN, _wide(other_NN) * pair_NN
        kernel_N, other_N = kernel_NN.sum(1), other_NN.sum(1)
        num_S = member_NS.sum(0)
        m_S = num_S.clamp(min=MIN_HSIC)
        trace_S = member_NS.T @ (kernel_NN * other_NN).sum(1)
        sums_S = (member_NS.T @ kernel_N) * (member_NS.T @ other_N)
        cross_S = member_NS.T @ (kernel_N * other_N)
        value_S = trace_S + sums_S / ((m_S - 1) * (m_S - 2)) - 2 * cross_S / (m_S - 2)
        return value_S / (m_S * (m_S - 3)) * (num_S >= MIN_HSIC)


def mmd_biased(
    x_NF: Tensor, y_MF: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Squared maximum mean discrepancy of two samples, self-pairs included.

    Gretton et al. 2012 (JMLR 13), eq. 5: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), at least
    0 but for rounding.

    Args:
        x_NF: one sample.
        y_MF: the other sample.
        kernel: (N, F), (M, F) -> (N, M), positive definite.
    """
    return kernel(x_NF, x_NF).mean() + kernel(y_MF, y_MF).mean() - 2 * kernel(x_NF, y_MF).mean()


def mmd_by_cell(
    kernel_NN: Tensor, kernel_MM: Tensor, kernel_NM: Tensor, first_NA: Tensor, second_MA: Tensor
) -> Tensor:
    """``mmd_biased`` (A) between parts of two samples, from the kernels of the whole samples.

    Args:
        kernel_NN: kernel within the first sample.
        kernel_MM: kernel within the second sample.
        kernel_NM: kernel between the two.
        first_NA: 1 where a row of the first sample is in the cell; cells may overlap.
        second_MA: the same of the second sample. A cell that is empty on a side has no meaning.
    """
    with full_precision(kernel_NN):
        first_NA, second_MA = _shares(first_NA), _shares(second_MA)
        within_A = (first_NA * (_wide(kernel_NN) @ first_NA)).sum(0)
        within_A = within_A + (second_MA * (_wide(kernel_MM) @ second_MA)).sum(0)
        return within_A - 2 * (first_NA * (_wide(kernel_NM) @ second_MA)).sum(0)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _pairs(member_NS: Tensor) -> Tensor:
    """1 where two distinct images are in one stratum."""
    return (member_NS @ member_NS.T).fill_diagonal_(0)


def _shares(member_NA: Tensor) -> Tensor:
    """Columns that sum to 1."""
    member_NA = _wide(member_NA)
    return member_NA / member_NA.sum(0).clamp(min=1)
