import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from trainables.errors import UserError
from trainables.metrics.confusion import confusion_counts
from trainables.metrics.fairness import GAPS, fairness_gaps
from trainables.metrics.fate import fate
from trainables.metrics.summary import compare, summarise

CLASSES = [f"c{c}" for c in range(5)]


def _sample(seed: int, groups: str):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 5, 90), rng.integers(0, len(groups), 90)
    prediction = np.where(rng.random(90) < 0.5, label, rng.integers(0, 5, 90))
    count = confusion_counts(label, prediction, group, num_classes=5, num_groups=len(groups))
    return label, prediction, group, count


def _summary(count, groups: str = "ab", **options):
    return summarise(count, groups=list(groups), classes=CLASSES, **options)


@pytest.mark.parametrize("groups", ["ab", "abc"])
def test_means_and_differences_are_over_groups_and_pooled_over_samples(groups: str) -> None:
    label, prediction, group, count = _sample(1, groups)
    result = _summary(count, groups)
    each = range(len(groups))
    f1 = [f1_score(label[group == g], prediction[group == g], average="macro") for g in each]
    recall = [
        recall_score(label[group == g], prediction[group == g], average="macro", zero_division=0)
        for g in each
    ]
    assert result["f1"] == pytest.approx(np.mean(f1))
    assert result["f1_diff"] == pytest.approx(max(f1) - min(f1))
    assert result["recall"] == pytest.approx(np.mean(recall))
    assert result["recall_diff"] == pytest.approx(max(recall) - min(recall))
    assert result["f1_pooled"] == pytest.approx(f1_score(label, prediction, average="macro"))
    assert result["accuracy"] == pytest.approx(np.mean(label == prediction))
    assert [result["groups"][name]["f1"] for name in groups] == pytest.approx(f1)
    assert result["num_samples"] == 90
    assert result["undefined"] == {}


def test_a_group_below_min_support_enters_no_mean_and_no_gap() -> None:
    _, _, _, count = _sample(2, "abc")
    count[2] = 0
    count[2, 0, 1] = 3
    with_small = _summary(count, "abc", min_support=4)
    two = _summary(count[:2])
    for name in ("f1", "precision", "f1_diff", *GAPS, "demographic_parity", "f1_common"):
        assert with_small[name] == two[name]
    assert with_small["not_assessed"] == {"c": "n = 3, not assessed"}
    assert with_small["groups"]["c"]["num_samples"] == 3
    assert with_small["groups"]["c"]["f1"] is None
    assert with_small["num_samples"] == two["num_samples"] + 3
    assert with_small["accuracy"] != two["accuracy"]
    assert with_small["worst_pair"]["eopp1"] == ["a", "b"]


def test_paper_mode_is_passed_on_and_refuses_three_groups() -> None:
    count = _sample(3, "ab")[3]
    count[1, 2] = 0
    assert (
        _summary(count, mode="paper")["eopp1"] == fairness_gaps(count, mode="paper")["eopp1"].value
    )
    assert _summary(count, mode="paper")["eopp1"] != _summary(count)["eopp1"]
    with pytest.raises(UserError, match="2 groups but got 3"):
        _summary(_sample(3, "abc")[3], "abc", mode="paper")


@pytest.mark.parametrize("mode", ["corrected", "paper"])
def test_undefined_figures_are_none_with_a_reason_and_json_is_strict(mode) -> None:
    empty = np.zeros((2, 5, 5), np.int64)
    one = empty.copy()
    one[0, 1, 1] = 2
    disjoint = one.copy()
    disjoint[1, 3, 2] = 2
    for count, reason in ((empty, "no samples"), (one, "one group"), (disjoint, "no class")):
        result = _summary(count, mode=mode)
        json.dumps(result, allow_nan=False)
        none = {name for name, value in result.items() if value is None}
        assert none == set(result["undefined"])
        if not (mode == "paper" and count is disjoint):
            assert result["undefined"]["eopp1"].startswith(reason)
    assert _summary(disjoint)["undefined_pairs"]["eopp1"] == [["a", "b"]]
    assert _summary(disjoint)["undefined"]["f1_common"] == "no class has samples in every group"
    assert _summary(empty)["f1"] is None


def test_compare_is_fate_of_the_mean_f1_with_each_groups_change() -> None:
    now, before = _summary(_sample(4, "ab")[3]), _summary(_sample(5, "ab")[3])
    result = compare(now, before)
    for gap in GAPS:
        assert result[f"fate_{gap}"] == fate(now["f1"], now[gap], before["f1"], before[gap])
        assert result["changes"][gap] == now[gap] - before[gap]
    assert result["undefined"] == {}
    for name in "ab":
        for key in ("precision", "recall", "f1"):
            expected = now["groups"][name][key] - before["groups"][name][key]
            assert result["group_changes"][name][key] == expected
    same = compare(before, before)
    assert [same[f"fate_{gap}"] for gap in GAPS] == [0.0] * 4
    assert same["tag"] == "no change"


def test_compare_with_a_reference_without_gaps_says_why() -> None:
    label = np.tile(np.arange(5), 4)
    group = np.repeat([0, 1], 10)
    perfect = _summary(confusion_counts(label, label, group, num_classes=5, num_groups=2))
    result = compare(_summary(_sample(4, "ab")[3]), perfect)
    assert result["fate_eodd"] is None
    assert result["undefined"]["fate_eodd"] == "reference gap is 0"
    assert result["changes"]["eodd"] > 0
    assert result["tag"] == "levelling down"
    with pytest.raises(ValueError, match="one mode"):
        compare(perfect, perfect | {"mode": "paper"})


def test_names_must_match_the_counts() -> None:
    with pytest.raises(ValueError, match="3 groups"):
        _summary(_sample(4, "ab")[3], "abc")


def test_metrics_need_numpy_only() -> None:
    program = (
        "import sys, trainables.metrics.summary, trainables.metrics.calibration, "
        "trainables.metrics.confusion; "
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'ray') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
