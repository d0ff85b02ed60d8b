"""HSIC and MMD against their definitions, and the batched forms against loops."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.metrics.kernels import (
    FLOOR,
    hsic_by_stratum,
    hsic_unbiased,
    mmd_biased,
    mmd_by_cell,
    rbf,
    rbf_by_stratum,
    squared_distances,
)


def symmetric(num: int, seed: int) -> Tensor:
    """Any symmetric matrix will do: the estimator is linear in each kernel."""
    matrix_NN = np.random.default_rng(seed).normal(size=(num, num))
    return torch.from_numpy(matrix_NN + matrix_NN.T)


def rows(num: int, num_features: int = 3, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(num, num_features)))


def brute_force(kernel_NN: Tensor, other_NN: Tensor) -> float:
    """Mean over all ordered 4-tuples of distinct images of k_ij (l_ij + l_qr - 2 l_iq)."""
    k, el = kernel_NN.numpy(), other_NN.numpy()
    tuples = list(permutations(range(len(k)), 4))
    return float(
        np.mean([k[i, j] * (el[i, j] + el[q, r] - 2 * el[i, q]) for i, j, q, r in tuples])
    )


@pytest.mark.parametrize("num", [4, 5, 6, 7])
def test_hsic_is_the_mean_over_all_4_tuples(num: int) -> None:
    kernel_NN, other_NN = symmetric(num, 1), symmetric(num, 2)
    expected = brute_force(kernel_NN, other_NN)
    assert float(hsic_unbiased(kernel_NN, other_NN)) == pytest.approx(expected, abs=1e-12)
    assert abs(expected) > 1e-3


@pytest.mark.parametrize("num", [5, 6])
def test_hsic_has_zero_mean_over_all_permutations(num: int) -> None:
    x_NF = rows(num)
    kernel_NN = rbf(squared_distances(x_NF, x_NF), torch.tensor(1.0))
    label_N = torch.arange(num) % 2
    values = [
        float(hsic_unbiased(kernel_NN, (label_N[order][:, None] == label_N[order]).double()))
        for order in map(list, permutations(range(num)))
    ]
    assert abs(np.mean(values)) < 1e-10
    assert max(values) > 1e-3
    assert min(values) < -1e-3


def test_hsic_does_not_see_diagonals_or_constants() -> None:
    kernel_NN, other_NN = symmetric(7, 3), symmetric(7, 4)
    expected = float(hsic_unbiased(kernel_NN, other_NN))
    moved = float(hsic_unbiased(kernel_NN + 5 * torch.eye(7), other_NN + 0.7))
    assert moved == pytest.approx(expected, abs=1e-12)
    constant = float(hsic_unbiased(kernel_NN, torch.full((7, 7), 0.3, dtype=torch.float64)))
    assert constant == pytest.approx(0, abs=1e-12)


def test_hsic_needs_four_images() -> None:
    with pytest.raises(ValueError, match="needs 4 images but got 3"):
        hsic_unbiased(symmetric(3, 0), symmetric(3, 1))


def test_hsic_of_strata_is_the_loop_over_them() -> None:
    stratum_N = torch.tensor([0, 1, 0, -1, 1, 0, 2, 1, 0, 2, 1, 0, 2, -1, 1, 0])
    member_NS = (stratum_N[:, None] == torch.arange(4)).double()  # 6, 5, 3 and 0 images
    kernel_NN, other_NN = symmetric(16, 5), symmetric(16, 6)
    value_S = hsic_by_stratum(kernel_NN, other_NN, member_NS)
    for stratum in (0, 1):
        inside = torch.nonzero(stratum_N == stratum)[:, 0]
        expected = brute_force(kernel_NN[inside][:, inside], other_NN[inside][:, inside])
        assert float(value_S[stratum]) == pytest.approx(expected, abs=1e-12)
    assert value_S[2:].tolist() == [0, 0]


def test_the_gradient_of_hsic_is_right() -> None:
    other_NN = symmetric(6, 7)
    member_NS = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1]]).double()

    def value(x_NF: Tensor) -> Tensor:
        kernel_NN = rbf(squared_distances(x_NF, x_NF), torch.tensor(0.8))
        return hsic_by_stratum(kernel_NN, other_NN, member_NS).sum()

    assert torch.autograd.gradcheck(value, rows(6).requires_grad_())


def test_a_stratum_has_the_kernel_it_would_have_alone() -> None:
    x_NF = rows(9, seed=8)
    stratum_N = torch.tensor([0, 1, 0, 1, 0, 0, 1, -1, 0])
    kernel_NN = rbf_by_stratum(x_NF, (stratum_N[:, None] == torch.arange(2)).double())
    for stratum in (0, 1):
        inside = torch.nonzero(stratum_N == stratum)[:, 0].numpy()
        unit_NF = x_NF.numpy()[inside]
        unit_NF /= np.linalg.norm(unit_NF, axis=1, keepdims=True)
        distance_NN = ((unit_NF[:, None] - unit_NF[None]) ** 2).sum(-1)
        mean = distance_NN[~np.eye(len(inside), dtype=bool)].mean()
        expected_NN = np.exp(-distance_NN / (2 * mean))
        np.testing.assert_allclose(kernel_NN[inside][:, inside], expected_NN, atol=1e-12)


def test_the_rbf_kernel_of_groups_scales_the_delta_kernel() -> None:
    """Off the diagonal it is a + (1 - a) [same group], and HSIC does not see the constant."""
    group_N = torch.tensor([0, 1, 1, 0, 2, 0, 1])
    one_hot_NG, member_NS = torch.eye(3).double()[group_N], torch.ones(7, 1).double()
    same_NN = (group_N[:, None] == group_N).double()
    share_different = float(1 - (same_NN.sum() - 7) / (7 * 6))
    a = np.exp(-1 / (2 * share_different))  # distance 2 over 2 x the mean 2 share_different
    kernel_NN = symmetric(7, 9)
    value = float(hsic_unbiased(kernel_NN, rbf_by_stratum(one_hot_NG, member_NS)))
    expected = (1 - a) * float(hsic_unbiased(kernel_NN, same_NN))
    assert value == pytest.approx(expected, abs=1e-12)


def test_distances_are_exact_far_from_the_origin() -> None:
    x_NF = rows(20, 64).float() * 0.01 + 30
    direct_NN = (x_NF.double()[:, None] - x_NF.double()[None]).square().sum(-1)
    assert torch.allclose(squared_distances(x_NF, x_NF).double(), direct_NN, atol=1e-7)
    naive_NN = x_NF.square().sum(1)[:, None] + x_NF.square().sum(1) - 2 * x_NF @ x_NF.T
    assert float((naive_NN - direct_NN).abs().max()) > 1e-3


def test_equal_rows_have_kernel_one_and_no_gradient() -> None:
    x_NF = torch.full((5, 4), 0.3, requires_grad=True)
    kernel_NN = rbf_by_stratum(x_NF, torch.ones(5, 1))
    assert torch.equal(kernel_NN, torch.ones(5, 5))
    hsic_unbiased(kernel_NN, symmetric(5, 0).float()).backward()
    assert x_NF.grad is not None
    assert float(x_NF.grad.abs().max()) < 1e-3
    zero = torch.tensor(0.0)
    assert float(rbf(torch.tensor(FLOOR), zero)) == pytest.approx(np.exp(-0.5))


def test_no_gradient_passes_the_bandwidth() -> None:
    bandwidth = torch.tensor(2.0, requires_grad=True)
    assert not rbf(torch.ones(2, 2), bandwidth).requires_grad


def kernel(x_NF: Tensor, y_MF: Tensor) -> Tensor:
    return rbf(squared_distances(x_NF, y_MF), torch.tensor(0.9, dtype=torch.float64))


def test_mmd_is_the_double_sum() -> None:
    x_NF, y_MF = rows(5, seed=10), rows(4, seed=11) + 0.5

    def mean(a: Tensor, b: Tensor) -> float:
        pairs = [(u, v) for u in a.numpy() for v in b.numpy()]
        return float(np.mean([np.exp(-((u - v) ** 2).sum() / 1.8) for u, v in pairs]))

    expected = mean(x_NF, x_NF) + mean(y_MF, y_MF) - 2 * mean(x_NF, y_MF)
    assert expected > 0.01
    assert float(mmd_biased(x_NF, y_MF, kernel)) == pytest.approx(expected, abs=1e-12)
    assert float(mmd_biased(x_NF, x_NF.flip(0), kernel)) == pytest.approx(0, abs=1e-12)


def test_mmd_of_cells_is_the_loop_over_them() -> None:
    x_NF, y_MF = rows(8, seed=12), rows(6, seed=13)
    first_NA = torch.tensor([[1, 0, 1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0, 0, 1]]).T.double()
    second_MA = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).T.double()
    kernels = kernel(x_NF, x_NF), kernel(y_MF, y_MF), kernel(x_NF, y_MF)
    value_A = mmd_by_cell(*kernels, first_NA, second_MA)
    for cell in range(2):
        x, y = x_NF[first_NA[:, cell] == 1], y_MF[second_MA[:, cell] == 1]
        assert float(value_A[cell]) == pytest.approx(float(mmd_biased(x, y, kernel)), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    x_NF, member_NS = rows(12, 40).to(dtype), torch.ones(12, 1)
    other_NN = symmetric(12, 14).float()

    def values() -> list[Tensor]:
        kernel_NN = rbf_by_stratum(x_NF, member_NS)
        mmd = mmd_by_cell(kernel_NN, kernel_NN, kernel(x_NF, x_NF), member_NS, member_NS)
        return [kernel_NN, hsic_by_stratum(kernel_NN, other_NN, member_NS), mmd]

    plain = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = values()
    assert all(value.dtype == torch.float32 for value in cast)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))
