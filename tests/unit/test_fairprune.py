"""FairPrune: how the groups are weighed, who is privileged, and what becomes of the masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.baselines.base import Batch, Task
from trainables.baselines.fairprune import FairPrune
from trainables.baselines.obd import OptimalBrainDamage
from trainables.baselines.weight_pruning import saliency
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.deriving import TrainingImages
from trainables.errors import UserError
from trainables.measurement import measure_node
from trainables.models.classifier import Classifier
from trainables.node import load_model, make_baseline
from trainables.pruning.base import ScoringError
from trainables.pruning.curvature import group_curvature, logits_of
from trainables.pruning.strata import group_weights
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import identity, run_trial
from trainables.trial_spec import Trial, node_key

torch.set_num_threads(1)
RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet", "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The roots are trained once."""
    return Store(str(tmp_path_factory.mktemp("shared")))


def trial(prune: dict[str, Any] | None = None, **options: Any) -> Trial:
    document: dict[str, Any] = {
        "backbone": "resnet18",
        "baseline": {"name": "fairprune", "training": RECIPE, "max_images": 6} | options,
    }
    if prune is not None:
        document |= {"n": 1, "prune": {"ratio": 0.25, "finetune": RECIPE} | prune}
    return validate(Trial, document, place="test").resolved()


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.fc(self.conv(image_NCHW).tanh().mean((2, 3)))


def tiny() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Classifier(Tiny())


NUM = 24


def images(group_N: Tensor, counts: np.ndarray | None = None) -> tuple[TrainingImages, list[str]]:
    generator = torch.Generator().manual_seed(8)
    image_NCHW = torch.rand(NUM, 3, 6, 6, generator=generator)
    image_NCHW[group_N == 1] *= 3
    label_N = torch.randint(0, 3, (NUM,), generator=generator)
    notes: list[str] = []

    def make(rows: Tensor) -> Batch:
        return Batch(image_NCHW[rows], label_N[rows], group_N[rows], 0.0)

    def validation_counts() -> np.ndarray:
        assert counts is not None
        return counts

    drawn = torch.Generator().manual_seed(1)
    return TrainingImages(
        label_N, group_N, 5, make, drawn, validation_counts, notes.append
    ), notes


def derived(baseline: Any, group_N: Tensor, counts: np.ndarray | None = None) -> Classifier:
    model = tiny()
    baseline.derive(model, images(group_N, counts)[0])
    return model


def fairprune(groups: tuple[str, ...], **options: Any) -> FairPrune:
    options = {"curvature": "gauss_newton", "balance": False} | options
    task = Task(num_classes=3, num_groups=len(groups), groups=groups)
    return FairPrune(FairPrune.Config(**options), task)


def same_masks(one: Classifier, other: Classifier) -> bool:
    return all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_images_can_be_gone_through_again_and_again() -> None:
    made, _ = images(torch.zeros(NUM, dtype=torch.int64))
    assert len(made) == 5  # 24 images in batches of 5
    for _ in range(2):
        assert torch.equal(torch.cat([batch.label_N for batch in made]), made.label_N)
    rows = torch.tensor([7, 2, 3, 20, 1, 0])
    assert torch.equal(torch.cat([b.label_N for b in made.batches(rows)]), made.label_N[rows])


def test_saliency_of_two_and_of_three_groups_by_hand() -> None:
    weight = {"w": torch.tensor([2.0, -1.0])}
    two = {"w": torch.tensor([[0.5, 3.0], [4.0, 1.0]])}
    # 1/2 theta^2 (h_unprivileged - beta h_privileged), the second group privileged
    expected = [0.5 * 4 * (0.5 - 0.25 * 4.0), 0.5 * 1 * (3.0 - 0.25 * 1.0)]
    assert saliency(weight, two, group_weights(2, 1, 0.25))["w"].tolist() == expected
    three = {"w": torch.tensor([[0.5, 3.0], [4.0, 1.0], [2.0, 6.0]])}
    expected = [0.5 * 4 * (0.25 - 0.25 * 4 + 1.0), 0.5 * (1.5 - 0.25 + 3.0)]
    assert saliency(weight, three, group_weights(3, 1, 0.25))["w"].tolist() == expected


def test_the_lowest_of_the_weighed_saliency_are_zeroed() -> None:
    group_N = torch.tensor([0, 1, 1, -1] * 6)
    model = tiny()
    made, _ = images(group_N)
    parameters = {f"net.{n}": p.detach() for n, p in model.net.named_parameters() if p.dim() > 1}
    diagonal, num_G = group_curvature(
        logits_of(model, fairprune(("a", "b"))),
        parameters,
        ((batch.image_NCHW, batch.label_N, batch.group_N, batch.group_N) for batch in made),
        2,
        kind="gauss_newton",
    )
    assert num_G.tolist() == [6, 12]
    for options, weights in (
        ({"privileged": "b"}, (1.0, -0.33)),
        ({"privileged": "a", "beta": 0.7}, (-0.7, 1.0)),
        ({"group_weights": {"b": 0.5, "a": 2.0}}, (2.0, 0.5)),
    ):
        flat = torch.cat(
            [
                (p**2 * (weights[0] * diagonal[n][0] + weights[1] * diagonal[n][1]) / 2).flatten()
                for n, p in parameters.items()
            ]
        )
        expected = torch.ones(len(flat))
        expected[flat.argsort()[: int(0.35 * len(flat))]] = 0
        masks = derived(fairprune(("a", "b"), **options), group_N).masks
        assert torch.equal(torch.cat([mask.flatten() for mask in masks.values()]), expected)


def test_without_groups_to_weigh_it_is_optimal_brain_damage() -> None:
    """One group with weight 1; and beta 0, where only the unprivileged group's images count."""
    config = OptimalBrainDamage.Config(curvature="gauss_newton")
    plain = OptimalBrainDamage(config, Task(3, 1))
    one_group_N = torch.zeros(NUM, dtype=torch.int64)
    alone = fairprune(("all",), group_weights={"all": 1.0})
    assert same_masks(derived(alone, one_group_N), derived(plain, one_group_N))

    last_N = one_group_N.clone()
    last_N[-1] = 1
    without = fairprune(("a", "b"), privileged="b", beta=0.0)
    unknown_N = one_group_N.clone()
    unknown_N[-1] = -1
    seen = fairprune(("all",), group_weights={"all": 1.0})
    assert same_masks(derived(without, last_N), derived(seen, unknown_N))
    assert not same_masks(
        derived(fairprune(("a", "b"), privileged="b", beta=5.0), last_N), derived(seen, unknown_N)
    )


def test_auto_is_the_group_with_the_higher_macro_f1() -> None:
    group_N = torch.tensor([0, 1] * (NUM // 2))
    good, poor = np.diag([4, 4, 4]), np.full((3, 3), 2)
    made, notes = images(group_N, np.stack([poor, good]))
    assert fairprune(("a", "b")).stratum_weights(made).tolist() == pytest.approx([1, -0.33])
    assert notes == ["fairprune: privileged group is b (validation macro F1: a 0.3333, b 1.0000)"]
    made, _ = images(group_N, np.stack([good, poor]))
    assert fairprune(("a", "b")).stratum_weights(made).tolist() == pytest.approx([-0.33, 1])
    empty = np.zeros((3, 3), dtype=int)
    made, _ = images(group_N, np.stack([empty, poor]))  # nothing is known of the first
    assert fairprune(("a", "b")).stratum_weights(made).tolist() == pytest.approx([1, -0.33])
    made, _ = images(group_N, np.stack([empty, empty]))
    with pytest.raises(ScoringError, match="no validation image"):
        fairprune(("a", "b")).stratum_weights(made)


def test_balance_takes_equally_many_images_of_each_group() -> None:
    group_N = torch.tensor([0] * 16 + [1] * 5 + [-1] * 3)
    seen: dict[bool, list[int]] = {}
    for balance in (True, False):
        made, _ = images(group_N)
        counted: list[Tensor] = []

        def make(rows: Tensor, made: Any = made, counted: Any = counted) -> Batch:
            counted.append(group_N[rows])
            return made.make(rows)

        counting = TrainingImages(
            made.label_N, group_N, 5, make, made.generator, made.validation_counts, made.note
        )
        fairprune(("a", "b"), privileged="a", balance=balance).derive(tiny(), counting)
        seen[balance] = torch.bincount(torch.cat(counted), minlength=2).tolist()
    assert seen == {True: [5, 5], False: [16, 5]}


def test_names_are_checked_before_anything_is_trained(dataset: Dataset, tmp_path: Path) -> None:
    one, store = trial(privileged="lihgt"), Store(str(tmp_path))
    with pytest.raises(UserError, match=r"unknown group 'lihgt', did you mean 'light'\?.*dark"):
        run_trial(one, dataset, store)
    assert store.node(node_key(one.parents[0], identity(dataset))) is None
    for options, words in (
        ({"group_weights": {"light": 1.0}}, "no weight for group 'dark'"),
        ({"group_weights": {"light": 1.0, "dark": 1.0, "grey": 1.0}}, "unknown group 'grey'"),
    ):
        with pytest.raises(UserError, match=words):
            make_baseline(trial(**options), dataset)
    with pytest.raises(UserError, match="at least two groups but got 1"):
        fairprune(("all",))
    with pytest.raises(UserError, match="either group_weights, or beta"):
        trial(privileged="dark", group_weights={"light": 1.0, "dark": 1.0})


def test_auto_and_the_group_it_finds_give_the_same_model(dataset: Dataset, shared: Store) -> None:
    auto = trial()
    node = run_trial(auto, dataset, shared)
    root = node_key(auto.parents[0], identity(dataset))
    f1 = {
        name: figures["f1"]
        for name, figures in measure_node(shared, root, dataset, "corrected")["metrics"][
            "validation"
        ]["groups"].items()
    }
    better = max(f1, key=lambda name: f1[name])
    told = ", ".join(f"{name} {value:.4f}" for name, value in f1.items())
    assert (
        f"fairprune: privileged group is {better} (validation macro F1: {told})"
        in node["execution"]["notes"]
    )
    other = next(name for name in f1 if name != better)
    named, opposite = (run_trial(trial(privileged=g), dataset, shared) for g in (better, other))
    assert len({node["key"], named["key"], opposite["key"]}) == 3  # the group is part of the key
    assert named["model"]["weights_sha256"] == node["model"]["weights_sha256"]
    assert opposite["model"]["weights_sha256"] != node["model"]["weights_sha256"]


@pytest.mark.parametrize("criterion", ["none", "snnl"])
def test_masks_stay_through_fine_tuning(criterion: str, dataset: Dataset, shared: Store) -> None:
    one = trial({"criterion": criterion})
    node = run_trial(one, dataset, shared)
    model, _ = load_model(shared, node["key"], one, make_baseline(one, dataset))
    assert len(model.masks) == 21
    zero = 0
    for name, mask in model.masks.items():
        weight = model.get_parameter(name)
        assert mask.shape == weight.shape
        assert not bool(weight[mask == 0].any())
        zero += int((mask == 0).sum())
    assert node["model"]["num_masked"] == zero
    assert model.net.fc.in_features == (512 if criterion == "none" else 384)
