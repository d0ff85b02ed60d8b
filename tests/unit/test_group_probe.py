"""The linear probe against scikit-learn, and what adversaries do to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from trainables.baselines.base import Task
from trainables.data.augment import Augment
from trainables.data.base import TEST, VALIDATION, Dataset
from trainables.data.device import DeviceData
from trainables.metrics.probe import balanced_accuracy, fit_probe, group_predictability
from trainables.models.classifier import Classifier
from trainables.node import with_plan
from trainables.registry import backbones, baselines
from trainables.training import Trainer
from trainables.trial_spec import Compute, Recipe

torch.set_num_threads(1)


def sample(
    seed: int, num_groups: int, num: int = 120, num_features: int = 6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping, unequally frequent groups; features of different scale and offset."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, num_groups + 1) / sum(range(1, num_groups + 1))
    group_N = rng.choice(num_groups, num, p=share)
    centre_DF = rng.normal(size=(num_groups, num_features))
    feature_NF = centre_DF[group_N] + 1.5 * rng.normal(size=(num, num_features))
    scale_F = 10.0 ** rng.integers(-2, 3, num_features)
    return torch.from_numpy((feature_NF + 3) * scale_F), torch.from_numpy(group_N)


def standardised(feature_NF: torch.Tensor) -> torch.Tensor:
    return (feature_NF - feature_NF.mean(0)) / feature_NF.std(0, correction=0)


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_many_groups_equal_scikit_learn(seed: int, l2: float) -> None:
    feature_NF, group_N = sample(seed, 4)
    feature_NF = standardised(feature_NF)
    weight_DF, bias_D = fit_probe(feature_NF, group_N, 4, l2=l2)
    reference = LogisticRegression(C=1 / l2, class_weight="balanced", tol=1e-8, max_iter=2000)
    reference.fit(feature_NF.numpy(), group_N.numpy())
    assert np.allclose(weight_DF, reference.coef_, atol=1e-4)
    # biases are free up to a constant
    assert np.allclose(bias_D - bias_D.mean(), reference.intercept_, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_two_groups_equal_scikit_learn(seed: int) -> None:
    feature_NF, group_N = sample(seed, 2)
    feature_NF = standardised(feature_NF)
    weight_DF, bias_D = fit_probe(feature_NF, group_N, 2, l2=0.5)
    reference = LogisticRegression(C=2 / 0.5, class_weight="balanced", tol=1e-8, max_iter=2000)
    reference.fit(feature_NF.numpy(), group_N.numpy())
    assert np.allclose(weight_DF[1] - weight_DF[0], reference.coef_[0], atol=1e-4)
    assert float(bias_D[1] - bias_D[0]) == pytest.approx(reference.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("num_groups", [2, 4])
def test_predictability_equals_scikit_learns_balanced_accuracy(num_groups: int) -> None:
    feature_NF, group_N = sample(7, num_groups, num=300)
    fit, held = slice(0, 200), slice(200, 300)
    found = group_predictability(
        feature_NF[fit].float(), group_N[fit], feature_NF[held].float(), group_N[held], num_groups
    )
    mean_F, std_F = feature_NF[fit].mean(0), feature_NF[fit].std(0, correction=0)
    z = ((feature_NF - mean_F) / std_F).numpy()
    c = 2.0 if num_groups == 2 else 1.0
    reference = LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=2000)
    reference.fit(z[fit], group_N[fit].numpy())
    expected = balanced_accuracy_score(group_N[held].numpy(), reference.predict(z[held]))
    assert found == pytest.approx(expected, abs=1e-12)
    assert 1 / num_groups + 0.1 < found < 0.99


def test_balanced_accuracy_weighs_groups_alike() -> None:
    group_N = torch.tensor([0] * 8 + [1] * 2)
    predicted_N = torch.tensor([0] * 8 + [1, 0])
    assert balanced_accuracy(predicted_N, group_N) == pytest.approx((1 + 0.5) / 2)
    assert balanced_accuracy(torch.zeros(10, dtype=torch.int64), group_N) == 0.5


def test_unknown_groups_and_constant_features_change_nothing() -> None:
    feature_NF, group_N = sample(3, 2, num=200)
    expected = group_predictability(
        feature_NF[:100], group_N[:100], feature_NF[100:], group_N[100:], 2
    )
    rng = torch.Generator().manual_seed(0)
    place = torch.randperm(140, generator=rng)  # 40 rows of unknown group among those fitted on
    features = torch.cat([feature_NF[:100], 50 * torch.randn(40, 6, generator=rng)])[place]
    groups = torch.cat([group_N[:100], torch.full((40,), -1)])[place]
    features = torch.cat([features, torch.full((140, 1), 2.0)], dim=1)
    held = torch.cat([feature_NF[100:], torch.full((100, 1), 2.0)], dim=1)
    held = torch.cat([held, torch.zeros(5, 7)])
    held_groups = torch.cat([group_N[100:], torch.full((5,), -1)])
    found = group_predictability(features, groups, held, held_groups, 2)
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_fitted_is_refused() -> None:
    feature_NF, group_N = sample(0, 2)
    with pytest.raises(ValueError, match="l2 must be above 0"):
        fit_probe(feature_NF, group_N, 2, l2=0.0)
    with pytest.raises(ValueError, match="each of 3 groups needs a sample"):
        fit_probe(feature_NF, group_N, 3)
    nobody = torch.full_like(group_N, -1)
    with pytest.raises(ValueError, match="no held-out sample"):
        group_predictability(feature_NF, group_N, feature_NF, nobody, 2)


# Gratings under noise: faint rows against columns are the class, stronger diagonals the group. In
# training the group tells 9 of 10 classes (or 85 %); elsewhere it tells nothing of the class, so
# whatever a probe finds there was put into the features for the group's sake.
SIZE, NUM_TRAIN, NUM_HELD_OUT = 16, 1024, 512
ARMS: dict[str, dict[str, Any]] = {
    "vanilla": {"name": "vanilla"},
    "confusion": {"name": "adv_conf", "alpha": 0.3},
    "reversal": {"name": "adv_rev"},
    "projection": {"name": "adv_rev", "form": "projection", "alpha": 0.3},
}


def gratings(seed: int, link: float, class_amplitude: float) -> Dataset:
    rng = np.random.default_rng(seed)
    num = NUM_TRAIN + 2 * NUM_HELD_OUT
    label_N = rng.integers(0, 2, num)
    linked = rng.random(num) < np.where(np.arange(num) < NUM_TRAIN, link, 0.5)
    group_N = np.where(linked, label_N, 1 - label_N)
    row, column = np.mgrid[:SIZE, :SIZE]

    def grating(choice_N: np.ndarray, first: np.ndarray, second: np.ndarray, amplitude: float):
        along = np.where(choice_N[:, None, None] == 0, first, second)
        phase_N, strength_N = 2 * np.pi * rng.random(num), amplitude * (1 + rng.random(num))
        return strength_N[:, None, None] * np.sin(np.pi / 2 * along + phase_N[:, None, None])

    grey = grating(label_N, row, column, class_amplitude)
    grey += grating(group_N, row + column, row - column, 30) + rng.normal(0, 40, grey.shape)
    images = 128 + grey[..., None] + rng.normal(0, 10, (num, 1, 1, 3))
    name_N = np.array([f"image{k}" for k in range(num)])
    return Dataset(
        name="gratings",
        attribute="diagonal",
        image_size=SIZE,
        classes=("rows", "columns"),
        groups=("up", "down"),
        images_NHWC=images.clip(0, 255).astype(np.uint8),
        label_N=label_N,
        group_N=group_N,
        split_N=np.repeat([0, 1, 2], [NUM_TRAIN, NUM_HELD_OUT, NUM_HELD_OUT]).astype(np.int8),
        image_id_N=name_N,
        patient_id_N=name_N,
        fingerprint="gratings",
        group_digest="gratings",
    )


def small_net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for num_in, num_out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(num_in, num_out, 3, 2, 1, bias=False), nn.BatchNorm2d(num_out)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


def resnet(seed: int) -> nn.Module:
    backbone = backbones.get("resnet18")
    return backbone.build(backbone.Config(), 2, torch.Generator().manual_seed(seed))


@dataclass
class Probed:
    """Group predictability of features and of logits, and accuracy, where the group is no cue."""

    feature: float
    logit: float
    accuracy: float


def probed(arm: str, seed: int, data: Dataset, net: nn.Module, recipe: Recipe) -> Probed:
    cls = baselines.get(ARMS[arm]["name"])
    baseline = cls(cls.Config(**ARMS[arm], training=recipe), Task(num_classes=2, num_groups=2))
    torch.manual_seed(seed)
    model = with_plan(Classifier(net), baseline, {})
    trainer = Trainer(DeviceData(data, torch.device("cpu")), Compute().resolved("cpu"), seed, 0)
    trainer.fit(model, baseline, recipe)
    model.eval()
    rows = [torch.from_numpy(data.indices(split)) for split in (VALIDATION, TEST)]
    group_N, label_N = torch.from_numpy(data.group_N), torch.from_numpy(data.label_N)
    with torch.no_grad():
        fit, held = (model.forward_features(trainer.eval_images(recipe, r)) for r in rows)
    feature, logit = (
        group_predictability(fit[part], group_N[rows[0]], held[part], group_N[rows[1]], 2)
        for part in (0, 1)
    )
    accuracy = float((held[1].argmax(1) == label_N[rows[1]]).float().mean())
    return Probed(feature, logit, accuracy)


def recipe_of(epochs: int, learning_rate: float) -> Recipe:
    plain = Augment(horizontal_flip=0, vertical_flip=0)  # a flip would swap the diagonals
    return Recipe(
        epochs=epochs, batch_size=32, learning_rate=learning_rate, schedule="cosine",
        sampling="natural", normalise="imagenet", augment=plain,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_adversaries_lower_what_a_probe_finds(seed: int) -> None:
    data, recipe = gratings(seed, link=0.9, class_amplitude=14), recipe_of(5, 0.01)
    found = {arm: probed(arm, seed, data, small_net(seed), recipe) for arm in ARMS}
    vanilla = found["vanilla"]
    assert vanilla.feature > 0.85
    assert vanilla.logit > 0.7
    assert found["confusion"].feature < vanilla.feature - 0.08
    assert found["reversal"].feature < vanilla.feature - 0.15
    assert found["projection"].logit < min(0.6, vanilla.logit - 0.15)
    for arm in ("confusion", "reversal", "projection"):  # not by forgetting the class
        assert found[arm].accuracy > max(0.6, vanilla.accuracy - 0.06), arm


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_adversaries_lower_what_a_probe_finds_in_a_resnet(seed: int) -> None:
    data, recipe = gratings(seed, link=0.85, class_amplitude=12), recipe_of(6, 0.003)
    found = {arm: probed(arm, seed, data, resnet(seed), recipe) for arm in ARMS}
    vanilla = found["vanilla"]
    assert vanilla.feature > 0.9
    assert found["confusion"].feature < vanilla.feature - 0.05
    assert found["reversal"].feature < vanilla.feature - 0.08
    assert found["projection"].logit < vanilla.logit - 0.04
    for arm in ("confusion", "reversal", "projection"):
        assert found[arm].accuracy > max(0.6, vanilla.accuracy - 0.15), arm
