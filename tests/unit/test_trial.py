"""One trial, run for real on a tiny synthetic data set."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import VALIDATION, Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.measurement import measure_node
from trainables.models.classifier import Classifier
from trainables.node import MODEL_FILES, has_model, load_model, make_baseline
from trainables.predictions import Predictions
from trainables.pruning.base import ScoringError
from trainables.registry import backbones
from trainables.specs import validate
from trainables.store import Store
from trainables.training import Trainer, TrainingError
from trainables.trial import identity, remake_model, run_trial
from trainables.trial_spec import Compute, EarlyStopping, Recipe, Trial, node_key

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
DATA = {"num_images": 60, "image_size": 32, "classes": ("nv", "mel", "bcc")}
RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet"}


def spec(n: int = 1, *, training: dict | None = None, **prune: object) -> Trial:
    mapping: dict = {
        "backbone": "resnet18",
        "baseline": {"name": "vanilla", "training": RECIPE | (training or {})},
        "n": n,
    }
    if n:
        mapping["prune"] = {"criterion": "snnl", "site": "conv", "finetune": RECIPE} | prune
    return validate(Trial, mapping, place="test").resolved()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(Synthetic.Config(**DATA), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Roots are trained once for the tests that are not about roots."""
    return Store(str(tmp_path_factory.mktemp("shared")))


def test_cold_store_computes_the_parents_and_equals_a_warm_one(
    dataset: Dataset, tmp_path: Path
) -> None:
    cold, warm = Store(str(tmp_path / "cold")), Store(str(tmp_path / "warm"))
    torch.manual_seed(1)
    node = run_trial(spec(2), dataset, cold)
    for trial in spec(2).chain:
        torch.manual_seed(trial.n + 7)  # what the process drew before must not matter
        torch.rand(trial.n)
        other = run_trial(trial, dataset, warm)
        assert other["model"] == cold.node(node_key(trial, identity(dataset)))["model"]
    assert other["model"] == node["model"]
    root, first, second = (cold.node(node_key(t, identity(dataset))) for t in spec(2).chain)
    assert [p["key"] for p in second["parents"]] == [first["key"]]
    assert first["parents"] == [
        {"key": root["key"], "weights_sha256": root["model"]["weights_sha256"]}
    ]
    assert root["model"]["channels"] == {}
    assert first["model"]["channels"] == {"layer4.1.conv2": [512, 502]}  # 2 % of 512
    assert second["model"]["channels"] == {"layer4.1.conv2": [512, 492]}
    weights = {node["model"]["weights_sha256"] for node in (root, first, second)}
    assert len(weights) == 3


PROCESS = """
import json, sys
from pathlib import Path
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Trial
folder, data, trial = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
dataset = load_dataset(Synthetic.Config(**data), cache_dir=folder / "cache")
node = run_trial(validate(Trial, trial, place="process"), dataset, Store(str(folder / "store")))
print(json.dumps([node["key"], node["model"]]))
"""


def test_two_processes_give_identical_digests(
    dataset: Dataset, shared: Store, tmp_path: Path
) -> None:
    trial = spec(1)
    here = run_trial(trial, dataset, shared)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS, str(tmp_path), json.dumps(DATA),
         trial.model_dump_json()],
        capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert json.loads(done.stdout) == [here["key"], here["model"]]


def test_a_stored_node_is_returned_not_computed_again(dataset: Dataset, shared: Store) -> None:
    first = run_trial(spec(1), dataset, shared)
    calls: list[tuple] = []
    again = run_trial(spec(1), dataset, shared, report=lambda *args: calls.append(args))
    assert again == first
    assert calls == []


def test_predictions_are_those_of_the_stored_weights(dataset: Dataset, shared: Store) -> None:
    trial = spec(1)
    node = run_trial(trial, dataset, shared)
    model, _ = load_model(shared, node["key"], trial, make_baseline(trial, dataset))
    rows = dataset.indices(VALIDATION)
    # torchvision's way to normalise, not the trainer's
    image = torch.from_numpy(dataset.images_NHWC[rows]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits_NK = model.eval()((image - mean[:, None, None]) / std[:, None, None]).numpy()
    stored = Predictions.from_bytes(shared.read(node["key"], "validation.npz"))
    np.testing.assert_allclose(stored.logits_NK, logits_NK, atol=2e-3, rtol=2e-3)
    assert stored.image_id_N.tolist() == dataset.image_id_N[rows].tolist()
    measured = measure_node(shared, node["key"], dataset, "corrected")
    accuracy = np.mean(logits_NK.argmax(1) == dataset.label_N[rows])
    assert set(measured["metrics"]) == {"train", "validation"}  # the test split stays sealed
    assert json.loads(shared.read(node["key"], "curves.json"))[-1]["validation_accuracy"] == (
        pytest.approx(accuracy)
    )


def test_num_params_are_those_stored(dataset: Dataset, shared: Store) -> None:
    root, node = (run_trial(t, dataset, shared) for t in spec(1).chain)
    state = load_tensors(shared.read(node["key"], "weights.safetensors"))
    counted = sum(
        t.numel() for name, t in state.items() if "running" not in name and "batches" not in name
    )
    assert node["model"]["num_params"] == counted
    assert root["model"]["num_params"] - counted == 10 * (512 * 9 + 2)  # conv2 rows, bn2
    assert node["model"]["flops"] < root["model"]["flops"]


def test_the_lowest_scores_are_removed(dataset: Dataset, shared: Store) -> None:
    node = run_trial(spec(1), dataset, shared)
    scores = json.loads(shared.read(node["key"], "scores.json"))
    order = sorted(range(512), key=lambda c: (scores["score"][c], c))
    assert scores["removed"] == sorted(order[:10])
    assert node["plan"]["layer4.1.conv2"]["removed"] == scores["removed"]


@pytest.mark.parametrize("criterion", ["random", "snnl"])
def test_weight_mask_keeps_rows_zero_and_the_bias_alive(
    criterion: str, dataset: Dataset, shared: Store
) -> None:
    """The published way: filters stay zero, BatchNorm lives on, no channel is picked twice."""
    trials = spec(2, criterion=criterion, surgery="weight_mask", ratio=0.1).chain
    root, first, second = (run_trial(t, dataset, shared) for t in trials)
    masked = [node["plan"]["layer4.1.conv2"]["masked"] for node in (first, second)]
    assert [len(m) for m in masked] == [51, 102]  # 10 % of 512, twice, none of them again
    assert set(masked[0]) < set(masked[1])
    for node, gone in ((first, masked[0]), (second, masked[1])):
        state = load_tensors(shared.read(node["key"], "weights.safetensors"))
        weight = state["net.layer4.1.conv2.weight"]
        assert torch.nonzero(weight.flatten(1).abs().sum(1) == 0).flatten().tolist() == gone
        before = load_tensors(shared.read(root["key"], "weights.safetensors"))
        moved = state["net.layer4.1.bn2.bias"][gone] - before["net.layer4.1.bn2.bias"][gone]
        assert bool((moved != 0).all())
        assert node["model"]["num_params"] == root["model"]["num_params"]
        assert node["model"]["num_masked"] == len(gone) * 512 * 9
        assert node["model"]["channels"]["layer4.1.conv2"] == [512, 512]  # nothing is really cut


def test_none_fine_tunes_the_whole_net(dataset: Dataset, shared: Store) -> None:
    root, node = (run_trial(t, dataset, shared) for t in spec(1, criterion="none").chain)
    assert node["plan"] == {}
    assert node["model"]["num_params"] == root["model"]["num_params"]
    assert node["model"]["weights_sha256"] != root["model"]["weights_sha256"]


def test_no_epochs_of_fine_tuning_leave_the_cut_weights(dataset: Dataset, shared: Store) -> None:
    trials = spec(1, criterion="random", finetune=RECIPE | {"epochs": 0}).chain
    root, node = (run_trial(t, dataset, shared) for t in trials)
    keep = [c for c in range(512) if c not in node["plan"]["layer4.1.conv2"]["removed"]]
    whole, small = (
        load_tensors(shared.read(n["key"], "weights.safetensors")) for n in (root, node)
    )
    for name in whole:
        cut = "layer4.1.conv2" in name or ("layer4.1.bn2" in name and whole[name].ndim)
        assert torch.equal(small[name], whole[name][keep] if cut else whole[name]), name


def test_block_site_at_64_pixels(tmp_path: Path) -> None:
    data = Synthetic.Config(num_images=40, image_size=64, classes=("nv", "mel"))
    dataset = load_dataset(data, cache_dir=tmp_path / "cache")
    root, node = (run_trial(t, dataset, Store(str(tmp_path))) for t in spec(1, site="auto").chain)
    assert node["plan"]["layer4.1.conv2"]["site"] == "block"
    saved = root["model"]["num_params"] - node["model"]["num_params"]
    assert saved == 10 * (512 * 9 + 2 + 2)  # conv2 rows, bn2, the head's columns for 2 classes


def test_maps_of_one_pixel_are_noted_in_the_record(dataset: Dataset, shared: Store) -> None:
    (note,) = run_trial(spec(1, site="block"), dataset, shared)["execution"]["notes"]
    assert "feature maps of layer4.1.conv2 are 1 x 1 at image size 32" in note
    assert (
        run_trial(spec(1, site="conv", layer="layer1.0.conv1"), dataset, shared)["execution"][
            "notes"
        ]
        == []
    )


def test_a_loss_that_is_no_number_names_the_epoch(dataset: Dataset, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    trial = spec(0, training={"epochs": 3, "learning_rate": 1e30})
    with pytest.raises(TrainingError, match="train_loss is nan in epoch 1 of 3"):
        run_trial(trial, dataset, store)
    assert store.node(node_key(trial, identity(dataset))) is None


def test_one_group_cannot_be_scored(dataset: Dataset, shared: Store) -> None:
    one = dataclasses.replace(
        dataset, group_N=np.zeros_like(dataset.group_N), group_digest="one group"
    )
    with pytest.raises(ScoringError, match="no batch of 128 holds two groups"):
        run_trial(spec(1), one, shared)
    control = spec(1, criterion="random")  # does not read the groups: the same node
    assert run_trial(control, one, shared)["key"] == node_key(control, identity(dataset))


def test_early_stopping_keeps_the_best_epoch(dataset: Dataset) -> None:
    recipe = Recipe(
        epochs=12, batch_size=16, learning_rate=0.003, schedule="constant", normalise="imagenet",
        early_stopping=EarlyStopping(patience=2),
    )  # fmt: skip
    baseline = Vanilla(Vanilla.Config(training=recipe), Task(num_classes=3, num_groups=2))
    backbone = backbones.get("resnet18")
    model = Classifier(backbone.build(backbone.Config(), 3, torch.Generator().manual_seed(0)))
    trainer = Trainer(DeviceData(dataset, torch.device("cpu")), Compute().resolved("cpu"), 0, 0)
    curves = trainer.fit(model, baseline, recipe)
    losses = [epoch["validation_loss"] for epoch in curves]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 12  # stopped two epochs after the best
    rows = dataset.indices(VALIDATION)
    logits_NK = trainer.predict(model, baseline, recipe, rows).astype(np.float64)
    shifted = logits_NK - logits_NK.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -log_p[np.arange(len(rows)), dataset.label_N[rows]].mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)
    assert loss < losses[-1]


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_weights_that_are_lost_are_made_again_when_a_child_needs_them(
    damage: str, dataset: Dataset, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    root = run_trial(spec(0), dataset, store)
    path = Path(store.folder(root["key"])) / root["files"]["weights.safetensors"]["path"]
    path.unlink() if damage == "gone" else path.write_bytes(b"rubbish")
    assert run_trial(spec(0), dataset, store) == root  # the node itself is still an answer
    child = run_trial(spec(1), dataset, store)
    again = store.node(root["key"])
    assert again is not None
    assert again["model"] == root["model"]
    assert child["parents"] == [
        {"key": root["key"], "weights_sha256": root["model"]["weights_sha256"]}
    ]


@pytest.mark.parametrize("surgery", [pytest.param("cut", marks=pytest.mark.slow), "weight_mask"])
def test_a_chain_of_dropped_models_is_made_again_to_the_bit(
    surgery: str, dataset: Dataset, tmp_path: Path
) -> None:
    """The records stay, nothing is scored anew, and the next iteration does not see it."""
    store, other = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    change = {"surgery": surgery, "site": "conv"}
    for n in range(3):
        run_trial(spec(n, **change), dataset, store)
        run_trial(spec(n, **change), dataset, other)
    keys = [node_key(spec(n, **change), identity(dataset)) for n in range(3)]
    before = [store.node(key) for key in keys]
    held = [sum(entry["num_bytes"] for entry in node["files"].values()) for node in before]
    freed = [store.drop(key, MODEL_FILES) for key in keys]
    assert all(0.5 * of < num < of for num, of in zip(freed, held, strict=True))
    assert store.drop(keys[0], MODEL_FILES) == 0
    assert [store.node(key) for key in keys] == before
    assert not any(has_model(store, key) for key in keys)

    node = remake_model(spec(2, **change), dataset, store)
    assert all(has_model(store, key) for key in keys)
    assert remake_model(spec(2, **change), dataset, store) == node  # it is there: nothing to do
    for key, old in zip(keys, before, strict=True):
        new = store.node(key)
        assert {n: e["sha256"] for n, e in new["files"].items()} == {
            n: e["sha256"] for n, e in old["files"].items()
        }
        assert {k: v for k, v in new.items() if k != "files"} == {
            k: v for k, v in old.items() if k != "files"
        }
    store.drop(keys[2], MODEL_FILES)
    third = run_trial(spec(3, **change), dataset, store)
    assert third["model"] == run_trial(spec(3, **change), dataset, other)["model"]
