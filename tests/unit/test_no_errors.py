"""Predictions (nearly) without errors: no interval of no width, nothing said to be detectable."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from orchestrator.evaluation.evaluate import evaluate_file
from trainables.metrics.corrected_gap import gap_debiased
from trainables.metrics.fairness import GAPS
from trainables.metrics.figures import difference_interval, metric_interval
from trainables.metrics.replicates import replicate_metrics

COVERAGE = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    """45 images a group of three classes, each predicted right."""
    path = tmp_path_factory.mktemp("perfect") / "perfect.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["y_true", "y_pred", "group", "patient"])
        rows.writerows([i % 3, i % 3, "ab"[i % 2], f"p{i}"] for i in range(90))
    return evaluate_file(path, patient="patient", replicates=300)


def test_intervals_have_a_width_and_a_reason(perfect):
    for name in ("f1", *GAPS):
        interval = perfect["interval"][name]
        if name != "eodd":
            assert interval["high"] - interval["low"] > 0.02, name
        assert "all or no images hit in 6 of 6 classes and groups" in interval["approximate"]
    for gap in ("eopp0", "eopp1", "eodd_hardt"):
        interval = perfect["gap_debiased_interval"][gap]
        assert interval["low"] == 0
        assert interval["high"] > 0.01


def test_nothing_is_said_to_be_detectable(perfect):
    for gap in GAPS:
        assert perfect["smallest_detectable_gap"][gap] is None
        assert "below" not in perfect["verdict"][gap]
    assert "no errors" in perfect["undefined"]["smallest_detectable_gap.eopp1"]


def test_missed_images_are_alarms_of_another_class():
    """With two classes FPR = 1 - TPR of the other class, in every replicate too."""
    label, group = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    found = replicate_metrics(
        label, group, np.arange(80), label[None, None], num_classes=2, num_groups=2,
        num_replicates=50,
    ).replicate_RAS  # fmt: skip
    assert found["eopp1"].std() > 0.005
    assert found["eopp0"] == pytest.approx(found["eopp1"], abs=1e-6)
    assert found["eodd_hardt"] == pytest.approx(found["eopp1"], abs=1e-6)


def test_two_arms_without_errors_do_not_differ_and_that_is_flagged():
    label, group = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    replicates = replicate_metrics(
        label, group, np.arange(80), np.stack([label, label])[:, None], num_classes=2,
        num_groups=2, num_replicates=50,
    )  # fmt: skip
    difference = difference_interval(replicates, "f1", 0, 1)
    assert difference.value == difference.low == difference.high == 0
    assert any("no variance" in note for note in difference.approximate)
    assert metric_interval(replicates, "f1", 0).low < 0.99


def test_corrected_gap_subtracts_only_unbiased_variance():
    """A cell without errors widens the interval, not the correction."""
    label, group = np.zeros(60, int), np.repeat([0, 1], 30)
    label[::2] = 1
    prediction = label.copy()
    prediction[31:41:2] = 1 - label[31:41:2]  # five of class 0 in the second group
    found = gap_debiased(label, prediction, group, None, num_classes=2, num_groups=2)["eopp1"]
    p = 5 / 15
    square = (p**2 - p * (1 - p) / 15 * 15 / 14) / 2
    assert found.value == pytest.approx(np.sqrt(square))


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_coverage_near_1(num_seeds):
    spec = importlib.util.spec_from_file_location("coverage_near_1", COVERAGE)
    coverage = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "coverage_near_1", coverage)
        spec.loader.exec_module(coverage)
        target = coverage.expected(coverage.NEAR_1, 400)
        found = coverage.measure(coverage.NEAR_1, num_seeds, 80, 150, target, target)
    for name in ("f1", "eopp1", "eodd_hardt"):
        assert found[name].t / found[name].determined >= 0.92, name
