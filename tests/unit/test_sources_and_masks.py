"""The baseline interface holds what later methods need: masks and teachers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import create_model
from torch import Tensor

from trainables.baselines.base import Baseline, Batch, cross_entropy
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.deriving import TrainingImages
from trainables.models.classifier import Classifier
from trainables.node import load_model, make_baseline
from trainables.registry import baselines
from trainables.specs import validate
from trainables.store import Store
from trainables.training import TrainingError
from trainables.trial import run_trial
from trainables.trial_spec import Trial

RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet", "learning_rate": 1e-3}
MASKED = ("net.fc.weight", "net.layer4.1.conv2.weight")


class Zeroed(Vanilla):
    """Derived from a trained vanilla net: every other input of two layers is masked."""

    derives = True

    @classmethod
    def sources(cls, config: Any) -> tuple[Any, ...]:
        return (Vanilla.Config(training=config.training),)

    def derive(self, model: Classifier, images: TrainingImages) -> None:
        for name in MASKED:
            mask = torch.ones_like(model.get_parameter(name))
            mask[:, ::2] = 0
            model.masks[name] = mask
        model.apply_masks()


class Student(Vanilla):
    """Learns from a frozen teacher, also while it is fine-tuned, as MFD would."""

    keeps_sources = True

    @classmethod
    def sources(cls, config: Any) -> tuple[Any, ...]:
        return (Vanilla.Config(training=config.training),)

    def begin(self, model: Classifier, sources: Sequence[Classifier]) -> None:
        (self.teacher,) = sources

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        with torch.no_grad():
            target_NK = self.teacher(batch.image_NCHW)
        output_NK = model(batch.image_NCHW)
        return cross_entropy(output_NK, batch.label_N) + (output_NK - target_NK).square().mean()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for cls in (Zeroed, Student):
        name = cls.__name__.lower()
        config = create_model(
            "Config",
            __base__=Baseline.Config,
            name=(Literal[name], name),  # type: ignore[valid-type]
        )
        baselines._classes[name] = type(cls.__name__, (cls,), {"Config": config, "name": name})
    yield
    for cls in (Zeroed, Student):
        del baselines._classes[cls.__name__.lower()]


def pruned(baseline: str, site: str) -> Trial:
    document = {
        "backbone": "resnet18",
        "baseline": {"name": baseline, "training": RECIPE},
        "prune": {"criterion": "random", "ratio": 0.25, "site": site, "finetune": RECIPE},
        "n": 1,
    }
    return validate(Trial, document, place="test").resolved()


@pytest.mark.parametrize("site", ["conv", "block"])
def test_masks_are_cut_with_their_channels_and_survive(
    site: str, tmp_path: Path, dataset: Dataset
) -> None:
    store, trial = Store(str(tmp_path)), pruned("zeroed", site)
    assert [parent.baseline.name for parent in trial.chain[0].parents] == ["vanilla"]
    node = run_trial(trial, dataset, store)
    model, _ = load_model(store, node["key"], trial, make_baseline(trial, dataset))
    removed = set(node["plan"]["layer4.1.conv2"]["removed"])
    left = [channel for channel in range(512) if channel not in removed]
    for name in MASKED:
        weight = model.get_parameter(name)
        assert model.masks[name].shape == weight.shape
        assert bool((weight[model.masks[name] == 0] == 0).all())
        assert bool((weight[model.masks[name] == 1] != 0).any())
    if site == "block":  # inputs of the head are the channels that were cut
        expected = torch.tensor([float(channel % 2) for channel in left])
        assert torch.equal(model.masks["net.fc.weight"][0], expected)


def test_a_teacher_is_there_while_fine_tuning(tmp_path: Path, dataset: Dataset) -> None:
    trial = pruned("student", "block")
    assert [parent.baseline.name for parent in trial.parents] == ["student", "vanilla"]
    node = run_trial(trial, dataset, Store(str(tmp_path)))
    assert len(node["parents"]) == 2


def test_no_teacher_is_asked_for_where_plain_cross_entropy_fine_tunes() -> None:
    trial = pruned("student", "block")
    assert trial.prune is not None
    plain = trial.prune.model_copy(update={"finetune_loss": "cross_entropy"})
    assert len(trial.model_copy(update={"prune": plain}).parents) == 1


def test_weights_that_break_in_the_last_step_are_a_failure(
    tmp_path: Path, dataset: Dataset
) -> None:
    document = {
        "backbone": "resnet18",
        "baseline": {"name": "vanilla", "training": {"epochs": 1, "learning_rate": 1e30}},
    }
    trial = validate(Trial, document, place="test").resolved()
    with pytest.raises(TrainingError, match=r"not finite|nan"):
        run_trial(trial, dataset, Store(str(tmp_path)))
