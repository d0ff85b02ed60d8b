"""From a stored trained model to the stored mask: OBD and FairPrune with the exact curvature.

Which weights are zeroed is computed again by plain autograd: the Jacobian of each image's logits,
``h_jj = sum_kl J_kj (p_k [k = l] - p_k p_l) J_lj``, in double precision, over a net of 1,000
weights that was really trained and stored.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.data.base import TRAIN, Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.models.base import Backbone
from trainables.models.classifier import Classifier
from trainables.node import load_model, make_baseline
from trainables.predictions import Predictions, split_counts
from trainables.pruning.strata import choose_rows
from trainables.registry import backbones
from trainables.specs import validate
from trainables.store import Store
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Trial

torch.set_num_threads(1)
RECIPE = {"epochs": 3, "batch_size": 16, "normalise": "imagenet", "learning_rate": 0.05}
RATIO, BETA = 0.35, 0.33
NUM_WEIGHTS = 3 * 8 * 9 + 8 * 8 * 9 + 8 * 3
NUM_ZEROED = int(RATIO * NUM_WEIGHTS)


class Small(nn.Module):
    """No weight of it is idle: every one has a curvature."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh()
        )
        self.fc = nn.Linear(8, num_outputs)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.fc(self.features(image_NCHW).mean((2, 3)))


class SmallNet(Backbone):
    """The same as a backbone."""

    name = "small_net"
    last_conv: ClassVar[str] = "features.2"
    default_site: ClassVar[str] = "conv"

    class Config(Backbone.Config):
        name: Literal["small_net"] = "small_net"

    @classmethod
    def construct(cls, config: Any, num_outputs: int, weights: Any) -> nn.Module:
        return Small(num_outputs)

    @classmethod
    def imagenet_weights(cls) -> Any:
        raise NotImplementedError

    @classmethod
    def head_prefix(cls) -> str:
        return "fc."


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    backbones._classes["small_net"] = SmallNet
    yield
    del backbones._classes["small_net"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(
        num_images=90, image_size=16, classes=("nv", "mel", "bcc"), minority_share=0.4
    )
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


def trial(name: str, prune: dict[str, Any] | None = None, **options: Any) -> Trial:
    exact = {"curvature": "gauss_newton", "max_images": 30}
    document: dict[str, Any] = {
        "backbone": "small_net",
        "baseline": {"name": name, "training": RECIPE} | exact | options,
    }
    if prune is not None:
        document |= {"n": 1, "prune": {"finetune": RECIPE} | prune}
    return validate(Trial, document, place="test").resolved()


def stored(one: Trial, dataset: Dataset, store: Store) -> tuple[Classifier, dict[str, Any]]:
    node = run_trial(one, dataset, store)
    return load_model(store, node["key"], one, make_baseline(one, dataset))[0], node


def curvature(model: Classifier, images: list[Tensor], names: list[str]) -> Tensor:
    """Mean over images of the Gauss-Newton matrix's diagonal, all tensors flattened (P,)."""
    model = model.double().eval()
    weights = [model.get_parameter(name) for name in names]
    total = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64)
    for image_1CHW in images:
        logits_K = model(image_1CHW.double())[0]
        rows = [torch.autograd.grad(one, weights, retain_graph=True) for one in logits_K]
        jacobian_KP = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        p_K = logits_K.detach().softmax(0)
        hessian_KK = torch.diag(p_K) - p_K[:, None] * p_K
        total += torch.einsum("kp,kl,lp->p", jacobian_KP, hessian_KK, jacobian_KP)
    return total / len(images)


def by_hand(one: Trial, dataset: Dataset, store: Store) -> tuple[Tensor, list[str]]:
    """The mask that the stored source's saliencies ask for (P,)."""
    (parent,) = one.parents
    source, node = stored(parent, dataset, store)
    names = [f"net.{layer}.weight" for layer in ("features.0", "features.2", "fc")]
    rows = torch.from_numpy(dataset.indices(TRAIN))
    group_N = torch.from_numpy(dataset.group_N.copy())[rows]
    fair = one.baseline.name == "fairprune"
    stratum_N = group_N if fair else torch.zeros_like(group_N)
    chosen = rows[choose_rows(stratum_N, 2 if fair else 1, 30, stream(0, "select"), balance=fair)]
    trainer = Trainer(DeviceData(dataset, torch.device("cpu")), one.compute, one.seed, 0)
    recipe = one.baseline.training
    images = [trainer.eval_images(recipe, chosen[i : i + 1]) for i in range(len(chosen))]
    weight_P = torch.cat([source.get_parameter(n).detach().flatten() for n in names]).double()
    if fair:
        privileged = better_served(node, dataset, store)
        of_group = [
            curvature(source, [x for x, r in zip(images, chosen, strict=True)
                               if int(dataset.group_N[r]) == g], names)
            for g in (0, 1)
        ]  # fmt: skip
        h_P = of_group[1 - privileged] - BETA * of_group[privileged]
    else:
        h_P = curvature(source, images, names)
    saliency_P = 0.5 * weight_P**2 * h_P
    ordered = saliency_P.sort().values
    gap = float(ordered[NUM_ZEROED] - ordered[NUM_ZEROED - 1])
    assert gap > 1e-5 * float(ordered[NUM_ZEROED].abs())  # rounding does not decide
    return (saliency_P >= ordered[NUM_ZEROED]).float(), names


def better_served(node: dict[str, Any], dataset: Dataset, store: Store) -> int:
    """The group with the higher macro F1, by a loop over the stored predictions' counts."""
    predictions = Predictions.from_bytes(store.read(node["key"], "validation.npz"))
    count_GCC = split_counts(dataset, "validation", predictions)
    scores = []
    for count_CC in count_GCC:
        f1 = [
            2 * count_CC[c, c] / (count_CC[c].sum() + count_CC[:, c].sum())
            for c in range(3)
            if count_CC[c].sum() + count_CC[:, c].sum()
        ]
        scores.append(np.mean(f1))
    return int(np.argmax(scores))


@pytest.mark.parametrize("name", ["obd", "fairprune"])
def test_the_stored_mask_is_that_of_the_exact_gauss_newton_diagonal(
    name: str, dataset: Dataset, store: Store
) -> None:
    one = trial(name)
    assert (one.baseline.ratio, one.baseline.curvature) == (RATIO, "gauss_newton")
    model, node = stored(one, dataset, store)
    expected_P, names = by_hand(one, dataset, store)
    assert set(model.masks) == set(names)
    found_P = torch.cat([model.masks[n].flatten() for n in names])
    assert torch.equal(found_P, expected_P)
    assert node["model"]["num_masked"] == int((found_P == 0).sum()) == NUM_ZEROED
    source, _ = stored(one.parents[0], dataset, store)
    for tensor, value in source.state_dict().items():  # and nothing else is changed
        kept = value * model.masks[tensor] if tensor in model.masks else value
        assert torch.equal(model.state_dict()[tensor], kept)


def test_the_two_zero_other_weights(dataset: Dataset, store: Store) -> None:
    """So that a mask of the one would not pass for the other's."""
    masks = [by_hand(trial(name), dataset, store)[0] for name in ("obd", "fairprune")]
    assert int((masks[0] != masks[1]).sum()) > 0


@pytest.mark.parametrize("name", ["obd", "fairprune"])
@pytest.mark.parametrize("criterion", ["none", "snnl"])
def test_the_mask_survives_later_fine_tuning(
    name: str, criterion: str, dataset: Dataset, store: Store
) -> None:
    one = trial(name, {"criterion": criterion, "ratio": 0.25, "site": "conv"})
    root, _ = stored(one.chain[0], dataset, store)
    model, node = stored(one, dataset, store)
    removed = node["plan"].get("features.2", {}).get("removed", [])
    assert len(removed) == (2 if criterion == "snnl" else 0)
    kept = [c for c in range(8) if c not in removed]
    for layer, mask in root.masks.items():
        mask = mask[kept] if layer == "net.features.2.weight" else mask
        mask = mask[:, kept] if layer == "net.fc.weight" else mask
        assert torch.equal(model.masks[layer], mask)
        weight = model.get_parameter(layer)
        assert not bool(weight[mask == 0].any())
        assert bool((weight[mask == 1] != 0).all())
    before, after = (m.get_parameter("net.features.0.weight") for m in (root, model))
    moved = (before != after)[root.masks["net.features.0.weight"] == 1]
    assert float(moved.float().mean()) > 0.9  # all that is left was trained
