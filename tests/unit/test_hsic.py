"""The HSIC baseline: its term against a loop of definitions, what it skips, what it tells."""

import dataclasses
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.preprocessing import normalize
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from orchestrator.ledger.records import Ledger
from orchestrator.running.resources import Resources
from orchestrator.running.sweep import run_sweep
from orchestrator.search.schedule import Budget
from search_spaces.sweep_spec import Search, SweepSpec
from trainables.baselines.base import Batch, Task
from trainables.baselines.hsic import HSIC
from trainables.data.base import DataConfig, Dataset, Table
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.resnet import ResNet18
from trainables.node import CURVES, make_baseline
from trainables.registry import datasets
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Recipe, Trial

COARSE = (0, 1, 0, 1)
TASK = Task(num_classes=4, num_groups=3, coarse_C=COARSE)
RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet", "learning_rate": 1e-3}
DATA = Synthetic.Config(
    num_images=90, image_size=32, classes=("nv", "mel", "bcc"), minority_share=0.5
)

# class 0: 3 groups; class 1: 2 groups; class 2: one group; class 3: 3 images of known group
LABEL_N = torch.tensor([0] * 7 + [1] * 5 + [2] * 5 + [3] * 4)
GROUP_N = torch.tensor([0, 1, 2, 0, 1, 0, -1, 1, 2, 1, -1, 2, 0, 0, 0, 0, 0, 0, 1, -1, 2])


def batch() -> Batch:
    return Batch(torch.zeros(len(LABEL_N), 3, 8, 8), LABEL_N, GROUP_N, 0.0)


def features(seed: int = 0) -> Tensor:
    return torch.randn(len(LABEL_N), 6, generator=torch.Generator().manual_seed(seed))


def kernel(x_NF: np.ndarray) -> np.ndarray:
    """RBF on L2-normalised rows, bandwidth the mean squared distance of distinct ones."""
    unit_NF = normalize(x_NF)
    distance_NN = euclidean_distances(unit_NF, squared=True)
    mean = distance_NN.sum() / (len(x_NF) * (len(x_NF) - 1))
    return rbf_kernel(unit_NF, gamma=1 / (2 * mean))


def hsic_of_tuples(k: np.ndarray, el: np.ndarray) -> float:
    i, j, q, r = np.array(list(permutations(range(len(k)), 4))).T
    return float(np.mean(k[i, j] * (el[i, j] + el[q, r] - 2 * el[i, q])))


def expected_term(feature_NF: Tensor, stratum_N: np.ndarray, least: int) -> tuple[float, int]:
    total, touched = 0.0, 0
    for stratum in range(4):
        inside = np.flatnonzero((stratum_N == stratum) & (GROUP_N.numpy() >= 0))
        group = GROUP_N.numpy()[inside]
        if len(inside) >= least and len(set(group)) >= 2:
            feature_NN = kernel(feature_NF.double().numpy()[inside])
            total += hsic_of_tuples(feature_NN, kernel(np.eye(3)[group]))
            touched += len(inside)
    return total, touched


@pytest.mark.parametrize(
    ("condition", "stratum_C", "least", "touched"),
    [
        ("class", (0, 1, 2, 3), 4, 10),
        ("class", (0, 1, 2, 3), 5, 6),
        ("coarse", COARSE, 4, 18),
        ("none", (0, 0, 0, 0), 4, 18),
    ],
)
def test_the_term_is_the_loop_over_strata(
    condition: str, stratum_C: tuple[int, ...], least: int, touched: int
) -> None:
    config = HSIC.Config(condition=condition, min_group=least)  # type: ignore[arg-type]
    expected, num = expected_term(features(), np.array(stratum_C)[LABEL_N], least)
    term, num_touched = HSIC(config, TASK).term(features(), batch())
    assert num == touched
    assert float(num_touched) == touched
    assert abs(expected) > 1e-3
    assert float(term) == pytest.approx(expected, abs=1e-6)


def test_images_outside_the_term_have_no_gradient() -> None:
    feature_NF = features().requires_grad_()
    term, _ = HSIC(HSIC.Config(), TASK).term(feature_NF, batch())
    term.backward()
    assert feature_NF.grad is not None
    moved_N = feature_NF.grad.abs().sum(1) > 0
    inside_N = (GROUP_N >= 0) & (LABEL_N <= 1)
    assert torch.equal(moved_N, inside_N)


def test_an_empty_term_is_zero_and_finite() -> None:
    unknown = dataclasses.replace(batch(), group_N=torch.full_like(GROUP_N, -1))
    feature_NF = features().requires_grad_()
    term, num_touched = HSIC(HSIC.Config(), TASK).term(feature_NF, unknown)
    term.backward()
    assert [float(term.detach()), float(num_touched)] == [0, 0]
    assert feature_NF.grad is not None
    assert not feature_NF.grad.any()


def test_bf16_features_are_compared_in_float32() -> None:
    feature_NF = features().bfloat16()
    expected, _ = expected_term(feature_NF, LABEL_N.numpy(), 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term, _ = HSIC(HSIC.Config(), TASK).term(feature_NF, batch())
    assert term.dtype == torch.float32
    assert float(term) == pytest.approx(expected, abs=1e-6)


def test_nothing_in_the_term_waits_for_the_device() -> None:
    """Tensors without values: whatever needs one (item, nonzero, a branch) raises."""
    baseline = HSIC(HSIC.Config(), TASK)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        feature_NF = mode.from_tensor(features().requires_grad_())
        made = dataclasses.replace(
            batch(), label_N=mode.from_tensor(LABEL_N), group_N=mode.from_tensor(GROUP_N)
        )
        term, _ = baseline.term(feature_NF, made)
        term.backward()
        with pytest.raises(DataDependentOutputException):
            float(term.detach())


def test_the_term_takes_the_group_out_of_the_features_and_leaves_the_class() -> None:
    """A classifier of the group by the nearest group mean within the class falls to chance."""
    generator = torch.Generator().manual_seed(1)
    label_N, group_N = torch.arange(160) % 2, torch.arange(160) // 2 % 2
    start_NF = torch.randn(160, 5, generator=generator)
    start_NF[:, 0] += 4 * label_N - 2
    start_NF[:, 1] += 3 * group_N - 1.5
    made = Batch(torch.zeros(160, 1, 1, 1), label_N, group_N, 0.0)
    baseline = HSIC(HSIC.Config(), Task(2, 2))
    feature_NF = start_NF.clone().requires_grad_()
    optimizer = torch.optim.SGD([feature_NF], lr=100.0)
    for _ in range(100):
        optimizer.zero_grad()
        baseline.term(feature_NF, made)[0].backward()
        optimizer.step()

    def accuracy(x_NF: Tensor, target_N: Tensor, within_N: Tensor) -> float:
        right = 0
        for value in (0, 1):
            inside = within_N == value
            x, y = torch.nn.functional.normalize(x_NF[inside].detach()), target_N[inside]
            means = torch.stack([x[y == 0].mean(0), x[y == 1].mean(0)])
            right += int((torch.cdist(x, means).argmin(1) == y).sum())
        return right / len(x_NF)

    assert accuracy(start_NF, group_N, label_N) > 0.8
    assert accuracy(feature_NF, group_N, label_N) < 0.6
    assert accuracy(feature_NF, label_N, group_N) > 0.9


def test_the_loss_is_cross_entropy_of_all_images_plus_the_term() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(ResNet18.construct(ResNet18.Config(), 4, None)).eval()
    image_NCHW = torch.rand(21, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    made = Batch(image_NCHW, LABEL_N, GROUP_N, 0.0)
    baseline = HSIC(HSIC.Config(strength=0.7), TASK)
    feature_NF, logits_NK = model.forward_features(image_NCHW)
    assert feature_NF.shape == (21, 512)
    term, _ = expected_term(feature_NF.detach(), LABEL_N.numpy(), 4)
    expected = torch.nn.functional.cross_entropy(logits_NK, LABEL_N) + 0.7 * term
    loss = baseline.loss(model, made)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    optimizer = baseline.optimizer(model, Recipe())
    logs = baseline.step(model, made, optimizer, torch.autocast("cpu", enabled=False))
    assert float(logs["touched"]) == pytest.approx(10 / 21)
    assert float(logs["term"]) == pytest.approx(term, abs=1e-5)


def test_options_out_of_range_are_refused() -> None:
    for field, value in (("min_group", 3), ("strength", -1), ("condition", "fine")):
        with pytest.raises(UserError, match=field):
            validate(HSIC.Config, {field: value}, place="test")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    return load_dataset(DATA, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


def trial(options: dict | None = None, **fields: object) -> Trial:
    baseline = {"name": "hsic", "training": RECIPE} | (options or {})
    document = {"backbone": "resnet18", "baseline": baseline} | fields
    return validate(Trial, document, place="test").resolved()


def test_the_share_it_touches_is_logged_and_told_when_small(
    store: Store, dataset: Dataset
) -> None:
    few = run_trial(trial({"min_group": 9}), dataset, store)
    (note,) = few["execution"]["notes"]
    assert "hsic: its term touched" in note
    (epoch,) = json.loads(store.read(few["key"], CURVES))
    assert 0 <= epoch["train_touched"] < 0.3
    many = run_trial(trial({"condition": "none"}), dataset, store)
    assert many["execution"]["notes"] == []
    (epoch,) = json.loads(store.read(many["key"], CURVES))
    assert epoch["train_touched"] > 0.9
    assert abs(epoch["train_term"]) < 0.2


def test_fine_tuning_with_its_term_or_without_gives_other_weights(
    store: Store, dataset: Dataset
) -> None:
    nodes = {}
    for loss in ("baseline", "cross_entropy"):
        prune = {"criterion": "random", "ratio": 0.25, "finetune": RECIPE, "finetune_loss": loss}
        nodes[loss] = run_trial(trial({"condition": "none"}, prune=prune, n=1), dataset, store)
    shas = {node["model"]["weights_sha256"] for node in nodes.values()}
    assert len(shas) == 2
    assert len({node["model"]["plan_sha256"] for node in nodes.values()}) == 1
    has_term = {
        loss: "train_term" in json.loads(store.read(node["key"], CURVES))[0]
        for loss, node in nodes.items()
    }
    assert has_term == {"baseline": True, "cross_entropy": False}


def test_coarse_without_coarse_categories_is_refused_before_any_training(
    tmp_path: Path, dataset: Dataset
) -> None:
    message = "condition must be 'class' or 'none' but got 'coarse'.*baseline hsic"
    prune = {"criterion": "none", "finetune": RECIPE}
    store = Store(str(tmp_path / "store"))
    with pytest.raises(UserError, match=message):
        run_trial(trial({"condition": "coarse"}, prune=prune, n=1), dataset, store)
    assert list(tmp_path.rglob("node.json")) == []
    spec = SweepSpec(
        name="coarse",
        data=DATA,
        backbone=ResNet18.Config(),
        baseline={"name": "hsic", "condition": "coarse"},
        search=Search(sampler="grid"),
    )
    folder = tmp_path / "sweep"
    with pytest.raises(UserError, match=message):
        # no workers: were it not refused first, the sweep would be for another reason
        run_sweep(spec, folder, dataset, str(tmp_path / "store"), Resources(workers=0), Budget())
    assert not Ledger(folder).path.exists()


def with_coarse(monkeypatch: pytest.MonkeyPatch, coarse: tuple[str, ...]) -> DataConfig:
    """The config of a data set that has coarse categories."""
    table = Synthetic.table

    class Coarse(Synthetic):
        @classmethod
        def table(cls, config: DataConfig) -> Table:
            return dataclasses.replace(table(config), coarse=coarse)

    monkeypatch.setitem(datasets._classes, "synthetic", Coarse)
    return DATA


def test_coarse_categories_reach_the_baseline_and_the_key(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_coarse(monkeypatch, ("nevus", "cancer", "cancer"))
    data = load_dataset(config, cache_dir=tmp_path)
    assert data.coarse == ("nevus", "cancer", "cancer")
    assert make_baseline(trial(), data).task.coarse_C == (1, 0, 0)
    assert make_baseline(trial(), dataset).task.coarse_C is None
    assert data.fingerprint != dataset.fingerprint
    renamed = with_coarse(monkeypatch, ("nevus", "nevus", "cancer"))
    assert load_dataset(renamed, cache_dir=tmp_path).fingerprint != data.fingerprint
    empty = with_coarse(monkeypatch, ())
    assert load_dataset(empty, cache_dir=tmp_path).fingerprint == dataset.fingerprint
    by_coarse = make_baseline(trial({"condition": "coarse"}), data)
    assert isinstance(by_coarse, HSIC)
    label_N, known_N = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 0, 1])
    member_NS, _ = by_coarse.strata(Batch(torch.zeros(4, 1, 1, 1), label_N, known_N, 0.0))
    assert member_NS.argmax(1).tolist() == [1, 0, 0, 0]


def test_a_coarse_category_for_each_class_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_coarse(monkeypatch, ("nevus", "cancer"))
    with pytest.raises(UserError, match="2 coarse categories for 3 classes"):
        load_dataset(config, cache_dir=tmp_path)
