"""How often each image is drawn under each sampling; other splits do not matter."""

import dataclasses
from collections import Counter

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


def interleaved() -> Dataset:
    """Every other image is for training; of these some have no known group."""
    data = dataset(np.tile([0, 1, 1], 30))
    place = np.random.default_rng(0).permutation(len(data.label_N))
    columns = ("images_NHWC", "label_N", "group_N", "split_N", "image_id_N", "patient_id_N")
    moved = {name: getattr(data, name)[place] for name in columns}
    moved["group_N"][np.flatnonzero(moved["split_N"] == 0)[::9]] = -1
    return dataclasses.replace(data, **moved)


CELLS = {
    "natural": lambda label, group: 0,
    "class": lambda label, group: label,
    "group": lambda label, group: group if group >= 0 else None,
    "class_group": lambda label, group: (label, group) if group >= 0 else None,
}


@pytest.mark.parametrize("sampling", CELLS)
def test_cells_are_drawn_alike_and_images_alike_within_a_cell(sampling: str) -> None:
    data = interleaved()
    cell: dict[int, object] = {}
    for row in np.flatnonzero(data.split_N == 0).tolist():
        cell[row] = CELLS[sampling](int(data.label_N[row]), int(data.group_N[row]))
    sizes = Counter(c for c in cell.values() if c is not None)
    assert len(sizes) == {"natural": 1, "class": 2, "group": 2, "class_group": 4}[sampling]
    rows = epochs(data, sampling)
    drawn = Counter(rows.tolist())
    assert set(drawn) <= {row for row, c in cell.items() if c is not None}
    for row, c in cell.items():
        p = 1 / (len(sizes) * sizes[c]) if c is not None else 0.0
        expected, sd = len(rows) * p, (len(rows) * p * (1 - p)) ** 0.5
        assert abs(drawn[row] - expected) <= 4.5 * sd, (row, c)  # 1 in 1,000 tests by chance
    if sampling in ("natural", "class"):  # images of unknown group are trained on
        assert sum(drawn[row] for row in cell if data.group_N[row] < 0) > 0


def test_natural_sampling_is_a_new_permutation_each_epoch() -> None:
    data = interleaved()
    recipe = Recipe(batch_size=30, sampling="natural")

    def order(seed: int, iteration: int, epoch: int) -> list[int]:
        trainer = Trainer(DeviceData(data, torch.device("cpu")), Compute(), seed, iteration)
        batches = trainer.batches(recipe, epoch)
        assert [len(rows) for rows in batches] == [30, 30, 30]  # ten images are left for next time
        return torch.cat(batches).tolist()

    train = set(np.flatnonzero(data.split_N == 0).tolist())
    orders = [order(0, 0, 0), order(0, 0, 1), order(0, 1, 0), order(1, 0, 0)]
    for each in orders:
        assert len(set(each)) == 90
        assert set(each) < train
    assert len({tuple(each) for each in orders}) == 4
    assert order(0, 0, 0) == orders[0]
