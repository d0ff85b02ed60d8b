"""The smallest detectable gap has its power on the gap's own scale, by simulation."""

import numpy as np
import pytest

from trainables.metrics.detectable import DETECTABLE, smallest_detectable_gap
from trainables.metrics.floor import permutation_floor
from trainables.metrics.gap_statistics import count_units, gap_values, group_rates

SIZES = {"num_groups": 2}


def images(classes, larger, smaller):
    """So many images of each class in either group."""
    group = np.repeat([0, 1], [larger * classes, smaller * classes])
    label = np.concatenate([np.arange(n * classes) % classes for n in (larger, smaller)])
    return label, group


def predict(rng, label, group, rate, d, classes):
    """TPR ``rate``, in the smaller group lower by d; errors fall on any other class."""
    wrong = (label + rng.integers(1, classes, len(label))) % classes
    return np.where(rng.random(len(label)) < rate - d * (group == 1), label, wrong)


def true_gap(label, group, rate, d, classes):
    """The gap that endless images of these sizes would show."""
    prediction = predict(
        np.random.default_rng(9), *(np.tile(x, 300) for x in (label, group)), rate, d, classes
    )
    units = count_units(
        np.tile(label, 300), prediction, np.tile(group, 300), None, classes, 2
    )  # fmt: skip
    rates = group_rates(
        units.hit_SUGC.sum(1), units.predicted_SUGC.sum(1), units.support_UGC.sum(0)
    )
    return {name: float(gap[0]) for name, gap in gap_values(*rates).items()}


@pytest.mark.parametrize(
    ("classes", "larger", "smaller", "rate"),
    [(2, 60, 30, 0.75), (4, 40, 40, 0.7), (8, 28, 12, 0.6), (3, 60, 40, 0.97)],
)
@pytest.mark.parametrize("gap", DETECTABLE)
def test_power_at_the_smallest_detectable_gap(classes, larger, smaller, rate, gap):
    label, group = images(classes, larger, smaller)
    rng = np.random.default_rng(5)
    found = [
        smallest_detectable_gap(
            label, predict(rng, label, group, rate, 0, classes), group, None,
            gap=gap, num_classes=classes, num_replicates=400, **SIZES,
        ).gap
        for _ in range(6)
    ]  # fmt: skip
    detectable = np.mean([x for x in found if x is not None])
    steps = {d: true_gap(label, group, rate, d, classes)[gap] for d in (0.1, 0.2, 0.3)}
    d = float(np.interp(detectable, [0, *steps.values()], [0, *steps]))  # TPR that makes this gap
    rejected = []
    for seed in range(120):
        result = permutation_floor(
            label, predict(rng, label, group, rate, d, classes), group, None,
            num_classes=classes, num_replicates=99, seed=seed, **SIZES,
        )  # fmt: skip
        rejected.append(result.gaps[gap].p_value <= 0.05)
    assert np.mean(rejected) == pytest.approx(0.8, abs=0.12)


def test_eodd_counts_what_its_classes_share():
    """With two classes each miss is an alarm of the other; with many FPRs hardly move."""
    found = {}
    for classes in (2, 20):
        label, group = images(classes, 40, 40)
        prediction = predict(np.random.default_rng(1), label, group, 0.7, 0, classes)
        found[classes] = [
            smallest_detectable_gap(
                label, prediction, group, None, gap=gap, num_classes=classes,
                num_replicates=300, **SIZES,
            ).gap
            for gap in DETECTABLE
        ]  # fmt: skip
    assert found[2][1] == pytest.approx(found[2][0], rel=0.05)
    assert found[20][1] == pytest.approx(found[20][0] * 0.53, rel=0.1)


def test_nothing_is_detectable_without_variance():
    label, group = images(3, 20, 20)
    for prediction in (label, (label + 1) % 3):
        found = smallest_detectable_gap(label, prediction, group, None, num_classes=3, **SIZES)
        assert found.gap is None
        assert found.reason == "the permutations do not vary (no errors, or all wrong)"


def test_a_group_too_small_for_any_difference_does_not_hide_the_others():
    label, group = images(3, 40, 40)
    prediction = predict(np.random.default_rng(1), label, group, 0.7, 0, 3)
    two = smallest_detectable_gap(label, prediction, group, None, num_classes=3, **SIZES)
    assert two.gap is not None
    label, prediction, group = (
        np.append(x, y) for x, y in ((label, 0), (prediction, 0), (group, 2))
    )
    sizes = SIZES | {"num_groups": 3}
    found = smallest_detectable_gap(label, prediction, group, None, num_classes=3, **sizes)
    assert found.group in (0, 1)
    assert found.gap is not None
    alone = np.where(group == 2, group, 0)  # 80 images of its class and one beside them
    found = smallest_detectable_gap(label, prediction, alone, None, num_classes=3, **sizes)
    assert found.reason == "not even a difference of 1 is found with 80% power"
    unlike = np.where(group == 0, np.arange(len(label)) // 2, 1000 + np.arange(len(label)))
    found = smallest_detectable_gap(label, prediction, group, unlike, num_classes=3, **sizes)
    assert found.gap is None  # pairs on one side, single images on the other
    assert "patients have a counterpart of another group" in str(found.reason)
