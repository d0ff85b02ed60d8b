"""Class-balanced sampling knows the training split and nothing else."""

import numpy as np
import pytest
import torch

from trainables.data.base import Dataset
from trainables.data.device import DeviceData
from trainables.training import Trainer
from trainables.trial_spec import Compute, Recipe


def dataset(test_label_N: np.ndarray) -> Dataset:
    """90 training images of class 0 and 10 of class 1, two groups, and a test split at will."""
    label_N = np.concatenate([np.repeat([0, 1], [90, 10]), test_label_N])
    num = len(label_N)
    return Dataset(
        name="made",
        attribute="group",
        image_size=8,
        classes=("a", "b"),
        groups=("g", "h"),
        images_NHWC=np.zeros((num, 8, 8, 3), np.uint8),
        label_N=label_N,
        group_N=np.arange(num) % 4 // 3 - (np.arange(num) == 5),
        split_N=np.repeat([0, 2], [100, len(test_label_N)]).astype(np.int8),
        image_id_N=np.array([f"i{k}" for k in range(num)]),
        patient_id_N=np.array([f"p{k}" for k in range(num)]),
        fingerprint="made",
        group_digest="made",
    )


def epochs(data: Dataset, sampling: str) -> torch.Tensor:
    trainer = Trainer(DeviceData(data, torch.device("cpu")), Compute(), seed=0, iteration=0)
    recipe = Recipe(batch_size=50, sampling=sampling)  # type: ignore[arg-type]
    return torch.cat([rows for epoch in range(40) for rows in trainer.batches(recipe, epoch)])


def test_classes_are_balanced_within_the_training_split() -> None:
    shifted = dataset(np.repeat([0, 1], [10, 400]))
    rows = epochs(shifted, "class")
    assert int(rows.max()) < 100
    share = float((torch.from_numpy(shifted.label_N)[rows] == 1).float().mean())
    assert share == pytest.approx(0.5, abs=0.03)  # sd .008 for 4,000 draws


@pytest.mark.parametrize("sampling", ["natural", "class", "group", "class_group"])
def test_the_other_splits_do_not_move_a_batch(sampling: str) -> None:
    one = epochs(dataset(np.repeat([0, 1], [10, 400])), sampling)
    other = epochs(dataset(np.repeat([0, 1], [400, 10])), sampling)
    assert torch.equal(one, other)


def test_groups_are_balanced_and_unknown_ones_left_out() -> None:
    data = dataset(np.zeros(0, dtype=np.int64))
    group_N = torch.from_numpy(data.group_N)[epochs(data, "group")]
    assert int((group_N < 0).sum()) == 0
    assert float(group_N.float().mean()) == pytest.approx(0.5, abs=0.03)
