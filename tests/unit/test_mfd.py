"""The MFD baseline: its term against a loop of double sums, its teacher, and the tree it makes."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from orchestrator.plan import ANYWHERE, plan_space
from orchestrator.search.tree import full_tree
from search_spaces.sweep_spec import Search, SweepSpec
from search_spaces.words import one_of
from trainables.baselines.base import Batch, Task
from trainables.baselines.mfd import MFD
from trainables.baselines.vanilla import Vanilla
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.resnet import ResNet18
from trainables.models.vgg import VGG11
from trainables.node import CURVES, load_model, make_baseline
from trainables.pruning.kept_features import kept_features
from trainables.pruning.surgery import cut, extend_plan
from trainables.specs import validate
from trainables.store import Store
from trainables.trial import identity, run_trial
from trainables.trial_spec import Recipe, Trial, node_key

COARSE = (0, 1, 0, 1)
TASK = Task(num_classes=4, num_groups=3, coarse_C=COARSE)
RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet", "learning_rate": 1e-3}
DATA = Synthetic.Config(
    num_images=90, image_size=32, classes=("nv", "mel", "bcc"), minority_share=0.5
)

# class 0: 3 groups; class 1: 2 groups; class 2: one group; class 3: no known group
LABEL_N = torch.tensor([0] * 7 + [1] * 5 + [2] * 3 + [3] * 2)
GROUP_N = torch.tensor([0, 1, 2, 0, 1, 0, -1, 1, 2, 1, -1, 2, 0, 0, 0, -1, -1])


def resnet(num_outputs: int = 4, seed: int = 0) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(ResNet18.construct(ResNet18.Config(), num_outputs, None)).eval()


def images(num: int = len(LABEL_N)) -> Tensor:
    return torch.rand(num, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def made_batch() -> Batch:
    return Batch(images(), LABEL_N, GROUP_N, 0.0)


def begun(config: MFD.Config, teacher: Classifier) -> MFD:
    baseline = MFD(config, TASK)
    baseline.begin(resnet(seed=1), [teacher])
    return baseline


def expected_term(
    target_NF: np.ndarray, feature_NF: np.ndarray, stratum_N: np.ndarray, config: MFD.Config
) -> tuple[float, int]:
    """The sum over strata and groups, each MMD by its double sums; and the images touched."""
    known_N = GROUP_N.numpy() >= 0
    pairs = [((t - f) ** 2).sum() for t in target_NF[known_N] for f in feature_NF[known_N]]
    scale = 2 * config.sigma * np.mean(pairs)

    def mean(a_NF: np.ndarray, b_NF: np.ndarray) -> float:
        return float(np.mean([np.exp(-((a - b) ** 2).sum() / scale) for a in a_NF for b in b_NF]))

    total, touched = 0.0, 0
    for stratum in range(4):
        in_stratum_N = (stratum_N == stratum) & known_N
        sizes = []
        for group in range(3):
            cell_N = in_stratum_N & (GROUP_N.numpy() == group)
            if cell_N.sum() >= config.min_group:
                t, s = target_NF[in_stratum_N], feature_NF[cell_N]
                total += mean(t, t) + mean(s, s) - 2 * mean(t, s)
                sizes.append(int(cell_N.sum()))
        touched += sum(sizes) if len(sizes) >= 2 else 0
    return total, touched


@pytest.mark.parametrize(
    ("options", "stratum_C", "touched"),
    [
        ({}, (0, 1, 2, 3), 10),
        ({"sigma": 0.3}, (0, 1, 2, 3), 10),
        ({"min_group": 2}, (0, 1, 2, 3), 9),
        ({"condition": "coarse"}, COARSE, 13),
        ({"condition": "none"}, (0, 0, 0, 0), 13),
    ],
)
def test_the_term_is_the_loop_over_strata_and_groups(
    options: dict[str, Any], stratum_C: tuple[int, ...], touched: int
) -> None:
    config, teacher = MFD.Config(**options), resnet()
    target_NF = teacher.forward_features(images())[0].detach().double().numpy()
    noise_NF = np.random.default_rng(0).normal(size=target_NF.shape)
    feature_NF = target_NF + 0.5 * noise_NF
    expected, num = expected_term(target_NF, feature_NF, np.array(stratum_C)[LABEL_N], config)
    term, num_touched = begun(config, teacher).term(
        torch.from_numpy(feature_NF).float(), made_batch()
    )
    assert num == touched
    assert float(num_touched) == touched
    assert expected > 0.1
    assert float(term) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_cross_entropy_plus_half_the_strength_times_the_term() -> None:
    teacher, student, config = resnet(), resnet(seed=1), MFD.Config(strength=3.0)
    batch, baseline = made_batch(), begun(MFD.Config(strength=3.0), resnet())
    feature_NF, logits_NK = student.forward_features(batch.image_NCHW)
    term, _ = expected_term(
        teacher.forward_features(batch.image_NCHW)[0].detach().double().numpy(),
        feature_NF.detach().double().numpy(),
        LABEL_N.numpy(),
        config,
    )
    expected = torch.nn.functional.cross_entropy(logits_NK, LABEL_N) + 3.0 / 2 * term
    assert float(baseline.loss(student, batch).detach()) == pytest.approx(
        float(expected.detach()), abs=1e-4
    )


def test_the_teacher_stays_as_it_is() -> None:
    teacher, student = resnet(), resnet(seed=1).train()
    before = copy.deepcopy(teacher.state_dict())
    baseline = MFD(MFD.Config(), TASK)
    baseline.begin(student, [teacher.train()])
    optimizer = baseline.optimizer(student, Recipe())
    for _ in range(2):
        baseline.step(student, made_batch(), optimizer, torch.autocast("cpu", enabled=False))
    assert not teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any(name.startswith("teacher") for name, _ in student.named_parameters())


def test_images_of_unknown_group_are_not_in_the_term() -> None:
    teacher = resnet()
    feature_NF = torch.randn(len(LABEL_N), 512, generator=torch.Generator().manual_seed(2))
    feature_NF.requires_grad_()
    begun(MFD.Config(), teacher).term(feature_NF, made_batch())[0].backward()
    assert feature_NF.grad is not None
    assert torch.equal(feature_NF.grad.abs().sum(1) > 0, GROUP_N >= 0)


CUTS = [
    ("layer4.1.conv2", "block", 3),
    ("layer4.1.conv2", "conv", 0),
    ("layer4.1.conv2", "group", 3),
    ("layer4.0.conv2", "group", 3),
    ("layer2.1.conv2", "block", 0),
]


@pytest.mark.parametrize(("layer", "site", "num_gone"), CUTS)
def test_kept_features_of_a_cut_resnet(layer: str, site: str, num_gone: int) -> None:
    """Two cuts, positions of the second among what the first left: 0, 5, then the third left."""
    whole, cut_net = resnet(), resnet()
    plan: dict[str, dict] = {}
    for removed in ([0, 5], [2]):
        total = cut_net.net.get_submodule(layer).out_channels
        cut(cut_net.net, layer, site, removed)
        plan = extend_plan(plan, layer, site, removed, total)
    kept_F = kept_features(whole, plan)
    expected = [f for f in range(512) if f not in ([0, 3, 5] if num_gone else [])]
    assert kept_F.tolist() == expected
    assert cut_net.head.in_features == 512 - num_gone
    if site == "block" and num_gone:  # the features left are those of the uncut net
        own_NF, _ = cut_net.forward_features(images(4))
        whole_NF, _ = whole.forward_features(images(4))
        assert torch.allclose(own_NF, whole_NF[:, kept_F], atol=1e-6)
    assert torch.equal(whole.head.weight, resnet().head.weight)  # the model is as it was


def test_a_vgg_keeps_all_its_features() -> None:
    with torch.device("meta"):
        student = Classifier(VGG11.construct(VGG11.Config(), 4, None))
        teacher = Classifier(VGG11.construct(VGG11.Config(), 4, None))
    cut(student.net, "features.18", "conv", [1, 2])
    student.plan = extend_plan({}, "features.18", "conv", [1, 2], 512)
    baseline = MFD(MFD.Config(), TASK)
    baseline.begin(student, [teacher])  # no twin is needed: 4096 features on both sides
    assert baseline._kept_F is None


def test_a_cut_student_is_compared_on_the_features_it_has() -> None:
    teacher, student = resnet(), resnet()
    cut(student.net, "layer4.1.conv2", "block", [0, 5])
    student.plan = extend_plan({}, "layer4.1.conv2", "block", [0, 5], 512)
    baseline = MFD(MFD.Config(), TASK)
    baseline.begin(student, [teacher])
    kept = [f for f in range(512) if f not in (0, 5)]
    target_NF = teacher.forward_features(images())[0][:, kept].detach().double().numpy()
    feature_NF, _ = student.forward_features(images())
    expected, _ = expected_term(
        target_NF, feature_NF.detach().double().numpy(), LABEL_N.numpy(), MFD.Config()
    )
    term, _ = baseline.term(feature_NF, made_batch())
    assert float(term.detach()) == pytest.approx(expected, rel=1e-4)


def test_bf16_features_are_compared_in_float32() -> None:
    baseline = begun(MFD.Config(), resnet())
    feature_NF, _ = resnet(seed=3).forward_features(images())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        term, _ = baseline.term(feature_NF.bfloat16(), made_batch())
        target_NF, _ = resnet().forward_features(images())
        assert target_NF.dtype == torch.bfloat16
    expected, _ = expected_term(
        target_NF.double().numpy(),
        feature_NF.detach().bfloat16().double().numpy(),
        LABEL_N.numpy(),
        MFD.Config(),
    )
    assert term.dtype == torch.float32
    assert float(term) == pytest.approx(expected, rel=1e-4)


def test_nothing_in_the_term_waits_for_the_device() -> None:
    """Tensors without values: whatever needs one (item, nonzero, a branch) raises."""
    baseline = begun(MFD.Config(), resnet())
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        feature_NF = mode.from_tensor(torch.zeros(len(LABEL_N), 512, requires_grad=True))
        batch = Batch(images(), mode.from_tensor(LABEL_N), mode.from_tensor(GROUP_N), 0.0)
        term, _ = baseline.term(feature_NF, batch)
        term.backward()
        with pytest.raises(DataDependentOutputException):
            float(term.detach())


def test_options_that_cannot_work_are_refused() -> None:
    for field, value in (
        ("teacher", "vanila"),
        ("teacher", "mfd"),
        ("sigma", 0),
        ("min_group", 0),
    ):
        with pytest.raises(UserError, match=field):
            validate(MFD.Config, {field: value}, place="test")


def test_the_teacher_has_the_same_recipe_unless_told_otherwise() -> None:
    recipe = Recipe(epochs=7, schedule="cosine", gamma=0.5)
    (teacher,) = MFD.sources(MFD.Config(training=recipe))
    assert teacher == Vanilla.Config(training=recipe.resolved())
    grouped = recipe.model_copy(update={"sampling": "class_grouped"})
    assert MFD.sources(MFD.Config(training=grouped)) == (teacher,)
    short = Recipe(epochs=3, sampling="class_grouped")
    (other,) = MFD.sources(MFD.Config(training=recipe, teacher_training=short))
    assert other == Vanilla.Config(training=short)
    (hsic,) = MFD.sources(MFD.Config(training=recipe, teacher="hsic"))
    assert (hsic.name, hsic.training) == ("hsic", recipe.resolved())


def sweep(**changes: Any) -> SweepSpec:
    fields: dict[str, Any] = {
        "name": "distilled",
        "data": DATA,
        "backbone": ResNet18.Config(),
        "training": Recipe(epochs=3, schedule="cosine", step_size=7, learning_rate=0.02),
        "baseline": "mfd",
        "prune": {"criterion": "random", "ratio": 0.1},
        "iterations": 2,
        "seeds": (0, 1),
        "controls": ("none",),
        "search": Search(sampler="grid"),
    }
    return SweepSpec(**(fields | changes))


def test_a_sweep_s_teacher_is_its_reference_root() -> None:
    tree = full_tree(sweep(), ANYWHERE, "cpu")
    roots = [node for node in tree.nodes.values() if node.trial.prune is None]
    names = sorted(node.trial.baseline.name for node in roots)
    assert names == ["mfd", "mfd", "vanilla", "vanilla"]
    for node in tree.nodes.values():
        if node.trial.baseline.name == "mfd":
            reference = node.compares_with["reference"]
            assert node.parents[-1] == reference
            assert tree.nodes[reference].trial.baseline.name == "vanilla"
            assert node.trial.n == 0 or node.parents[0] != reference


def test_the_plan_counts_the_teacher_once() -> None:
    plan = plan_space(sweep(), "cpu")
    # of each seed: vanilla (reference and teacher), mfd, and 2 iterations of 2 arms
    assert plan["num_baselines"] == 4
    assert plan["num_nodes"] == 2 * (2 + 4)
    both = plan_space(sweep(baseline=one_of("vanilla", "mfd")), "cpu")
    assert both["num_baselines"] == 4
    assert both["num_nodes"] == 2 * (2 + 8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    return load_dataset(DATA, cache_dir=tmp_path_factory.mktemp("cache"))


def trial(name: str = "mfd", loss: str | None = None, n: int = 1) -> Trial:
    document: dict[str, Any] = {
        "backbone": "resnet18",
        "baseline": {"name": name, "training": RECIPE},
    }
    if loss is not None:
        prune = {"criterion": "random", "ratio": 0.25, "finetune": RECIPE, "finetune_loss": loss}
        document |= {"prune": prune, "n": n}
    return validate(Trial, document, place="test").resolved()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


def test_the_stored_vanilla_root_is_the_teacher(store: Store, dataset: Dataset) -> None:
    reference = run_trial(trial("vanilla"), dataset, store)
    node = run_trial(trial(), dataset, store)
    assert [parent["key"] for parent in node["parents"]] == [reference["key"]]
    assert store.node(reference["key"]) == reference  # not made again
    assert node["key"] != reference["key"]
    assert node["model"]["num_params"] == reference["model"]["num_params"]
    assert node["model"]["weights_sha256"] != reference["model"]["weights_sha256"]
    (epoch,) = json.loads(store.read(node["key"], CURVES))
    assert epoch["train_touched"] > 0.5
    assert 0 < epoch["train_term"] < 2 * 3 * 2


def test_fine_tuning_with_the_teacher_or_without(store: Store, dataset: Dataset) -> None:
    root = node_key(trial("vanilla"), identity(dataset))
    distilled = run_trial(trial(loss="baseline", n=2), dataset, store)
    assert [parent["key"] for parent in distilled["parents"]][1:] == [root]
    assert distilled["model"]["channels"] == {"layer4.1.conv2": [512, 256]}
    first = run_trial(trial(loss="baseline"), dataset, store)
    assert distilled["parents"][0]["key"] == first["key"]
    plain = run_trial(trial(loss="cross_entropy"), dataset, store)
    assert len(plain["parents"]) == 1
    assert plain["plan"] == first["plan"]
    assert plain["model"]["weights_sha256"] != first["model"]["weights_sha256"]
    baseline = make_baseline(trial(), dataset)
    model, _ = load_model(store, first["key"], trial(loss="baseline"), baseline)
    assert model.plan == first["plan"]
