import hashlib
import struct

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from trainables.metrics.confusion import confusion_counts, counts_digest


def test_counts_equal_scikit_learn_per_group_and_leave_unknown_out() -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 5, 200), rng.integers(0, 6, 200)
    group = rng.integers(-1, 3, 200)
    count = confusion_counts(label, prediction, group, num_classes=7, num_groups=4)
    assert count.shape == (4, 7, 7)
    assert count.dtype == np.int64
    assert count.sum() == (group >= 0).sum()
    for g in range(3):
        of_group = group == g
        expected = confusion_matrix(label[of_group], prediction[of_group], labels=range(7))
        np.testing.assert_array_equal(count[g], expected)
    assert count[3].sum() == 0


def test_narrow_integer_types_do_not_wrap_round() -> None:
    label = np.array([19, 19], np.uint8)
    count = confusion_counts(label, label, np.array([0, 1], np.int8), num_classes=20, num_groups=2)
    assert count[0, 19, 19] == count[1, 19, 19] == 1


def test_no_samples_give_zero_counts() -> None:
    empty = np.array([], np.int64)
    assert confusion_counts(empty, empty, empty, num_classes=2, num_groups=2).sum() == 0


@pytest.mark.parametrize(
    ("label", "prediction", "group", "message"),
    [
        ([0, 3], [0, 0], [0, 0], "label must be in"),
        ([0, 1], [0, -1], [0, 0], "prediction must be in"),
        ([0, 1], [0, 1], [0, 2], "group must be in"),
        ([0, 1], [0.5, 1], [0, 1], "prediction must hold integers"),
        ([0, 1], [0], [0, 1], "equally long"),
    ],
)
def test_values_out_of_range_are_refused(label, prediction, group, message) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_counts(
            np.array(label), np.array(prediction), np.array(group), num_classes=3, num_groups=2
        )


def test_digest_is_of_the_canonical_bytes() -> None:
    count = np.arange(8).reshape(2, 2, 2)
    expected = hashlib.sha256(struct.pack("<3q8q", 2, 2, 2, *range(8))).hexdigest()
    assert counts_digest(count) == expected
    assert counts_digest(count.astype(np.int16)) == expected
    assert counts_digest(count.astype(">i8")) == expected
    assert counts_digest(np.asfortranarray(count)) == expected


def test_digest_tells_values_and_shapes_apart() -> None:
    count = np.arange(8).reshape(2, 2, 2)
    digests = {counts_digest(c) for c in (count, count + 1, count.reshape(8, 1, 1))}
    assert len(digests) == 3
