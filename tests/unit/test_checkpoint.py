"""Trainings that are interrupted and gone on with, for real on a tiny data set."""

import itertools
from pathlib import Path

import pytest
import torch
from test_trial import DATA, RECIPE, spec

from trainables import leaving
from trainables.checkpoint import CheckpointError, unpack
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.resuming import FOLDER, checkpoint_path, remove_needless
from trainables.store import Store
from trainables.training import TrainingError
from trainables.trial import identity, run_trial
from trainables.trial_spec import node_key

torch.set_num_threads(1)
LONG = RECIPE | {"epochs": 3, "schedule": "cosine", "early_stopping": {"patience": 3}}
AT_ONCE = 1e-9
"""Seconds: a checkpoint is due after the first epoch."""


class Killed(BaseException):
    """As a process that is gone: nothing is tidied up."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(Synthetic.Config(**DATA), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def straight(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Nobody disturbed these: a root, and its child."""
    store = Store(str(tmp_path_factory.mktemp("straight")))
    run_trial(spec(0, training=LONG), dataset, store)
    run_trial(spec(1, training=LONG, finetune=LONG), dataset, store)
    return store


def key_of(trial, dataset: Dataset) -> str:
    return node_key(trial, identity(dataset))


def interrupt(trial, dataset: Dataset, store: Store, after: int) -> Path:
    """Killed when so many epochs of this trial's own training are over; its checkpoint."""

    def report(what: str, done: int, of: int) -> None:
        path = Path(checkpoint_path(store, key_of(trial, dataset)))
        if done == after and (path.exists() or after == 1):
            raise Killed

    with pytest.raises(Killed):
        run_trial(trial, dataset, store, report=report, checkpoint_every=AT_ONCE)
    return Path(checkpoint_path(store, key_of(trial, dataset)))


@pytest.mark.parametrize("n", [0, 1])
def test_a_resumed_training_is_that_of_one_go(dataset, straight, tmp_path, n) -> None:
    store = Store(str(tmp_path))
    trial = spec(n, training=LONG, **({"finetune": LONG} if n else {}))
    if n:
        run_trial(spec(0, training=LONG), dataset, store)
    path = interrupt(trial, dataset, store, after=2)
    assert path.exists()
    torch.manual_seed(5)  # what the new process drew before must not matter
    node = run_trial(trial, dataset, store, checkpoint_every=60)
    assert node["execution"]["checkpoint"] == {"resumed_from": 1}
    expected = straight.node(key_of(trial, dataset))
    assert node["model"] == expected["model"]
    assert node["plan"] == expected["plan"]
    for name in ("curves.json", *(["scores.json"] if n else [])):
        assert store.read(node["key"], name) == straight.read(node["key"], name)
    assert not path.exists()
    if n:  # not scored again
        assert "score" not in node["execution"]["seconds"]
        assert "score" in expected["execution"]["seconds"]


SLOW = [pytest.param(damage, marks=pytest.mark.slow) for damage in ("half", "empty", "other node")]


@pytest.mark.parametrize("damage", ["flip", *SLOW])
def test_a_damaged_one_is_not_used(dataset, straight, tmp_path, damage) -> None:
    store = Store(str(tmp_path))
    trial = spec(0, training=LONG)
    path = interrupt(trial, dataset, store, after=2)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 4
    elif damage == "half":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    if damage == "other node":
        trial = spec(0, training=LONG | {"learning_rate": 0.02})
        path = path.rename(checkpoint_path(store, key_of(trial, dataset)))
    else:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            unpack(bytes(content))
    node = run_trial(trial, dataset, store, checkpoint_every=60)
    why = "of another node" if damage == "other node" else "damaged"
    assert node["execution"]["checkpoint"]["ignored"].startswith(why)
    assert "resumed_from" not in node["execution"]["checkpoint"]
    if damage != "other node":
        assert node["model"] == straight.node(node["key"])["model"]
    assert not path.exists()


def test_a_short_training_writes_none(dataset, straight, tmp_path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    put = []
    monkeypatch.setattr(store.storage, "put", lambda path, data: put.append(path))
    run_trial(spec(0, training=LONG), dataset, store, checkpoint_every=60)
    assert put
    assert not any(f"/{FOLDER}/" in path for path in put)


def test_a_machine_about_to_go_leaves_one_after_every_epoch(dataset, straight, tmp_path) -> None:
    """None is due for a minute; the notice comes in the first epoch."""
    store = Store(str(tmp_path))
    trial = spec(0, training=LONG)
    path = Path(checkpoint_path(store, key_of(trial, dataset)))
    there = []

    def report(what: str, done: int, of: int) -> None:
        there.append(path.exists())  # said before the epoch's own checkpoint
        leaving.ask_by(lambda: True)
        if done == 3:
            raise Killed

    try:
        with pytest.raises(Killed):
            run_trial(trial, dataset, store, report=report, checkpoint_every=60)
    finally:
        leaving.ask_by(None)
    assert there == [False, True, True]
    node = run_trial(trial, dataset, store, checkpoint_every=60)
    assert node["execution"]["checkpoint"] == {"resumed_from": 2}
    assert node["model"] == straight.node(node["key"])["model"]


def test_no_room_for_one_harms_nothing(dataset, straight, tmp_path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    put = store.storage.put

    def refuse(path: str, data: bytes) -> None:
        if f"/{FOLDER}/" in path:
            raise OSError(28, "No space left on device")
        put(path, data)

    monkeypatch.setattr(store.storage, "put", refuse)
    node = run_trial(spec(0, training=LONG), dataset, store, checkpoint_every=AT_ONCE)
    assert node["model"] == straight.node(node["key"])["model"]
    assert "checkpoint" not in node["execution"]


def test_a_training_that_failed_keeps_none(dataset, tmp_path) -> None:
    store = Store(str(tmp_path))
    trial = spec(0, training=LONG)
    path = Path(checkpoint_path(store, key_of(trial, dataset)))

    def report(what: str, done: int, of: int) -> None:
        if done == 2:
            assert path.exists()
            raise TrainingError("the loss is nan")

    with pytest.raises(TrainingError):
        run_trial(trial, dataset, store, report=report, checkpoint_every=AT_ONCE)
    assert not path.exists()


def test_what_a_killed_driver_left_goes_with_the_node(dataset, straight, tmp_path) -> None:
    store = Store(str(tmp_path))
    path = interrupt(spec(0, training=LONG), dataset, store, after=2)
    assert remove_needless(store) == 0  # another sweep may be at it
    assert path.exists()
    run_trial(spec(0, training=LONG), dataset, store)  # without checkpoints
    assert remove_needless(store) == 1
    assert not path.exists()


def test_a_slow_store_gets_fewer(dataset, tmp_path) -> None:
    """Writing takes at most a twentieth of the time."""
    from trainables.baselines.vanilla import Vanilla
    from trainables.checkpoint import Standing
    from trainables.node import make_baseline
    from trainables.resuming import Checkpoints
    from trainables.trial import initial_model

    trial = spec(0)
    baseline = make_baseline(trial, dataset)
    assert isinstance(baseline, Vanilla)
    model = initial_model(trial, baseline, torch.device("cpu"))
    optimizer = baseline.optimizer(model, trial.baseline.training)
    now = [0.0]
    checkpoints = Checkpoints(Store(str(tmp_path)), "a" * 32, 60.0, clock=lambda: now[0])

    def put(path: str, data: bytes) -> None:
        now[0] += 10

    checkpoints.store.storage.put = put
    checkpoints.resume(model, optimizer, baseline)
    written = []
    for _ in range(60):  # epochs of 15 seconds
        now[0] += 15
        before = checkpoints.num_written
        checkpoints.offer(model, optimizer, baseline, Standing(), [])
        if checkpoints.num_written > before:
            written.append(now[0])
    assert written[0] == 60 + 10
    assert len(written) == 5
    assert all(later - first >= 210 for first, later in itertools.pairwise(written))
