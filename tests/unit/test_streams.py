"""Random streams, and the pairing of arms that follows from them."""

import hashlib
import itertools
from collections import defaultdict

import pytest
import torch

from trainables import training
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.specs import validate
from trainables.store import Store
from trainables.streams import stream, stream_seed
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Trial

torch.set_num_threads(1)
PURPOSES = ("init", "order", "augment", "dropout", "select")


def test_every_purpose_iteration_epoch_and_seed_has_its_own_stream() -> None:
    points = list(itertools.product((0, 1, 12), PURPOSES, (0, 1, 2), (0, 1, 11)))
    points += [(1, purpose, 21, 1) for purpose in PURPOSES]  # 1/21 is not 12/1
    assert len({stream_seed(*point) for point in points}) == len(points)
    assert len({tuple(torch.rand(2, generator=stream(*p)).tolist()) for p in points}) == len(
        points
    )


def test_seeds_follow_from_the_point_alone() -> None:
    # SHA-256 of "fatefront/3/order/1/2", first 8 bytes, little-endian, without the lowest bit
    expected = int.from_bytes(hashlib.sha256(b"fatefront/3/order/1/2").digest()[:8], "little") // 2
    assert stream_seed(3, "order", 1, 2) == expected < 2**63
    torch.manual_seed(0)
    first = torch.randperm(50, generator=stream(3, "order", 1, 2))
    torch.manual_seed(1)
    assert torch.equal(first, torch.randperm(50, generator=stream(3, "order", 1, 2)))


RECIPE = {"epochs": 2, "batch_size": 16, "augment": {"degrees": 20, "crop": True}}
ARMS = {
    "none": {"criterion": "none"},
    "random": {"criterion": "random", "ratio": 0.1},
    "snnl": {"criterion": {"name": "snnl", "temperature": 0.5}, "ratio": 0.02},
}


def spec(arm: str, n: int, seed: int = 0) -> Trial:
    mapping = {
        "backbone": "resnet18",
        "baseline": {"name": "vanilla", "training": RECIPE | {"epochs": 1}},
        "prune": ARMS[arm] | {"site": "conv", "finetune": RECIPE},
        "n": n,
        "seed": seed,
    }
    return validate(Trial, mapping, place="test").resolved()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def arms(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple, dict[str, list]]:
    """What each fine-tuning saw: rows of its batches, augmentation draws, the very pixels."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    seen: dict[tuple, dict[str, list]] = {}
    now: defaultdict[str, list] = defaultdict(list)
    batches, draw, step = Trainer.batches, training.draw, Vanilla.step

    def saw_batches(self, recipe, epoch):
        out = batches(self, recipe, epoch)
        now["rows"].append([rows.tolist() for rows in out])
        return out

    def saw_draw(augment, num, generator):
        out = draw(augment, num, generator)
        now["draws"].append(out.column("degrees").tolist() + out.column("crop_row").tolist())
        return out

    def saw_step(self, model, batch, *rest):
        now["pixels"].append(hashlib.sha256(batch.image_NCHW.numpy().tobytes()).hexdigest())
        now["dropout"].append(torch.random.get_rng_state().sum().item())
        return step(self, model, batch, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "batches", saw_batches)
        patch.setattr(training, "draw", saw_draw)
        patch.setattr(Vanilla, "step", saw_step)
        points = [("none", 1, 0), ("random", 1, 0), ("snnl", 1, 0), ("none", 2, 0), ("snnl", 2, 0)]
        for arm, n, seed in [*points, ("none", 1, 1)]:
            (parent,) = spec(arm, n, seed).parents
            run_trial(parent, tiny, store)
            now.clear()
            run_trial(spec(arm, n, seed), tiny, store)
            seen[arm, n, seed] = dict(now)
            now.clear()
    return seen


@pytest.mark.parametrize("what", ["rows", "draws", "pixels", "dropout"])
def test_arms_see_identical_batches_and_augmentations(arms: dict, what: str) -> None:
    none = arms["none", 1, 0][what]
    assert len(none) == (2 if what in ("rows", "draws") else 4)  # 2 epochs of 2 batches
    assert arms["random", 1, 0][what] == none
    assert arms["snnl", 1, 0][what] == none
    assert arms["snnl", 2, 0][what] == arms["none", 2, 0][what]


@pytest.mark.parametrize("what", ["rows", "draws", "pixels"])
def test_epochs_iterations_and_seeds_see_different_ones(arms: dict, what: str) -> None:
    one = arms["none", 1, 0][what]
    half = len(one) // 2
    assert one[:half] != one[half:]
    assert one != arms["none", 2, 0][what]
    assert one != arms["none", 1, 1][what]
