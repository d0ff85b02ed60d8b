"""Batches of few classes with many images each."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from test_sampling import dataset

from trainables.data.device import DeviceData
from trainables.sampling import class_grouped
from trainables.training import Trainer
from trainables.trial_spec import Compute, Recipe

LABEL_N = np.repeat(np.arange(40), np.arange(10, 50))  # 40 classes of 10 to 49 images


def epoch(label_N: np.ndarray, batch_size: int, seed: int = 0) -> list[np.ndarray]:
    batches = class_grouped(label_N, batch_size, torch.Generator().manual_seed(seed))
    return [rows.numpy() for rows in batches]


def test_a_batch_holds_few_classes_with_many_images() -> None:
    batches = epoch(LABEL_N, 64)
    assert len(batches) == len(LABEL_N) // 64
    for rows in batches:
        assert len(rows) == 64
        _, counts = np.unique(LABEL_N[rows], return_counts=True)
        assert set(counts.tolist()) <= {16, 32}  # 32: the class ended one round and began the next


def test_classes_are_equally_frequent_and_images_go_round() -> None:
    batches, others = epoch(LABEL_N, 64), epoch(LABEL_N, 64, seed=1)
    rows = np.concatenate(batches)
    blocks = np.bincount(LABEL_N[rows], minlength=40) / 16
    assert blocks.max() - blocks.min() <= 1
    for label in range(40):
        times = np.bincount(rows[LABEL_N[rows] == label], minlength=len(LABEL_N))
        own = times[np.flatnonzero(np.equal(LABEL_N, label))]
        assert own.max() - own.min() <= 1
    assert not np.array_equal(batches[0], others[0])


@pytest.mark.parametrize(
    ("batch_size", "blocks"),
    [(100, [17, 17, 17, 17, 16, 16]), (16, [8, 8]), (33, [17, 16]), (2, [1, 1])],
)
def test_blocks_are_even(batch_size: int, blocks: list[int]) -> None:
    for rows in epoch(LABEL_N, batch_size)[:5]:
        label_N = LABEL_N[rows]
        starts = np.cumsum([0, *blocks])
        assert len(rows) == batch_size
        for start, end in pairwise(starts):
            assert len(set(label_N[start:end])) == 1


def test_few_images_are_one_batch_and_few_classes_are_balanced() -> None:
    (rows,) = epoch(np.repeat([0, 1], [5, 2]), 128)
    assert len(rows) == 7
    label_N = np.repeat([0, 3, 5], [100, 20, 10])  # classes that the training split lacks
    for rows in epoch(label_N, 96):
        assert np.bincount(label_N[rows]).tolist() == [32, 0, 0, 32, 0, 32]


def test_the_trainer_draws_them_from_the_order_stream() -> None:
    data = dataset(np.repeat([0, 1], [10, 400]))
    recipe = Recipe(batch_size=50, sampling="class_grouped")

    def batches(seed: int, number: int) -> list[list[int]]:
        trainer = Trainer(DeviceData(data, torch.device("cpu")), Compute(), seed, iteration=0)
        return [rows.tolist() for rows in trainer.batches(recipe, number)]

    assert batches(0, 0) == batches(0, 0)
    assert len({str(batches(seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4
    flat = np.concatenate(batches(0, 0))
    assert flat.max() < 100  # the training split
    assert len(batches(0, 0)) == 2
    for rows in batches(0, 0):  # 3 blocks of two classes
        counts = np.bincount(data.label_N[rows])
        assert sorted(counts.tolist()) in ([16, 34], [17, 33])
