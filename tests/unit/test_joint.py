"""Joint draws and front membership against the intervals, brute force and known fronts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.fronts.pareto import hypervolume, pareto_mask
from trainables.metrics.figures import (
    contrast_figure,
    difference_interval,
    fate_figure,
    fate_interval,
    metric_figure,
    metric_interval,
)
from trainables.metrics.joint import deviations, joint_draws
from trainables.metrics.membership import (
    dominated_draws,
    hypervolume_interval,
    membership_frequency,
    memberships,
    zone_of,
)
from trainables.metrics.replicates import Replicates, replicate_metrics

ARMS, SEEDS, NUM = 4, 5, 20_000


def made_up(arms: int = ARMS, seeds: int = SEEDS, num: int = NUM, seed: int = 0) -> Replicates:
    """Shared and own effects of seeds and patients, in F1 around .6 and a gap around .3."""
    rng = np.random.default_rng(seed)
    value, replicate = {}, {}
    for name, mean, scale in (("f1", 0.6, 0.01), ("eodd_hardt", 0.3, 0.02)):
        seed_AS = rng.normal(0, 1, (1, seeds)) + rng.normal(0, 1, (arms, seeds))
        patient_RAS = rng.normal(0, 1, (num, 1, 1)) + rng.normal(0, 0.5, (num, arms, seeds))
        value[name] = mean + scale * seed_AS
        replicate[name] = value[name] + scale * patient_RAS
    return Replicates(value, replicate, num_patients=300, smallest_cell=20)


def figures(found: Replicates):
    return [fate_figure(found, "eodd_hardt", 0), metric_figure(found, "f1")]


def test_the_variance_of_draws_is_that_of_the_interval() -> None:
    for figure in figures(made_up()):
        deviation_RA, intervals = deviations(figure)
        for arm, one in enumerate(intervals):
            expected = one.seed_part + one.patient_part
            assert deviation_RA[:, arm].var() == pytest.approx(expected, rel=0.05, abs=1e-20)
            assert deviation_RA[:, arm].mean() == pytest.approx(0, abs=0.03 * expected**0.5)


def test_draws_are_of_t_with_a_degree_of_freedom_less_than_seeds() -> None:
    figure = metric_figure(made_up(), "f1")
    draw_R = joint_draws([figure])[:, 1, 0]
    one = figure.interval(1)
    t_R = (draw_R - one.value) / one.standard_error
    assert (np.abs(t_R) <= 2.776).mean() == pytest.approx(0.95, abs=0.01)  # t table, df 4
    assert (np.abs(t_R) <= 4.604).mean() == pytest.approx(0.99, abs=0.004)


def test_pooled_draws_have_the_mean_variance_of_a_seed() -> None:
    """Normal, independent between arms but for the patients they share."""
    found = made_up()
    present_AS = found.present.copy()
    present_AS[2, 3:] = False
    figure = metric_figure(replace(found, present_AS=present_AS), "f1")
    draw_RA = joint_draws([figure], pooled=True)[:, :, 0]
    parts = [figure.interval(arm) for arm in range(ARMS)]
    mean = np.mean([one.seed_part * one.num_seeds for one in parts])
    for arm, one in enumerate(parts):
        expected = one.patient_part + mean / one.num_seeds
        assert draw_RA[:, arm].var() == pytest.approx(expected, rel=0.05)
        assert draw_RA[:, arm].mean() == pytest.approx(one.value, abs=0.03 * expected**0.5)
    patient_RA = joint_draws([figure], pooled=True)[:, :, 0] - draw_RA
    assert (patient_RA == 0).all()
    seeds_RA = draw_RA - joint_draws([only_patients(figure)], pooled=True)[:, :, 0]
    assert np.corrcoef(seeds_RA.T)[np.triu_indices(ARMS, 1)] == pytest.approx(0, abs=0.03)


def test_the_reference_s_fate_has_no_pooled_noise() -> None:
    fate = fate_figure(made_up(), "eodd_hardt", 0)
    draw_RA = joint_draws([fate], pooled=True)[:, :, 0]
    assert (draw_RA[:, 0] == 0).all()
    others = [fate.interval(arm).seed_part * SEEDS for arm in range(1, ARMS)]
    expected = fate.interval(1).patient_part + np.mean(others) / SEEDS
    assert draw_RA[:, 1].var() == pytest.approx(expected, rel=0.05)


def only_patients(figure):
    """The figure as if its seeds did not differ."""
    mean_A1 = np.nanmean(np.where(figure.present_AS, figure.value_AS, np.nan), 1, keepdims=True)
    moved_RAS = figure.replicate_RAS - figure.value_AS + mean_A1
    return replace(figure, value_AS=mean_A1 + 0 * figure.value_AS, replicate_RAS=moved_RAS)


def test_what_arms_share_cancels_where_they_are_compared() -> None:
    """Also between figures: F1 enters FATE, so their draws go together."""
    found = made_up()
    figure = metric_figure(found, "f1")
    deviation_RA, _ = deviations(figure)
    paired = contrast_figure(figure, [(2, 1)]).interval(0).standard_error
    # Near it, not equal: patient noise is taken off each arm's seed part by itself.
    assert 0.8 < (deviation_RA[:, 2] - deviation_RA[:, 1]).std() / paired < 1.4
    unpaired = math.hypot(*(figure.interval(arm).standard_error for arm in (1, 2)))
    assert 1.4 * paired < 0.8 * unpaired
    same = replace(
        found,
        value_AS={k: v[[0, 1, 1]] for k, v in found.value_AS.items()},
        replicate_RAS={k: v[:, [0, 1, 1]] for k, v in found.replicate_RAS.items()},
    )
    draw_RAK = joint_draws(figures(same))
    np.testing.assert_array_equal(draw_RAK[:, 1], draw_RAK[:, 2])


def test_figures_give_the_intervals_of_uncertainty() -> None:
    found = made_up()
    f1 = metric_figure(found, "f1")
    assert f1.interval(2) == metric_interval(found, "f1", 2)
    assert contrast_figure(f1, [(2, 1)]).interval(0) == difference_interval(found, "f1", 2, 1)
    fate = fate_figure(found, "eodd_hardt", 0)
    assert fate.interval(3) == fate_interval(found, "eodd_hardt", 3, 0)
    assert fate.interval(0).value == 0


def test_arms_with_other_seeds_are_those_arms_alone() -> None:
    """A ragged arm has the figures of a rectangular set of its own seeds."""
    found = made_up()
    present_AS = np.ones((ARMS, SEEDS), bool)
    present_AS[2, 3:] = False
    ragged = replace(
        found,
        present_AS=present_AS,
        value_AS={k: np.where(present_AS, v, np.nan) for k, v in found.value_AS.items()},
        replicate_RAS={k: np.where(present_AS, v, np.nan) for k, v in found.replicate_RAS.items()},
    )
    short = replace(
        found,
        value_AS={k: v[:, :3] for k, v in found.value_AS.items()},
        replicate_RAS={k: v[:, :, :3] for k, v in found.replicate_RAS.items()},
    )
    for ragged_one, short_one, whole in zip(
        figures(ragged), figures(short), figures(found), strict=True
    ):
        assert ragged_one.interval(2) == short_one.interval(2)
        assert ragged_one.interval(1) == whole.interval(1)
        difference = contrast_figure(ragged_one, [(2, 1)]).interval(0)
        assert difference.num_seeds == 3
        if ragged_one.value_AS[1, 0] == short_one.value_AS[1, 0]:  # F1; FATE is linearised at the
            # means of all seeds of an arm, which are others here.
            assert difference == contrast_figure(short_one, [(2, 1)]).interval(0)
    assert not np.isnan(joint_draws(figures(ragged))).any()
    none = replace(ragged, present_AS=present_AS & (np.arange(ARMS) != 2)[:, None])
    assert np.isnan(joint_draws(figures(none))[:, 2]).all()
    assert metric_figure(none, "f1").interval(2).reason == "no seed in common"


def test_seeds_that_an_arm_lacks_are_not_read() -> None:
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    prediction = rng.integers(0, 3, (2, 3, 60))
    options = {"num_classes": 3, "num_groups": 2, "num_replicates": 10}
    whole = replicate_metrics(label, group, np.arange(60), prediction, **options)
    present = np.array([[True, True, True], [True, False, True]])
    prediction[1, 1] = -1
    ragged = replicate_metrics(
        label, group, np.arange(60), prediction, present_AS=present, **options
    )
    for name, value_AS in whole.value_AS.items():
        expected = np.where(present, value_AS, np.nan)
        np.testing.assert_array_equal(ragged.value_AS[name], expected)
        expected = np.where(present, whole.replicate_RAS[name], np.nan)
        np.testing.assert_array_equal(ragged.replicate_RAS[name], expected)
    with pytest.raises(ValueError, match="present seeds"):
        replicate_metrics(
            label, group, np.arange(60), prediction, present_AS=present[:, :2], **options
        )


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_dominated_draws_against_loops_over_pairs(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    draw = rng.integers(0, 4, (60, 5, objectives)).astype(float)
    for zone in (np.zeros(objectives), np.arange(objectives, dtype=float)):
        expected = [
            [
                any(
                    all(o >= x + z for o, x, z in zip(other, own, zone, strict=True))
                    and any(o > x + z for o, x, z in zip(other, own, zone, strict=True))
                    for other in points
                )
                for own in points
            ]
            for points in draw
        ]
        np.testing.assert_array_equal(dominated_draws(draw, zone), expected)
    for points in draw:
        np.testing.assert_array_equal(~dominated_draws(points[None])[0], pareto_mask(points))


def test_membership_of_the_dominated_is_0_and_of_equals_alike() -> None:
    rng = np.random.default_rng(0)
    equal = rng.normal(0, 0.1, (NUM, 4, 2))
    below = rng.normal(-5, 0.1, (NUM, 1, 2))
    draw = np.concatenate([equal, below], axis=1)
    frequency = membership_frequency(draw)
    # Of n points with independent coordinates (1 + 1/2 + ... + 1/n) are not dominated.
    np.testing.assert_allclose(frequency[:4], (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, atol=0.015)
    assert frequency[4] == 0
    zone = zone_of(["fate_eodd_hardt", "f1"])
    np.testing.assert_array_equal(zone, [0.02, 0.005])
    found = memberships(draw, zone, [5] * 5)
    assert [one.state for one in found] == ["open"] * 4 + ["out"]
    few = memberships(draw, zone, [5, 5, 5, 5, 3])
    assert few[4].state == "open"
    assert few[4].reason == "3 seeds, 5 before an arm is dropped"


def test_the_zone_decides_between_equals_and_a_named_arm_is_needed_to_drop_one() -> None:
    rng = np.random.default_rng(0)
    # Known to far less than the zone: none is dominated by more than it.
    alike = rng.normal(0, 1e-4, (2000, 6, 2))
    zone = np.array([0.02, 0.005])
    assert {one.state for one in memberships(alike, zone, [5] * 6)} == {"in"}
    # The worst of six equals is dominated by one or other of the rest in nearly all draws.
    worst = rng.normal(0, 1, (2000, 30, 1))
    worst[:, 0] -= 0.7
    one = memberships(worst, np.zeros(1), [9] * 30)[0]
    assert one.dominated > 0.95
    assert one.state == "open"


def test_an_undefined_arm_neither_dominates_nor_belongs() -> None:
    draw = np.random.default_rng(0).normal(size=(100, 3, 2))
    draw[:, 1] = np.nan
    found = memberships(draw, np.zeros(2), [5] * 3)
    assert (found[1].frequency, found[1].state) == (None, "open")
    np.testing.assert_array_equal(
        membership_frequency(draw)[[0, 2]], membership_frequency(draw[:, [0, 2]])
    )
    with pytest.raises(ValueError, match="zone at least 0"):
        memberships(draw, np.array([-1.0, 0]), [5] * 3)


def test_hypervolume_interval_holds_its_value_and_is_that_of_t_for_one_arm() -> None:
    found = made_up()
    draw = joint_draws(figures(found))
    point = np.array([[one.interval(arm).value for one in figures(found)] for arm in range(ARMS)])

    def volume(points):
        return hypervolume(points, (-1.0, 0.0))

    one = hypervolume_interval(point, draw[:2000], volume)
    assert one.value == pytest.approx(volume(point))
    assert one.low < one.value < one.high
    assert one.optimism > 0  # the front of noisy points lies above that of their means
    f1 = metric_figure(found, "f1")
    alone = hypervolume_interval(
        np.array([[f1.interval(1).value]]),
        joint_draws([f1])[:, 1:2],
        lambda points: float(points.max()),
    )
    half = 2.776 * f1.interval(1).standard_error
    assert alone.high - alone.value == pytest.approx(half, rel=0.03)
