"""Every criterion as an arm of a real trial, and what is refused before anything is trained."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from orchestrator.spaces import load_space
from trainables.data.base import VALIDATION, Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.predictions import Predictions
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import identity, run_trial
from trainables.trial_spec import Trial, node_key

torch.set_num_threads(1)
# at .003 a training diverged on another processor
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}
CRITERIA: dict[str, dict[str, Any]] = {
    "magnitude": {"fold_norm": True},
    "taylor": {},
    "skewness": {"over": "all"},
    "hsic": {},
    "obd": {"curvature": "fisher", "max_images": 16},
    "fairprune": {"curvature": "fisher", "max_images": 16},
}


def spec(criterion: str | dict, n: int = 1, baseline: str = "vanilla", **prune: Any) -> Trial:
    document = {
        "backbone": "resnet18",
        "baseline": {"name": baseline, "training": RECIPE},
        "prune": {"criterion": criterion, "finetune": RECIPE, "site": "conv"} | prune,
        "n": n,
    }
    return validate(Trial, document, place="test").resolved()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("shared")))


@pytest.mark.parametrize("name", CRITERIA)
def test_the_lowest_scores_of_each_criterion_are_removed(
    name: str, dataset: Dataset, shared: Store
) -> None:
    trial = spec({"name": name} | CRITERIA[name])
    node = run_trial(trial, dataset, shared)
    scores = json.loads(shared.read(node["key"], "scores.json"))
    order = sorted(range(512), key=lambda c: (scores["score"][c], c))
    assert scores["removed"] == sorted(order[:10]) == node["plan"]["layer4.1.conv2"]["removed"]
    assert len(set(scores["score"])) > 400  # channels are told apart


def test_a_repeated_trial_is_the_same_to_the_bit(
    dataset: Dataset, shared: Store, tmp_path: Path
) -> None:
    trial = spec({"name": "fairprune"} | CRITERIA["fairprune"])
    again = run_trial(trial, dataset, Store(str(tmp_path)))
    assert again["model"] == run_trial(trial, dataset, shared)["model"]


def test_privileged_auto_is_the_group_the_root_serves_better(
    dataset: Dataset, shared: Store
) -> None:
    """The root's validation macro F1 by scikit-learn; of the chain's start, also at n = 2."""
    trial = spec({"name": "fairprune"} | CRITERIA["fairprune"], n=2)
    nodes = [run_trial(step, dataset, shared) for step in trial.chain]
    stored = Predictions.from_bytes(shared.read(nodes[0]["key"], "validation.npz"))
    rows = dataset.indices(VALIDATION)
    f1 = []
    for group in range(len(dataset.groups)):
        own = dataset.group_N[rows] == group
        f1.append(
            f1_score(
                dataset.label_N[rows][own], stored.logits_NK.argmax(1)[own],
                average="macro", zero_division=0,
            )
        )  # fmt: skip
    assert f1[0] != f1[1]
    better = dataset.groups[int(np.argmax(f1))]
    for node in nodes[1:]:
        (note,) = [n for n in node["execution"]["notes"] if "privileged" in n]
        assert note.startswith(f"privileged group is {better} ")
    named = spec({"name": "fairprune", "privileged": better} | CRITERIA["fairprune"])
    given = run_trial(named, dataset, shared)
    assert given["plan"] == nodes[1]["plan"]


@pytest.mark.parametrize("baseline", ["fair_adabn", "domain_independent", "multi_exit"])
def test_criteria_score_the_inference_of_other_baselines(
    baseline: str, dataset: Dataset, shared: Store
) -> None:
    """One norm a group, a slice a group, exits that read inner maps: all layers at once."""
    unknown = np.array(dataset.group_N)
    unknown[::7] = -1  # a net that needs the group is scored on the others only
    data = dataclasses.replace(dataset, group_N=unknown, group_digest="some unknown")
    for name in ("taylor", "fairprune", "obd"):
        config = {"name": name} | CRITERIA[name]
        trial = spec(config, baseline=baseline, layer="all", site="auto", ratio=0.2)
        node = run_trial(trial, data, shared)
        root = shared.node(node["parents"][0]["key"])
        assert root is not None
        assert node["model"]["num_params"] < root["model"]["num_params"]
        assert all(left < before for before, left in node["model"]["channels"].values())


def test_snnl_weighs_the_attributes_the_data_keep(tmp_path: Path) -> None:
    config = Synthetic.Config(
        num_images=60, image_size=32, classes=("nv", "mel"), further_attributes=("sex",)
    )
    data, store = load_dataset(config, cache_dir=tmp_path / "cache"), Store(str(tmp_path))
    found = {}
    for weights in ({}, {"tone": 1.0, "sex": 3.0}, {"sex": 1.0}):
        trial = spec({"name": "snnl", "attributes": weights}, layer="layer1.0.conv1", ratio=0.1)
        node = run_trial(trial, data, store)
        scores = json.loads(store.read(node["key"], "scores.json"))["score"]
        found[tuple(weights)] = np.array(scores)
    np.testing.assert_allclose(
        found["tone", "sex"], found[()] + 3 * found[("sex",)], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ({"name": "snnl", "attributes": {"age": 1.0}}, "no attribute 'age'"),
        ({"name": "fairprune", "privileged": "lihgt"}, "did you mean 'light'"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_training(
    criterion: Any, message: str, dataset: Dataset, tmp_path: Path
) -> None:
    store, trial = Store(str(tmp_path)), spec(criterion)
    with pytest.raises(UserError, match=message) as caught:
        run_trial(trial, dataset, store)
    assert "\n" not in str(caught.value)
    assert store.node(node_key(trial.chain[0], identity(dataset))) is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune={criterion: {name: snnl, attributes: {aeg: 1.0}}}", "no attribute 'aeg'"),
        ("prune={criterion: snnl, layer: 'conv1,layer4.1.conv2', site: conv}", "use site 'group'"),
        ("prune={criterion: snnl, layer: [conv1, layer9]}", "'layer9' is not a convolution"),
    ],
)
def test_a_space_is_refused_when_it_is_read(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_space("quickstart", [override])


def test_a_space_of_all_layers_reads_back() -> None:
    spec = load_space("quickstart", ["prune={criterion: snnl, layer: all, ranking: global}"])
    arm = next(spec.corner_trials()).resolved().prune
    assert arm is not None
    assert (arm.layer, arm.site, arm.ranking, arm.floor) == ("all", "group", "global", 0.1)
    listed = load_space("quickstart", ["prune={criterion: snnl, layer: [last, conv1]}"])
    arm = next(listed.corner_trials()).resolved().prune
    assert arm is not None
    assert arm.layer == "conv1,layer4.1.conv2"
