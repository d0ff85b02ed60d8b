"""HSIC per channel against its definition by distinct images, and against the batch's own."""

import math
from itertools import permutations

import pytest
import torch
from three_channels import GROUP, first_maps, scores, train_rows
from torch import Tensor

from trainables.metrics.kernels import hsic_unbiased
from trainables.pruning.base import ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.hsic import HSIC, _hsic_1, channel_hsic, hsic_1_by_groups

torch.set_num_threads(1)


def by_distinct_images(k: list[list[float]], same: list[list[float]]) -> float:
    """E k_ij l_ij + E k_ij l_qr - 2 E k_ij l_iq over distinct images, by counting them all."""
    num = len(k)
    pairs = list(permutations(range(num), 2))
    first = sum(k[i][j] * same[i][j] for i, j in pairs) / len(pairs)
    triples = list(permutations(range(num), 3))
    third = sum(k[i][j] * same[i][q] for i, j, q in triples) / len(triples)
    second = number = 0.0
    for i, j in pairs:
        for q, r in pairs:
            if len({i, j, q, r}) == 4:
                second += k[i][j] * same[q][r]
                number += 1
    return first + second / number - 2 * third


def loop(vectors: list[list[float]], groups: list[int], bandwidth: float) -> float:
    num = len(vectors)
    distance = [
        [sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in vectors] for u in vectors
    ]
    mean = sum(map(sum, distance)) / (num * (num - 1))
    kernel = [[math.exp(-d / (2 * bandwidth * (mean or 1))) for d in row] for row in distance]
    same = [[float(a == b) for b in groups] for a in groups]
    return by_distinct_images(kernel, same)


@pytest.mark.parametrize("bandwidth", [1.0, 0.3])
@pytest.mark.parametrize("maps", ["pooled", "flat"])
def test_equals_its_definition_on_three_channels(maps: str, bandwidth: float) -> None:
    rows = train_rows(known=True)
    found = scores("hsic", maps=maps, bandwidth=bandwidth)
    for k in range(3):
        flat = [[v for line in image[k] for v in line] for image in first_maps(rows)]
        vectors = flat if maps == "flat" else [[sum(v) / len(v)] for v in flat]
        expected = -loop(vectors, [GROUP[row] for row in rows], bandwidth)
        assert found[k] == pytest.approx(expected, abs=2e-6)


def example(num: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    group_N = torch.arange(num) % 3
    feature_NCHW = torch.randn(num, 6, 2, 3, generator=generator)
    feature_NCHW[:, 1] += 1.5 * group_N[:, None, None]
    feature_NCHW[:, 2] = 0.7
    feature_NCHW[:, 3] = 1e3 * feature_NCHW[:, 0] + 50  # neither scale nor level matters
    feature_NCHW[:, 4] = 0.1
    feature_NCHW[:, 5] = 0
    return feature_NCHW, group_N


@pytest.mark.parametrize("maps", ["pooled", "flat"])
def test_every_channel_at_once_equals_the_statistic_of_each(maps: str) -> None:
    feature_NCHW, group_N = example()
    score_C = channel_hsic(feature_NCHW, group_N, maps=maps)
    same_NN = (group_N[:, None] == group_N).double()
    for k in (0, 1, 3):
        z_NP = feature_NCHW[:, k].flatten(1).double()
        z_NP = z_NP.mean(1, keepdim=True) if maps == "pooled" else z_NP
        distance_NN = torch.cdist(z_NP, z_NP).square()
        mean = distance_NN.sum() / (32 * 31)
        expected = hsic_unbiased((-distance_NN / (2 * mean)).exp(), same_NN)
        assert score_C[k].item() == pytest.approx(expected.item(), abs=1e-6)
    assert score_C[3].item() == pytest.approx(score_C[0].item(), abs=1e-5)
    assert score_C[[2, 4, 5]].tolist() == pytest.approx([0, 0, 0], abs=1e-9)  # constant
    assert int(score_C.argmax()) == 1


def fed(sizes: list[int], feature_NCHW: Tensor, group_N: Tensor) -> HSIC:
    criterion = HSIC(HSIC.Config(), ScoringContext(6, 3, torch.Generator()))
    for part_NCHW, part_N in zip(feature_NCHW.split(sizes), group_N.split(sizes), strict=True):
        criterion.update(ScoringBatch(part_NCHW, None, part_N, part_N))
    return criterion


def test_the_most_dependent_channel_goes_first_and_batches_weigh_as_their_images() -> None:
    feature_NCHW, group_N = example()
    score_C = fed([20, 12], feature_NCHW, group_N).score()
    first_C, second_C = (
        channel_hsic(feature_NCHW[part], group_N[part]) for part in (slice(20), slice(20, 32))
    )
    torch.testing.assert_close(score_C, -(20 * first_C + 12 * second_C) / 32, rtol=1e-5, atol=1e-8)
    assert int(score_C.argmin()) == 1


def test_groups_that_are_drawn_at_random_have_mean_zero() -> None:
    """The same maps, a thousand random groupings: within four standard errors of 0."""
    feature_NCHW, _ = example(16)
    draw = torch.Generator().manual_seed(1)
    found = torch.stack(
        [
            channel_hsic(feature_NCHW[:, :2], torch.randint(2, (16,), generator=draw))
            for _ in range(1000)
        ]
    )
    error_C = found.std(0) / 1000**0.5
    assert bool((found.mean(0).abs() < 4 * error_C).all())
    assert bool((error_C < 1e-3).all())


def test_batches_that_say_nothing_are_left_out_and_alone_they_are_an_error() -> None:
    feature_NCHW, group_N = example()
    few = fed([3, 29], feature_NCHW, torch.cat([group_N[:3], torch.zeros(29, dtype=torch.int64)]))
    with pytest.raises(ScoringError, match="no batch of 128 holds two groups and four images"):
        few.score()


def test_sums_by_group_give_the_estimator_of_all_pairs() -> None:
    """What batches together are given against what one alone is."""
    generator = torch.Generator().manual_seed(2)
    kernel_BCNN = torch.rand(2, 4, 15, 15, generator=generator, dtype=torch.float64)
    kernel_BCNN = kernel_BCNN + kernel_BCNN.transpose(2, 3)
    group_BN = torch.randint(0, 3, (2, 15), generator=generator)
    expected = [
        _hsic_1(kernel_CNN, (group_N[:, None] == group_N).double())
        for kernel_CNN, group_N in zip(kernel_BCNN, group_BN, strict=True)
    ]
    torch.testing.assert_close(hsic_1_by_groups(kernel_BCNN, group_BN), torch.stack(expected))
