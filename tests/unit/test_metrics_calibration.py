import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainables.metrics.calibration import auroc, brier_score, expected_calibration_error


def _sample(seed: int, num_classes: int = 4):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(15, 60))
    label = rng.integers(0, num_classes, num)
    label[:num_classes] = range(num_classes)
    # Rounded, so that ties and confidences on the edge of a bin occur.
    probability = np.round(rng.dirichlet(np.ones(num_classes), num) * 30) / 30
    return label, probability / probability.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(8))
def test_auroc_equals_scikit_learn(seed: int) -> None:
    label, probability = _sample(seed)
    expected = roc_auc_score(label, probability, multi_class="ovr", average="macro")
    assert auroc(label, probability) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_auroc_averages_over_the_classes_present(seed: int) -> None:
    label, probability = _sample(seed)
    kept = label != 2
    label, probability = label[kept], probability[kept]
    areas = [roc_auc_score(label == c, probability[:, c]) for c in (0, 1, 3)]
    assert auroc(label, probability) == pytest.approx(np.mean(areas), abs=1e-12)


def test_auroc_of_one_class_is_undefined() -> None:
    assert auroc(np.array([1, 1]), np.array([[0.2, 0.8], [0.4, 0.6]])) is None


@pytest.mark.parametrize("seed", range(8))
def test_ece_equals_a_loop_over_bins(seed: int) -> None:
    label, probability = _sample(seed)
    confidence, correct = probability.max(1), probability.argmax(1) == label
    expected = 0.0
    for k in range(15):
        low, high = k / 15, (k + 1) / 15
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(confidence[inside].mean() - correct[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(label, probability) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_brier_equals_the_distance_to_one_hot(seed: int) -> None:
    label, probability = _sample(seed)
    expected = np.mean(
        [((p - np.eye(4)[y]) ** 2).sum() for y, p in zip(label, probability, strict=True)]
    )
    assert brier_score(label, probability) == pytest.approx(expected, abs=1e-12)


def test_closed_forms() -> None:
    sure = np.eye(2)[[0, 1, 1]]
    assert auroc(np.array([0, 1, 1]), sure) == 1
    assert expected_calibration_error(np.array([0, 1, 1]), sure) == 0
    assert brier_score(np.array([0, 1, 1]), sure) == 0
    assert expected_calibration_error(np.array([1, 0, 0]), sure) == 1
    assert brier_score(np.array([1, 0, 0]), sure) == 2
    none = np.array([], np.int64), np.zeros((0, 2))
    assert expected_calibration_error(*none) is None
    assert brier_score(*none) is None
    assert auroc(*none) is None
