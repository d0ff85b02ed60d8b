"""GroupDRO: the weights against their closed form, and what the net descends."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainables.baselines.base import Batch, Task
from trainables.baselines.group_dro import CellWeights, GroupDRO, cell_losses
from trainables.conformance.baselines import CHECKS, begun, example
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.node import load_model, make_baseline
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Recipe, Trial

torch.set_num_threads(1)
AUTOCAST = torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_weights_of_classes_in_groups_conform(check) -> None:
    check(GroupDRO.Config(groups="class_group"))


def loop(q: np.ndarray, loss_N: np.ndarray, cell_N: np.ndarray, eta: float) -> tuple:
    """Algorithm 1 of Sagawa et al. 2020 for a batch: losses of the cells, new weights."""
    loss_G = np.zeros(len(q))
    for g in range(len(q)):
        if (cell_N == g).any():
            loss_G[g] = loss_N[cell_N == g].mean()
    q = q * np.exp(eta * loss_G)
    return loss_G, q / q.sum()


def test_weights_follow_their_closed_form_also_for_absent_cells() -> None:
    rng = np.random.default_rng(0)
    weights, q = CellWeights(5), np.full(5, 0.2)
    absent = set()
    for _ in range(30):
        loss_N = 3 * rng.random(6)
        cell_N = rng.integers(-1, 5, 6)
        absent |= set(range(5)) - set(cell_N.tolist())
        loss_G = cell_losses(torch.from_numpy(loss_N).float(), torch.from_numpy(cell_N), 5)
        expected_G, q = loop(q, loss_N, cell_N, 0.1)
        assert np.allclose(loss_G, expected_G, atol=1e-6)
        assert np.allclose(weights.update(loss_G, 0.1), q, rtol=1e-4)
    assert absent == set(range(5))
    assert q.max() / q.min() > 1.05


def test_a_weight_that_vanished_can_come_back() -> None:
    weights = CellWeights(2)
    for _ in range(2000):
        weights.update(torch.tensor([1.0, 0.0]), 0.1)
    # e^-200 is 0 in float32
    assert float(weights.log_weight_G[1]) == pytest.approx(-200, rel=1e-3)
    for _ in range(2000):
        weights.update(torch.tensor([0.0, 1.0]), 0.1)
    assert weights.log_weight_G.exp().tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_cells_are_groups_or_classes_in_groups() -> None:
    label_N, group_N = torch.tensor([0, 2, 1, 2, 0]), torch.tensor([1, 0, -1, 1, 0])
    batch = Batch(torch.zeros(5, 3, 2, 2), label_N, group_N, 0.0)
    task = Task(num_classes=3, num_groups=2)
    by_group = GroupDRO(GroupDRO.Config(), task)
    by_both = GroupDRO(GroupDRO.Config(groups="class_group"), task)
    assert (by_group.num_cells, by_both.num_cells) == (2, 6)
    assert by_group.cells(batch).tolist() == [1, 0, -1, 1, 0]
    assert by_both.cells(batch).tolist() == [1, 4, -1, 5, 0]


@pytest.mark.parametrize("groups", ["group", "class_group"])
def test_steps_of_a_real_net_equal_the_algorithm_by_hand(groups: str) -> None:
    """Weights first, then one descent of the weighted losses; images of unknown group left out."""
    config = GroupDRO.Config(groups=groups, eta=2.0)
    baseline, model = begun(config)
    batch, recipe = example(), Recipe(learning_rate=1e-3)  # at higher rates rounding grows fast
    cell_N = batch.group_N.numpy()
    if groups == "class_group":
        cell_N = np.where(cell_N < 0, -1, batch.label_N.numpy() * 2 + cell_N)
    q = np.full(baseline.num_cells, 1 / baseline.num_cells)
    by_hand = copy.deepcopy(model.train())
    optimizer, own = (baseline.optimizer(m, recipe) for m in (model, by_hand))
    for _ in range(4):
        output_NK = by_hand(batch.image_NCHW)
        loss_N = functional.cross_entropy(output_NK, batch.label_N, reduction="none")
        loss_G, q = loop(q, loss_N.detach().numpy(), cell_N, 2.0)
        share_N = [q[g] / (cell_N == g).sum() if g >= 0 else 0.0 for g in cell_N]
        loss = (loss_N * torch.tensor(share_N, dtype=torch.float32)).sum()
        own.zero_grad()
        loss.backward()
        own.step()
        logs = baseline.step(model, batch, optimizer, AUTOCAST)
        assert logs["loss"].item() == pytest.approx(loss.item(), rel=1e-3)
        assert logs["worst_loss"].item() == pytest.approx(loss_G.max(), rel=1e-3)
        assert logs["largest_weight"].item() == pytest.approx(q.max(), rel=1e-4)
        stored = model.extra["weights"].log_weight_G.exp().numpy()
        assert np.allclose(stored, q, rtol=1e-4)
    assert q.max() > 1.02 / baseline.num_cells
    for mine, other in zip(model.net.parameters(), by_hand.net.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-3, atol=1e-5)


def test_fine_tuning_goes_on_from_the_weights_of_training(tmp_path: Path) -> None:
    data = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    dataset, store = load_dataset(data, cache_dir=tmp_path / "cache"), Store(str(tmp_path))
    recipe = {"epochs": 2, "batch_size": 16, "normalise": "imagenet"}

    def log_weights(n: int, finetune: dict) -> torch.Tensor:
        document = {
            "backbone": "resnet18",
            "baseline": {"name": "group_dro", "eta": 0.5, "training": recipe},
            "n": n,
        }
        if n:
            finetune = recipe | finetune
            document["prune"] = {"criterion": "random", "ratio": 0.1, "finetune": finetune}
        trial = validate(Trial, document, place="test").resolved()
        key = run_trial(trial, dataset, store)["key"]
        model, _ = load_model(store, key, trial, make_baseline(trial, dataset))
        return model.extra["weights"].log_weight_G

    root = log_weights(0, {})
    assert float(root.max() - root.min()) > 1e-3  # not uniform any more
    assert torch.equal(log_weights(1, {"epochs": 0}), root)
    assert not torch.equal(log_weights(1, {"epochs": 1}), root)
