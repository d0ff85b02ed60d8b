"""Max-T against the plain interval, Bonferroni, Sidak; its family-wise error by simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.unit.test_joint import made_up
from trainables.metrics.figures import Figure, difference_interval, metric_figure
from trainables.metrics.multiplicity import max_t, smallest_sign_flip_p


def arms_of(value_AS: np.ndarray, num: int = 4000) -> Figure:
    """Arms whose patients never matter: a replicate is the original."""
    return Figure(
        value_AS,
        np.broadcast_to(value_AS, (num, *value_AS.shape)),
        np.ones(value_AS.shape, bool),
        num_patients=1000,
        smallest_cell=20,
        reason_A=(None,) * len(value_AS),
    )


def test_one_contrast_has_the_plain_interval() -> None:
    found = made_up()
    (one,) = max_t(metric_figure(found, "f1"), [(2, 1)])
    assert one.plain == difference_interval(found, "f1", 2, 1)
    assert one.simultaneous == one.plain
    assert one.adjusted_p_value == pytest.approx(one.p_value)
    t = one.plain.value / one.plain.standard_error
    assert one.p_value == pytest.approx(2 * stats.t.sf(abs(t), one.plain.df))


def test_without_patient_noise_the_p_is_that_of_the_paired_t_test() -> None:
    value_AS = np.random.default_rng(0).normal(size=(3, 7))
    for one in max_t(arms_of(value_AS), [(1, 0), (2, 0), (2, 1)]):
        expected = stats.ttest_rel(value_AS[one.arm], value_AS[one.other])
        assert one.p_value == pytest.approx(expected.pvalue)
        assert one.plain.df == pytest.approx(6)


def half(interval) -> float:
    return interval.high - interval.value


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_simultaneous_lies_between_the_plain_and_bonferroni(seeds: int) -> None:
    value_AS = np.random.default_rng(seeds).normal(size=(9, seeds))
    pairs = [(arm, control) for arm in range(2, 9) for control in (0, 1)]
    for one in max_t(arms_of(value_AS), pairs):
        bonferroni = stats.t.ppf(1 - 0.025 / len(pairs), seeds - 1) * one.plain.standard_error
        assert half(one.plain) < half(one.simultaneous) <= bonferroni * (1 + 1e-9)
        assert one.p_value <= one.adjusted_p_value <= min(1, len(pairs) * one.p_value) + 1e-12


def test_the_same_contrast_many_times_costs_little() -> None:
    """Correlation 1: only the chi-squares, which are drawn apart, still differ."""
    value_AS = np.random.default_rng(0).normal(size=(2, 60))
    once = max_t(arms_of(value_AS), [(1, 0)])[0]
    many = max_t(arms_of(value_AS), [(1, 0)] * 20)[0]
    bonferroni = stats.t.ppf(1 - 0.025 / 20, 59) / stats.t.ppf(0.975, 59)
    assert half(many.simultaneous) / half(once.plain) < 1 + 0.35 * (bonferroni - 1)


@pytest.mark.slow
def test_independent_contrasts_cost_what_sidak_says() -> None:
    rng = np.random.default_rng(0)
    value_AS = np.zeros((11, 500))
    value_AS[1:] = rng.normal(size=(10, 500))
    found = max_t(arms_of(value_AS, num=16_000), [(arm, 0) for arm in range(1, 11)])
    sidak = stats.norm.ppf(1 - (1 - 0.95 ** (1 / 10)) / 2)
    for one in found:
        assert half(one.simultaneous) / one.plain.standard_error == pytest.approx(sidak, rel=0.025)


def test_family_wise_error_of_equal_arms_is_held_and_that_of_plain_intervals_is_not() -> None:
    rng = np.random.default_rng(0)
    sweeps, pairs = 300, [(arm, control) for arm in range(2, 8) for control in (0, 1)]
    plain = adjusted = 0
    for _ in range(sweeps):
        found = max_t(arms_of(rng.normal(size=(8, 5)), num=400), pairs)
        plain += any(one.p_value <= 0.05 for one in found)
        adjusted += any(one.adjusted_p_value <= 0.05 for one in found)
    assert adjusted / sweeps <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sweeps)
    assert plain / sweeps > 0.2


def test_a_large_difference_is_found_and_the_interval_agrees_with_the_p() -> None:
    value_AS = np.random.default_rng(0).normal(0, 0.01, (6, 6))
    value_AS[5] += 0.5
    found = max_t(arms_of(value_AS), [(arm, 0) for arm in range(1, 6)])
    assert found[4].adjusted_p_value < 0.05
    assert found[4].simultaneous.low > 0
    for one in found[:4]:
        assert (one.simultaneous.low > 0 or one.simultaneous.high < 0) == (
            one.adjusted_p_value < 0.05
        )


def test_contrasts_without_an_interval_are_left_out_of_the_family() -> None:
    figure = arms_of(np.random.default_rng(0).normal(size=(4, 5)))
    undetermined = replace(figure, reason_A=(None, None, None, "not determined: why"))
    found = max_t(undetermined, [(1, 0), (3, 0), (2, 0)])
    assert found[1].adjusted_p_value is None
    assert found[1].simultaneous.reason == "not determined: why"
    alone = max_t(figure, [(1, 0), (2, 0)])
    assert len([one for one in found if one.p_value is not None]) == len(alone)
    assert max_t(undetermined, [(3, 0)])[0].p_value is None


def test_identical_arms_are_not_called_different() -> None:
    value_AS = np.tile(np.random.default_rng(0).normal(size=(1, 5)), (3, 1))
    for one in max_t(arms_of(value_AS), [(1, 0), (2, 0)]):
        assert (one.p_value, one.adjusted_p_value) == (1, 1)
        assert (one.simultaneous.low, one.simultaneous.high) == (0, 0)


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_smallest_sign_flip_p_by_enumeration(seeds: int) -> None:
    difference_S = np.arange(1.0, seeds + 1)
    flips = np.stack(np.meshgrid(*[[1, -1]] * seeds), -1).reshape(-1, seeds)
    mean_F = np.abs((flips * difference_S).mean(1))
    assert smallest_sign_flip_p(seeds) == (mean_F >= mean_F.max() - 1e-12).mean()
    with pytest.raises(ValueError, match="no seed"):
        smallest_sign_flip_p(0)
