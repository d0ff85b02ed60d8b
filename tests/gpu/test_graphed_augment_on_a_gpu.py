"""Augmentation recorded as a CUDA graph gives the same images as its kernels alone, to the bit."""

from pathlib import Path

import pytest
import torch

from trainables.data import graphed_augment
from trainables.data.augment import PAPER, Augment
from trainables.data.base import Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.store import Store
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Recipe, Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
STRONG = Augment(
    crop=True, degrees=180, scale=(0.8, 1.2), brightness=0.1, saturation=0.5, cutout=8
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=300, image_size=64, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def nothing_recorded():
    graphed_augment._kept.clear()


def spec(augment: Augment, epochs: int = 2) -> Trial:
    recipe = {"epochs": epochs, "batch_size": 32, "learning_rate": 0.01, "augment": augment}
    return Trial(
        backbone={"name": "resnet18"}, seed=0, baseline={"name": "vanilla", "training": recipe}
    ).resolved("cuda")


def images(dataset: Dataset, recipe: Recipe) -> list[torch.Tensor]:
    trial = spec(recipe.augment)
    trainer = Trainer(DeviceData(dataset, torch.device("cuda")), trial.compute, 0, 0)
    return [
        batch.image_NCHW for epoch in (0, 1) for batch in trainer.training_batches(recipe, epoch)
    ]


@pytest.mark.parametrize("normalise", ["none", "imagenet"])
@pytest.mark.parametrize("augment", [Augment(), STRONG])
def test_the_same_images_as_without_a_graph(dataset, augment, normalise, monkeypatch):
    recipe = spec(augment).baseline.training.model_copy(update={"normalise": normalise})
    graphed = images(dataset, recipe)
    assert len(graphed_augment._kept) == 1  # recorded once for all batches of both epochs
    monkeypatch.setattr(graphed_augment, "MOST_PIXELS", 0)
    graphed_augment._kept.clear()
    plain = images(dataset, recipe)
    assert not graphed_augment._kept
    assert len(graphed) == len(plain) > 6
    for one, other in zip(graphed, plain, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    assert not torch.equal(graphed[0], graphed[1])


def test_another_augmentation_is_another_graph(dataset):
    images(dataset, spec(Augment()).baseline.training)
    images(dataset, spec(STRONG).baseline.training)
    assert len(graphed_augment._kept) == 2


def test_what_depends_on_the_draws_is_not_recorded(dataset):
    images(dataset, spec(PAPER).baseline.training)
    assert not graphed_augment._kept


def test_a_trial_has_the_same_weights(dataset, tmp_path: Path, monkeypatch):
    torch.backends.cudnn.deterministic = True
    trial = spec(STRONG)
    run_trial(trial, dataset, Store(str(tmp_path / "graphed")), device="cuda")
    monkeypatch.setattr(graphed_augment, "MOST_PIXELS", 0)
    graphed_augment._kept.clear()
    run_trial(trial, dataset, Store(str(tmp_path / "plain")), device="cuda")
    weights = [
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*.safetensors"))]
        for name in ("graphed", "plain")
    ]
    assert weights[0]
    assert weights[0] == weights[1]
