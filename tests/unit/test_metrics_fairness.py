import itertools
import math

import numpy as np
import pytest

from trainables.errors import UserError
from trainables.metrics.confusion import confusion_counts
from trainables.metrics.fairness import GAPS, demographic_parity, fairness_gaps


def _sample(seed: int, num_groups: int, num_classes: int = 7):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(8, 80))
    label = rng.integers(0, num_classes - 1, num)  # the last class is absent everywhere
    group = rng.integers(0, num_groups, num)
    group[:num_groups] = range(num_groups)
    label = np.where((group == 1) & (label == 2), 0, label)  # class 2 is absent from group 1
    prediction = np.where(rng.random(num) < 0.6, label, rng.integers(0, num_classes, num))
    count = confusion_counts(
        label, prediction, group, num_classes=num_classes, num_groups=num_groups
    )
    return label, prediction, group, count


def _loop_rates(label, prediction, group, g, c):
    """TPR, FPR, TNR of class c in group g counted row by row; None where nothing is to count."""
    tp = fp = tn = fn = 0
    for y, p, s in zip(label, prediction, group, strict=True):
        if s == g:
            tp += y == c and p == c
            fn += y == c and p != c
            fp += y != c and p == c
            tn += y != c and p != c
    return (
        tp / (tp + fn) if tp + fn else None,
        fp / (fp + tn) if fp + tn else None,
        tn / (fp + tn) if fp + tn else None,
    )


def _loop_gaps(label, prediction, group, pair, num_classes, mode):
    terms = {name: {} for name in GAPS}
    for c in range(num_classes):
        rates = [_loop_rates(label, prediction, group, g, c) for g in pair]
        if mode == "paper":
            rates = [tuple(0.0 if r is None else r for r in rate) for rate in rates]
        (tpr0, fpr0, tnr0), (tpr1, fpr1, tnr1) = rates
        if tnr0 is not None and tnr1 is not None:
            terms["eopp0"][c] = abs(tnr0 - tnr1)
        if tpr0 is not None and tpr1 is not None:
            terms["eopp1"][c] = abs(tpr0 - tpr1)
            if fpr0 is not None and fpr1 is not None:
                terms["eodd"][c] = abs((tpr0 - tpr1) + (fpr0 - fpr1)) / 2
                terms["eodd_hardt"][c] = (abs(tpr0 - tpr1) + abs(fpr0 - fpr1)) / 2
    value = {name: sum(t.values()) / len(t) if t else None for name, t in terms.items()}
    skipped = {name: set(range(num_classes)) - set(t) for name, t in terms.items()}
    return value, skipped


@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize("seed", range(12))
def test_two_groups_equal_loops_over_the_rows(seed: int, mode) -> None:
    label, prediction, group, count = _sample(seed, 2)
    expected, skipped = _loop_gaps(label, prediction, group, (0, 1), 7, mode)
    gaps = fairness_gaps(count, mode=mode)
    for name in GAPS:
        assert gaps[name].value == pytest.approx(expected[name], abs=1e-12)
        assert gaps[name].mean == gaps[name].value
        assert set(gaps[name].skipped_classes) == skipped[name]
        assert gaps[name].worst_pair == (0, 1)
    if mode == "corrected":
        assert {2, 6} <= set(gaps["eopp1"].skipped_classes)
    else:
        assert not any(gap.skipped_classes for gap in gaps.values())


@pytest.mark.parametrize("num_groups", [3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_more_groups_take_the_largest_and_the_mean_over_pairs(seed: int, num_groups: int) -> None:
    label, prediction, group, count = _sample(seed + 100, num_groups)
    per_pair = {
        pair: _loop_gaps(label, prediction, group, pair, 7, "corrected")
        for pair in itertools.combinations(range(num_groups), 2)
    }
    gaps = fairness_gaps(count)
    for name in GAPS:
        values = {p: v[name] for p, (v, _) in per_pair.items() if v[name] is not None}
        assert gaps[name].value == pytest.approx(max(values.values()), abs=1e-12)
        assert gaps[name].mean == pytest.approx(sum(values.values()) / len(values), abs=1e-12)
        assert values[gaps[name].worst_pair] == pytest.approx(gaps[name].value, abs=1e-12)
        assert set(gaps[name].undefined_pairs) == set(per_pair) - set(values)
        assert set(gaps[name].skipped_classes) == set().union(
            *(skipped[name] for _, skipped in per_pair.values())
        )


def test_a_perfect_classifier_has_no_gap_in_corrected_mode() -> None:
    label = np.array([0, 0, 1, 2, 2, 0, 1, 1, 1, 2])
    group = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    count = confusion_counts(label, label, group, num_classes=3, num_groups=2)
    for mode in ("corrected", "paper"):
        assert [gap.value for gap in fairness_gaps(count, mode=mode).values()] == [0.0] * 4


def test_a_class_that_one_group_lacks_counts_fully_in_paper_mode_only() -> None:
    label, group = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
    count = confusion_counts(label, label, group, num_classes=2, num_groups=2)
    paper, corrected = fairness_gaps(count, mode="paper"), fairness_gaps(count)
    assert paper["eopp1"].value == 0.5  # (|1 - 1| + |1 - 0|) / 2
    assert corrected["eopp1"].value == 0.0
    assert corrected["eopp1"].skipped_classes == (1,)
    # Group 1 holds class 0 alone, so that class has no negatives there.
    assert corrected["eopp0"].skipped_classes == (0,)


def test_opposite_differences_cancel_in_the_signed_sum_only() -> None:
    # Class 0: TPR .5 against .25, FPR .25 against .5.
    count = np.array([[[2, 2], [1, 3]], [[1, 3], [2, 2]]])
    gaps = fairness_gaps(count)
    assert gaps["eodd"].value == 0.0
    assert gaps["eodd_hardt"].value == 0.25
    assert gaps["eopp1"].value == gaps["eopp0"].value == 0.25


@pytest.mark.parametrize("seed", range(40))
def test_paper_eodd_lies_between_half_difference_and_half_sum(seed: int) -> None:
    gaps = fairness_gaps(_sample(seed, 2)[3], mode="paper")
    low = (gaps["eopp1"].value - gaps["eopp0"].value) / 2
    high = (gaps["eopp1"].value + gaps["eopp0"].value) / 2
    assert low - 1e-12 <= gaps["eodd"].value <= high + 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_gaps_do_not_depend_on_the_order_of_groups_or_classes(seed: int) -> None:
    count = _sample(seed, 3)[3]
    order = np.random.default_rng(seed).permutation(7)
    moved = count[[2, 0, 1]][:, order][:, :, order]
    for name, gap in fairness_gaps(count).items():
        other = fairness_gaps(moved)[name]
        assert gap.value == pytest.approx(other.value, abs=1e-12)
        assert set(gap.skipped_classes) == {int(order[c]) for c in other.skipped_classes}


def test_groups_without_a_common_class_are_undefined() -> None:
    label, group = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    count = confusion_counts(label, label, group, num_classes=2, num_groups=2)
    gaps = fairness_gaps(count)
    assert [gap.value for gap in gaps.values()] == [None] * 4
    assert gaps["eopp1"].undefined_pairs == ((0, 1),)


@pytest.mark.parametrize("num_groups", [1, 3])
def test_paper_mode_refuses_other_than_two_groups(num_groups: int) -> None:
    with pytest.raises(UserError, match=f"2 groups but got {num_groups}"):
        fairness_gaps(np.ones((num_groups, 2, 2), np.int64), mode="paper")


@pytest.mark.parametrize("num_groups", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_demographic_parity_equals_loops(seed: int, num_groups: int) -> None:
    _, prediction, group, count = _sample(seed, num_groups)
    spans = []
    for c in range(7):
        shares = [np.mean(prediction[group == g] == c) for g in range(num_groups)]
        spans.append(max(shares) - min(shares))
    assert demographic_parity(count) == pytest.approx(math.fsum(spans) / 7, abs=1e-12)


def test_demographic_parity_is_undefined_for_one_group_or_an_empty_one() -> None:
    assert demographic_parity(np.ones((1, 2, 2), np.int64)) is None
    count = np.ones((2, 2, 2), np.int64)
    count[1] = 0
    assert demographic_parity(count) is None
