"""Skewness of feature maps against loops, closed forms and SciPy."""

import math

import pytest
import torch
from scipy import stats
from three_channels import first_maps, scores, train_rows
from torch import Tensor

from trainables.pruning.base import ScoringBatch, ScoringContext
from trainables.pruning.skewness import Skewness

torch.set_num_threads(1)


def g1(values: list[float]) -> float:
    mean = sum(values) / len(values)
    second = sum((v - mean) ** 2 for v in values) / len(values)
    third = sum((v - mean) ** 3 for v in values) / len(values)
    return third / second**1.5 if second > 1e-12 else 0.0


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("over", ["map", "all"])
def test_equals_a_loop_over_the_maps(over: str, with_norm: bool) -> None:
    """Of the output itself, not of what the ReLU in place leaves of it."""
    maps = first_maps(train_rows(), with_norm)
    expected = []
    for k in range(3):
        images = [[value for row in image[k] for value in row] for image in maps]
        if over == "map":
            expected.append(sum(g1(values) for values in images) / len(images))
        else:
            expected.append(g1([value for values in images for value in values]))
    assert scores("skewness", over=over, with_norm=with_norm) == pytest.approx(expected, abs=1e-5)
    highest = scores("skewness", over=over, direction="highest", with_norm=with_norm)
    assert highest == pytest.approx([-value for value in expected], abs=1e-5)


def fed(feature_NCHW: Tensor, sizes: list[int], **options: str) -> Tensor:
    criterion = Skewness(
        Skewness.Config(**options), ScoringContext(feature_NCHW.shape[1], 2, torch.Generator())
    )
    for part_NCHW in feature_NCHW.split(sizes):
        nobody = torch.zeros(len(part_NCHW), dtype=torch.int64)
        criterion.update(ScoringBatch(part_NCHW, None, nobody, nobody))
    return criterion.score()


def test_merging_batches_equals_all_at_once_and_scipy() -> None:
    """Also far from zero, where powers of the values themselves would cancel."""
    generator = torch.Generator().manual_seed(0)
    feature_NCHW = torch.rand(40, 3, 5, 5, generator=generator) ** 3
    feature_NCHW[:, 1] += 300
    feature_NCHW[20:, 2] -= 4  # batches that differ in their mean
    for over in ("all", "map"):
        whole_C = fed(feature_NCHW, [40], over=over)
        parts_C = fed(feature_NCHW, [7, 20, 1, 12], over=over)
        torch.testing.assert_close(parts_C, whole_C, rtol=1e-5, atol=1e-6)
        value_NCP = feature_NCHW.double().flatten(2).numpy()
        for k in range(3):
            values = value_NCP[:, k]
            expected = stats.skew(values.ravel() if over == "all" else values, axis=-1).mean()
            assert whole_C[k].item() == pytest.approx(expected, rel=1e-4)


def test_closed_form_of_a_lesion_and_constant_maps() -> None:
    """A share p of ones has skewness (1 - 2p) / sqrt(p (1 - p))."""
    feature_NCHW = torch.zeros(3, 4, 4, 5)
    feature_NCHW[:, 0, 0, :2] = 1  # 2 of 20: a small lesion, a long upper tail
    feature_NCHW[:, 1] = 1 - feature_NCHW[:, 0]  # the skin around it
    feature_NCHW[:, 2] = 0.1
    lesion = (1 - 0.2) / math.sqrt(0.1 * 0.9)
    for over in ("map", "all"):
        score_C = fed(feature_NCHW, [2, 1], over=over)
        assert score_C.tolist() == pytest.approx([lesion, -lesion, 0, 0], abs=1e-6)
    assert int(score_C.argmin()) == 1  # the default removes the skin channel first


def test_maps_of_one_pixel_are_taken_together() -> None:
    feature_NCHW = torch.rand(30, 2, 1, 1, generator=torch.Generator().manual_seed(2)) ** 2
    assert torch.equal(fed(feature_NCHW, [10, 20]), fed(feature_NCHW, [10, 20], over="all"))
    expected = stats.skew(feature_NCHW.double().flatten(1).numpy(), axis=0)
    assert fed(feature_NCHW, [10, 20]).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
