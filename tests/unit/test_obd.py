"""Optimal Brain Damage: the saliency, the ranking, and masks that survive what follows."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.search.tree import full_tree
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import choice, one_of
from trainables.baselines.weight_pruning import lowest_masks, saliency
from trainables.data.base import TRAIN, Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.resnet import ResNet18
from trainables.node import load_model, make_baseline
from trainables.pruning.curvature import diagonal_curvature
from trainables.pruning.strata import choose_rows
from trainables.registry import baselines
from trainables.specs import validate
from trainables.store import Store
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import DataIdentity, Recipe, Trial, configuration_key, uses_group

torch.set_num_threads(1)
RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet", "learning_rate": 1e-2}
NUM_WEIGHTS = 11_166_912 + 512 * 3  # of the convolutions of a ResNet-18, and of its head


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The roots are trained once."""
    return Store(str(tmp_path_factory.mktemp("shared")))


def trial(prune: dict[str, Any] | None = None, **options: Any) -> Trial:
    small = {"max_images": 6, "curvature": "fisher"}
    document: dict[str, Any] = {
        "backbone": "resnet18",
        "baseline": {"name": "obd", "training": RECIPE} | small | options,
    }
    if prune is not None:
        document |= {"n": 1, "prune": {"ratio": 0.25, "finetune": RECIPE} | prune}
    return validate(Trial, document, place="test").resolved()


def loaded(store: Store, one: Trial, node: dict[str, Any], dataset: Dataset) -> Classifier:
    return load_model(store, node["key"], one, make_baseline(one, dataset))[0]


def test_saliency_is_the_exact_loss_change_on_a_quadratic() -> None:
    generator = torch.Generator().manual_seed(1)
    feature_NF = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    target_N = torch.randn(40, generator=generator, dtype=torch.float64)
    best_F = torch.linalg.lstsq(feature_NF, target_N[:, None]).solution[:, 0]

    def loss(weight_F: Tensor) -> float:
        return float(0.5 * (feature_NF @ weight_F - target_N).square().mean())

    diagonal = {"w": feature_NF.square().mean(0)[None].float()}  # of the Hessian x x'
    mine = saliency({"w": best_F}, diagonal, torch.ones(1))["w"]
    for j in range(5):
        without = best_F.clone()
        without[j] = 0
        assert float(mine[j]) == pytest.approx(loss(without) - loss(best_F), rel=1e-5)


def test_saliency_is_the_loss_change_of_softmax_regression_to_second_order() -> None:
    generator = torch.Generator().manual_seed(2)
    feature_NF = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    label_N = torch.randint(0, 3, (300,), generator=generator)  # noise: the best weights are small
    weight_KF = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_KF], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15
    )

    def loss(weight: Tensor) -> Tensor:
        return functional.cross_entropy(feature_NF @ weight.T, label_N)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(weight_KF)
        value.backward()
        return value

    optimizer.step(closure)
    best_KF = weight_KF.detach()
    diagonal = diagonal_curvature(
        lambda given, feature: feature @ given["w"].T,
        {"w": best_KF.float()},
        [(feature_NF.float(), label_N)],
        kind="gauss_newton",
    )
    mine = saliency({"w": best_KF}, {"w": diagonal["w"][None]}, torch.ones(1))["w"]
    for k in range(3):
        for j in range(4):
            without = best_KF.clone()
            without[k, j] = 0
            change = float(loss(without) - loss(best_KF))
            # what is left is of third order in the weight
            assert abs(float(mine[k, j]) - change) < 0.2 * abs(float(best_KF[k, j])) ** 3 + 1e-9
            assert float(mine[k, j]) == pytest.approx(change, rel=0.05, abs=1e-8)


@pytest.mark.parametrize("num", [0, 1, 7, 12, 23])
def test_the_lowest_of_all_tensors_go_and_of_equal_ones_the_first(num: int) -> None:
    score = {
        "a": torch.tensor([[0.5, 0.0, 2.0], [0.0, 0.5, -1.0]]),
        "b": torch.tensor([0.5, 0.5, -torch.inf, 3.0] + [0.25] * 14),
    }
    masks = lowest_masks(score, num)
    flat = np.concatenate([value.numpy().ravel() for value in score.values()])
    expected = np.ones(24)
    expected[np.argsort(flat, kind="stable")[:num]] = 0
    found = np.concatenate([mask.numpy().ravel() for mask in masks.values()])
    assert found.tolist() == expected.tolist()
    assert masks["a"].shape == (2, 3)


def test_a_derived_model_is_the_source_without_its_lowest_weights(
    dataset: Dataset, shared: Store
) -> None:
    """The masks follow from plain autograd over the stored source, image by image."""
    one = trial(ratio=0.85)  # at 32 pixels most weights of the last stage read only padding
    node = run_trial(one, dataset, shared)
    (parent,) = one.parents
    assert node["parents"][0]["key"] == run_trial(parent, dataset, shared)["key"]
    source, _ = load_model(
        shared, node["parents"][0]["key"], parent, make_baseline(parent, dataset)
    )
    model = loaded(shared, one, node, dataset)

    rows = torch.from_numpy(dataset.indices(TRAIN))
    pooled_N = torch.zeros(len(rows), dtype=torch.int64)
    rows = rows[choose_rows(pooled_N, 1, 6, stream(0, "select"))]
    assert len(rows) == 6
    trainer = Trainer(DeviceData(dataset, torch.device("cpu")), one.compute, one.seed, 0)
    names = [
        f"{name}.weight"
        for name, module in source.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    weights = [source.get_parameter(name) for name in names]
    fisher = [torch.zeros_like(weight) for weight in weights]
    source.eval()
    for i in range(len(rows)):
        logits_1K = source(trainer.eval_images(one.baseline.training, rows[i : i + 1]))
        label_1 = torch.tensor([dataset.label_N[int(rows[i])]])
        gradients = torch.autograd.grad(functional.cross_entropy(logits_1K, label_1), weights)
        for total, gradient in zip(fisher, gradients, strict=True):
            total.addcmul_(gradient, gradient, value=1 / len(rows))
    flat = torch.cat(
        [(h * w.detach() ** 2).flatten() for h, w in zip(fisher, weights, strict=True)]
    )
    assert len(flat) == NUM_WEIGHTS
    num = int(0.85 * NUM_WEIGHTS)
    inert = float((flat == 0).float().mean())
    assert 0.35 / 2 < inert < 0.85
    assert any(f"{100 * inert:.0f} % of the weights" in n for n in node["execution"]["notes"])
    assert node["model"]["num_masked"] == num
    highest = flat.kthvalue(num).values
    mask = torch.cat([model.masks[name].flatten() for name in names])
    clear = (flat - highest).abs() > 1e-3 * highest  # rounding decides about the others
    assert float(clear.float().mean()) > 0.99
    assert torch.equal(mask[clear], (flat > highest)[clear].float())

    for name, value in source.state_dict().items():
        expected = value * model.masks[name] if name in model.masks else value
        assert torch.equal(model.state_dict()[name], expected)  # nothing is trained


def test_steps_end_at_the_same_share_and_keep_what_was_zeroed(
    dataset: Dataset, shared: Store
) -> None:
    half, both = trial(), trial(ratio=0.7, steps=2)
    nodes = [run_trial(one, dataset, shared) for one in (half, both)]
    assert [n["model"]["num_masked"] for n in nodes] == [
        int(NUM_WEIGHTS * r + 1e-9) for r in (0.35, 0.7)
    ]
    first, last = (
        loaded(shared, one, n, dataset).masks for one, n in zip((half, both), nodes, strict=True)
    )
    assert all(not bool((last[name][first[name] == 0] != 0).any()) for name in first)


@pytest.mark.parametrize(
    ("criterion", "site"), [("none", "auto"), ("snnl", "conv"), ("snnl", "block")]
)
def test_masks_survive_fine_tuning_and_are_cut_along(
    criterion: str, site: str, dataset: Dataset, shared: Store
) -> None:
    one = trial({"criterion": criterion, "site": site})
    node = run_trial(one, dataset, shared)
    model = loaded(shared, one, node, dataset)
    root = one.chain[0]
    before = loaded(shared, root, run_trial(root, dataset, shared), dataset)
    kept = list(range(512))
    if criterion != "none":
        removed = node["plan"]["layer4.1.conv2"]["removed"]
        assert len(removed) == 128
        kept = [c for c in kept if c not in set(removed)]
    assert len(model.masks) == 21  # 20 convolutions and the head
    for name, mask in before.masks.items():
        if name == "net.layer4.1.conv2.weight":
            mask = mask[kept]
        if name == "net.fc.weight" and site == "block":
            mask = mask[:, kept]
        assert torch.equal(model.masks[name], mask)
        weight = model.get_parameter(name)
        assert not bool(weight[mask == 0].any())
    moved = model.get_parameter("net.conv1.weight") != before.get_parameter("net.conv1.weight")
    assert bool((moved & (before.masks["net.conv1.weight"] == 1)).any())  # it was fine-tuned


def test_the_root_is_computed_once_in_a_sweep() -> None:
    spec = SweepSpec(
        name="shared",
        data=Synthetic.Config(num_images=60),
        backbone=ResNet18.Config(),
        training=Recipe(epochs=3, learning_rate=0.02),
        baseline=one_of("vanilla", "obd", "fairprune"),
        prune={"criterion": "none", "finetune_loss": choice("baseline", "cross_entropy")},
        controls=(),
        iterations=1,
        seeds=(0, 1),
        search=Search(sampler="grid"),
    )
    tree = full_tree(spec, DataIdentity("data", "groups"), "cpu")
    roots = [node for node in tree.nodes.values() if node.trial.n == 0]
    names = [node.trial.baseline.name for node in roots]
    assert {name: names.count(name) for name in names} == {"vanilla": 2, "obd": 2, "fairprune": 2}
    for node in roots:
        if node.trial.baseline.name != "vanilla":
            assert node.parents == (node.compares_with["reference"],)
    # their loss is cross-entropy either way, so both ways to fine-tune are one trial
    assert sum(node.trial.n == 1 for node in tree.nodes.values()) == 6


def test_what_a_source_may_be() -> None:
    with pytest.raises(UserError, match=r"leave source\.training out"):
        trial(source={"name": "vanilla", "training": {"epochs": 3}})
    with pytest.raises(UserError, match="'mfd' needs its own sources"):
        trial(source="mfd")
    robust = trial(source={"name": "group_dro"})
    assert robust.parents[0].baseline.name == "group_dro"
    assert robust.parents[0].baseline.training == robust.baseline.training
    assert uses_group(robust)  # its loss goes on in fine-tuning
    assert not uses_group(trial())
    assert not baselines.get("obd").loss_is_plain(robust.baseline)
    assert configuration_key(robust) != configuration_key(trial())
    with pytest.raises(UserError, match="ratio"):
        trial(ratio=1.0)
