"""The t interval over seeds: against scipy, against finite differences, and by simulation."""

import random

import numpy as np
import pytest
from scipy import stats

from orchestrator.judging.seed_interval import (
    Estimate,
    fate_over_seeds,
    indistinguishable,
    mean_over_seeds,
    t_quantile,
)
from trainables.metrics.fate import fate


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 9, 29, 30, 119])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_of_t(degrees, confidence):
    expected = stats.t.ppf((1 + confidence) / 2, degrees)
    assert t_quantile(degrees, confidence) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("degrees", "confidence"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_quantiles_that_do_not_exist(degrees, confidence):
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(degrees, confidence)


def test_interval_of_a_mean():
    values = [0.41, 0.52, 0.47, 0.55]
    estimate = mean_over_seeds(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert estimate.interval == pytest.approx(expected)
    assert mean_over_seeds([0.4]) == Estimate(0.4, (0.4,))
    assert mean_over_seeds([0.4]).interval is None
    assert mean_over_seeds([0.4, None]) == Estimate(None)
    assert mean_over_seeds([]).interval is None


def test_fate_is_linear_in_small_changes_of_each_seed():
    """The influence of a seed is the derivative of FATE with respect to that seed's values."""
    rng = np.random.default_rng(0)
    value_4S = rng.uniform(0.2, 0.6, (4, 5))
    estimate = fate_over_seeds(*(mean_over_seeds(row.tolist()) for row in value_4S))
    assert estimate.value == pytest.approx(fate(*value_4S.mean(1)))
    assert np.mean(estimate.per_seed_S) == pytest.approx(estimate.value)
    step = 1e-6
    slope_4 = [
        (fate(*(value_4S.mean(1) + step * np.eye(4)[k])) - estimate.value) / step for k in range(4)
    ]
    centred_4S = value_4S - value_4S.mean(1, keepdims=True)
    np.testing.assert_allclose(
        np.array(estimate.per_seed_S) - estimate.value, np.array(slope_4) @ centred_4S, atol=1e-5
    )


def test_fate_against_itself_is_0_without_spread():
    f1, gap = mean_over_seeds([0.5, 0.6, 0.4]), mean_over_seeds([0.1, 0.3, 0.2])
    same = fate_over_seeds(f1, gap, f1, gap)
    assert same.interval == pytest.approx((0.0, 0.0), abs=1e-12)
    assert fate_over_seeds(f1, gap, f1, mean_over_seeds([0.0, 0.0, 0.0])) == Estimate(None)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_coverage_of_the_interval_of_fate(num_seeds):
    """Where gaps are well above 0: within 2 % of 95 % (Monte-Carlo error at 4,000 draws: .7 %)."""
    rng = random.Random(num_seeds)
    centre = (0.52, 0.18, 0.50, 0.20)
    truth = fate(*centre)
    held = 0
    for _ in range(4000):
        shared = [rng.gauss(0, 0.01) for _ in range(num_seeds)]  # paired: the seed's own luck
        columns = [[c + s + rng.gauss(0, 0.01) for s in shared] for c in centre]
        low, high = fate_over_seeds(*map(mean_over_seeds, columns)).interval
        held += low <= truth <= high
    assert 0.93 < held / 4000 < 0.97


def test_ties_are_judged_by_the_paired_difference():
    seeds = [0.1, 0.3, 0.5]
    one = mean_over_seeds(seeds)
    above = mean_over_seeds([value + 0.01 for value in seeds])
    assert not indistinguishable(one, above)  # always .01 higher, whatever the seed
    mixed = mean_over_seeds([0.12, 0.29, 0.53])
    low, high = stats.ttest_rel(mixed.per_seed_S, one.per_seed_S).confidence_interval()
    assert low < 0 < high
    assert indistinguishable(one, mixed)
    assert not indistinguishable(mean_over_seeds([0.1]), mean_over_seeds([0.1]))
    assert not indistinguishable(one, Estimate(None))
