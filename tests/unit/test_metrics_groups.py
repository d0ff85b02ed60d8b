import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from trainables.metrics.confusion import confusion_counts
from trainables.metrics.groups import (
    common_f1,
    group_scores,
    mean_and_difference,
    pooled_scores,
)


def _sample(seed: int, num_groups: int):
    """Random predictions over 8 classes of which some are absent; the last group has one row."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(20, 120))
    label = rng.choice([0, 1, 3, 4, 6], num)
    prediction = np.where(rng.random(num) < 0.5, label, rng.choice([0, 2, 3, 6], num))
    group = rng.integers(0, num_groups - 1, num)
    group[0] = num_groups - 1
    count = confusion_counts(label, prediction, group, num_classes=8, num_groups=num_groups)
    return label, prediction, group, count


@pytest.mark.parametrize("num_groups", [2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_group_scores_equal_scikit_learn(seed: int, num_groups: int) -> None:
    label, prediction, group, count = _sample(seed, num_groups)
    scores = group_scores(count)
    for g in np.unique(group):
        pair = label[group == g], prediction[group == g]
        macro = {"average": "macro", "zero_division": 0}
        assert scores.num_samples_G[g] == len(pair[0])
        assert scores.precision_G[g] == pytest.approx(precision_score(*pair, **macro), abs=1e-12)
        assert scores.recall_G[g] == pytest.approx(recall_score(*pair, **macro), abs=1e-12)
        assert scores.f1_G[g] == pytest.approx(f1_score(*pair, **macro), abs=1e-12)
        assert scores.accuracy_G[g] == pytest.approx(accuracy_score(*pair), abs=1e-12)
    f1, accuracy = pooled_scores(count)
    assert f1 == pytest.approx(f1_score(label, prediction, **macro), abs=1e-12)
    assert accuracy == pytest.approx(accuracy_score(label, prediction), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_common_f1_equals_scikit_learn_over_the_common_labels(seed: int) -> None:
    label, prediction, group, count = _sample(seed, 3)
    kept = [0, 1]
    common = sorted(set(label[group == 0]) & set(label[group == 1]))
    f1, classes = common_f1(count[kept])
    assert classes.tolist() == common
    for g in kept:
        pair = label[group == g], prediction[group == g]
        expected = f1_score(*pair, labels=common, average="macro", zero_division=0)
        assert f1[g] == pytest.approx(expected, abs=1e-12)


def test_an_empty_group_is_undefined_and_nothing_common_too() -> None:
    count = np.zeros((2, 3, 3), np.int64)
    count[0, 1, 1] = 4
    scores = group_scores(count)
    assert scores.f1_G[0] == 1
    assert np.isnan([scores.precision_G[1], scores.recall_G[1], scores.accuracy_G[1]]).all()
    f1, classes = common_f1(count)
    assert np.isnan(f1).all()
    assert not classes.size


def test_mean_and_difference_over_groups() -> None:
    assert mean_and_difference(np.array([0.5, 0.2])) == pytest.approx((0.35, 0.3))
    assert mean_and_difference(np.array([0.4, 0.9, 0.6])) == pytest.approx((1.9 / 3, 0.5))
    mean, difference = mean_and_difference(np.array([0.4]))
    assert mean == 0.4
    assert np.isnan(difference)
    assert np.isnan(mean_and_difference(np.array([]))).all()
