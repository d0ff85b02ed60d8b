"""Multi-exit: losses, where images leave, reports by threshold, cutting exits with the maps they
read, and one trial."""

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from orchestrator.cli import app
from trainables.baselines.base import Batch, Task
from trainables.baselines.multi_exit import MultiExit
from trainables.data.base import VALIDATION, Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.exits import Exit, exit_counts, exit_logits, exit_sources, exits_taken
from trainables.node import load_model, make_baseline
from trainables.portable import load_portable, save_portable
from trainables.predictions import Predictions
from trainables.pruning.surgery import apply_plan, cut, extend_plan
from trainables.registry import backbones
from trainables.specs import validate
from trainables.store import Store
from trainables.training import Trainer
from trainables.trial import identity, run_trial
from trainables.trial_spec import Trial, node_key

torch.set_num_threads(1)
NUM_CLASSES = 3
REMOVED = [0, 3, 17, 40, 63]
CHANNELS = {"resnet18": (64, 128, 256, 512), "vgg11": (128, 256, 512, 512)}
CHANNELS["vgg11_bn"] = CHANNELS["vgg11"]


def baseline(**options: object) -> MultiExit:
    mapping = {"name": "multi_exit", **options}
    return MultiExit(validate(MultiExit.Config, mapping, place="test"), Task(NUM_CLASSES, 2))


def made(backbone: str, seed: int = 1, **options: object) -> Classifier:
    """A net with its exits; a VGG's 124 million weights of linear layers are thinned out."""
    cls = backbones.get(backbone)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if backbone == "resnet18":
            net = cls.build(cls.Config(), NUM_CLASSES, generator)
        else:
            with torch.device("meta"):
                net = cls.construct(cls.Config(), NUM_CLASSES, None)
            net.features.to_empty(device="cpu")
            net.classifier = nn.Sequential(nn.Linear(512 * 49, 8), nn.ReLU(), nn.Linear(8, 3))
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
                elif isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
                    nn.init.normal_(module.bias, std=0.1)
        model = Classifier(net)
        made_by = baseline(**options)
        made_by.adapt(model)
        model.extra = made_by.extra_modules(model.head.in_features)
        for module in model.extra.modules():  # large enough to be sure of some images
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.bias, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    return made("resnet18")


@pytest.fixture(scope="module")
def vgg() -> Classifier:
    return made("vgg11")


@pytest.fixture(scope="module")
def vgg_bn() -> Classifier:
    return made("vgg11_bn")


@pytest.fixture(scope="module")
def image_NCHW() -> Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def by_hand(model: Classifier, image_CHW: Tensor) -> list[Tensor]:
    """Logits (K,) of every exit for one image, module after module, without hooks."""

    def leave(number: int, feature_1CHW: Tensor) -> Tensor:
        exit_ = model.extra[f"exit{number}"]
        convs = (exit_.conv1, exit_.conv2)
        for conv in convs:
            feature_1CHW = functional.conv2d(feature_1CHW, conv.weight, conv.bias, padding=1)
        mean_C = feature_1CHW.mean((0, 2, 3))
        return exit_.head.weight @ mean_C + exit_.head.bias

    value, found, net = image_CHW[None], [], model.net
    if hasattr(net, "layer1"):
        value = net.maxpool(net.relu(net.bn1(net.conv1(value))))
        for number in range(1, 5):
            value = getattr(net, f"layer{number}")(value)
            found.append(leave(number, value))
        return [*found, net.fc(net.avgpool(value).flatten(1))[0]]
    pools = 0
    for module in net.features:
        value = module(value)
        pools += isinstance(module, nn.MaxPool2d)
        if isinstance(module, nn.MaxPool2d) and pools > 1:
            found.append(leave(pools - 1, value))
    return [*found, net.classifier(net.avgpool(value).flatten(1))[0]]


# --- the exits


@pytest.mark.parametrize("backbone", CHANNELS)
def test_exits_read_the_stages_or_the_last_four_pooling_layers(
    backbone: str, request: pytest.FixtureRequest, image_NCHW: Tensor
) -> None:
    model = request.getfixturevalue(backbone.replace("18", "").replace("11", ""))
    exits = [model.extra[f"exit{e}"] for e in range(1, 5)]
    assert [e.conv1.in_channels for e in exits] == list(CHANNELS[backbone])
    expected = {
        "resnet18": ("layer1", "layer2", "layer3", "layer4"),
        "vgg11": ("features.5", "features.10", "features.15", "features.20"),
        "vgg11_bn": ("features.7", "features.14", "features.21", "features.28"),
    }[backbone]
    assert exit_sources(model.net) == expected
    with torch.no_grad():
        logits_ENK = exit_logits(model, image_NCHW)
    assert tuple(logits_ENK.shape) == (5, 6, NUM_CLASSES)
    for row, image_CHW in enumerate(image_NCHW):
        expected_EK = torch.stack(by_hand(model, image_CHW))
        torch.testing.assert_close(logits_ENK[:, row], expected_EK, atol=1e-5, rtol=1e-4)


def test_an_exit_is_the_published_one_but_for_padding_and_pooling() -> None:
    plain, paper = Exit(128, 7, 1, False), Exit(128, 7, 0, True)
    for exit_ in (plain, paper):
        count = 128 * 64 * 9 + 64 + 64 * 32 * 9 + 32 + 32 * 7 + 7
        assert sum(p.numel() for p in exit_.parameters()) == count
    feature_NCHW = torch.randn(2, 128, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = paper.conv2(functional.adaptive_avg_pool2d(paper.conv1(feature_NCHW), 64))
        assert hidden.shape[2:] == (62, 62)
        torch.testing.assert_close(paper(feature_NCHW), paper.head(hidden.flatten(2).mean(2)))
        assert plain(feature_NCHW[:, :, :1, :1]).shape == (2, 7)  # 1 x 1 maps at 32 pixels


def test_exits_without_padding_say_which_map_is_too_small(image_NCHW: Tensor) -> None:
    for pooling, words in (
        (False, "maps of 5 x 5 or more but those of layer2 are 4 x 4: use padding 1"),
        (True, "maps of 3 x 3 or more but those of layer3 are 2 x 2: use padding 1"),
    ):
        model = made("resnet18", padding=0, paper_pooling=pooling)
        with pytest.raises(UserError, match=words):
            exit_logits(model, image_NCHW[:1])
        large = functional.interpolate(image_NCHW[:1], 96 if pooling else 160)
        with torch.no_grad():
            assert exit_logits(model, large).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("resnet", {}, (1, 1, 1, 1, 1)),
        ("vgg", {}, (0.3, 0.45, 0.6, 0.75, 0.9)),
        ("resnet", {"weights": (0, 0.5, 0.25, 2, 1)}, (0, 0.5, 0.25, 2, 1)),
    ],
)
def test_loss_is_the_weighted_sum_of_cross_entropies(
    name: str,
    options: dict,
    weights: tuple,
    request: pytest.FixtureRequest,
    image_NCHW: Tensor,
) -> None:
    model = request.getfixturevalue(name)
    label_N = torch.tensor([0, 1, 2, 0, 1, 2])
    batch = Batch(image_NCHW, label_N, torch.full((6,), -1), 0.0)
    expected = 0.0
    for row, image_CHW in enumerate(image_NCHW):
        for weight, logits_K in zip(weights, by_hand(model, image_CHW), strict=True):
            p_K = np.exp(logits_K.double().numpy())
            expected -= weight * math.log(p_K[label_N[row]] / p_K.sum()) / 6
    with torch.no_grad():
        assert baseline(**options).loss(model, batch).item() == pytest.approx(expected, rel=1e-4)


def test_every_exit_learns(image_NCHW: Tensor) -> None:
    model = made("resnet18")
    batch = Batch(image_NCHW, torch.tensor([0, 1, 2, 0, 1, 2]), torch.full((6,), -1), 0.0)
    baseline().loss(model, batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_step_never_waits_for_the_device() -> None:
    """Tensors without values have none to wait for: reading one would be an error."""
    made_by = baseline()
    with torch.device("meta"):
        cls = backbones.get("resnet18")
        model = Classifier(cls.construct(cls.Config(), NUM_CLASSES, None))
        made_by.adapt(model)
        model.extra = made_by.extra_modules(model.head.in_features)
        label_N = torch.zeros(6, dtype=torch.int64)
        batch = Batch(torch.zeros(6, 3, 32, 32), label_N, label_N, 0.0)
        optimizer = made_by.optimizer(model.train(), made_by.config.training)
        logs = made_by.step(model, batch, optimizer, torch.autocast("cpu", enabled=False))
        assert logs["loss"].shape == ()
        assert made_by.logits(model.eval(), batch.image_NCHW, label_N).shape == (6, NUM_CLASSES)


def test_bf16_gives_nearly_the_same_loss(resnet: Classifier, image_NCHW: Tensor) -> None:
    batch = Batch(image_NCHW, torch.tensor([0, 1, 2, 0, 1, 2]), torch.full((6,), -1), 0.0)
    with torch.no_grad():
        plain = baseline().loss(resnet, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = baseline().loss(resnet, batch)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(plain.item(), rel=0.05)
    assert rounded.item() != plain.item()


# --- where images leave


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6, 0.9, 1.0, 1.01])
def test_each_image_leaves_at_the_first_exit_that_is_sure(threshold: float) -> None:
    logits_ENK = 2 * torch.randn(5, 50, 4, generator=torch.Generator().manual_seed(11))
    logits_ENK[1, 7] = torch.tensor([200.0, 0, 0, 0])  # a probability of exactly 1
    expected = []
    for image in range(50):
        for exit_ in range(5):
            power = np.exp(logits_ENK[exit_, image].double().numpy())
            if exit_ == 4 or (power / power.sum()).max() >= threshold:
                expected.append(exit_)
                break
    assert exits_taken(logits_ENK, threshold).tolist() == expected
    if 0.5 < threshold < 1:
        assert len(set(expected)) == 5


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_batched_inference_equals_a_loop_over_images(
    name: str, request: pytest.FixtureRequest, image_NCHW: Tensor
) -> None:
    model = request.getfixturevalue(name)
    group_N = torch.full((6,), -1)
    each = [by_hand(model, image_CHW) for image_CHW in image_NCHW]
    sure = sorted(float(k.softmax(0).max()) for exits in each for k in exits[:-1])
    left = set()
    for threshold in (0.0, sure[3] + 1e-4, sure[12] + 1e-4, sure[20] + 1e-4, 1.5):
        expected = []
        for exits in each:
            number = next(
                (e for e, k in enumerate(exits[:-1]) if k.softmax(0).max() >= threshold), 4
            )
            left.add(number)
            expected.append(exits[number])
        with torch.no_grad():
            got_NK = baseline(threshold=threshold).logits(model, image_NCHW, group_N)
        torch.testing.assert_close(got_NK, torch.stack(expected), atol=1e-5, rtol=1e-4)
        if threshold == 0:
            first_NK = torch.stack([exits[0] for exits in each])
            torch.testing.assert_close(got_NK, first_NK, atol=1e-5, rtol=1e-4)
        if threshold > 1:
            with torch.no_grad():
                assert torch.equal(got_NK, model(image_NCHW))
    assert len(left) > 2


def test_counts_are_those_of_a_loop_over_images() -> None:
    """Who leaves where, who is right there and what is predicted, group by group."""
    logits_ENK = 2 * torch.randn(5, 60, NUM_CLASSES, generator=torch.Generator().manual_seed(9))
    label_N, group_N = np.arange(60) % NUM_CLASSES, np.arange(60) // 3 % 4 - 1  # -1: unknown
    for threshold in (0.0, 0.7, 0.8, 0.95, 2.0):
        found = exit_counts(logits_ENK.numpy(), label_N, group_N, threshold, 3)
        left, right, count = np.zeros((3, 5)), np.zeros((3, 5)), np.zeros((3, 3, 3))
        for image in np.flatnonzero(group_N >= 0):
            e = next(
                e
                for e in range(5)
                if e == 4 or float(logits_ENK[e, image].softmax(0).max()) >= threshold
            )
            predicted = int(logits_ENK[e, image].argmax())
            left[group_N[image], e] += 1
            right[group_N[image], e] += predicted == label_N[image]
            count[group_N[image], label_N[image], predicted] += 1
        np.testing.assert_array_equal(found.left_GE, left)
        np.testing.assert_array_equal(found.right_GE, right)
        np.testing.assert_array_equal(found.count_GCC, count)
        assert found.left_GE.sum() == 45
        if 0 < threshold < 1:
            assert (found.left_GE > 0).sum() > 6
            assert 0 < found.right_GE.sum() < 45
        else:
            assert found.left_GE[:, 0 if threshold == 0 else 4].sum() == 45


# --- mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": -0.1}, "threshold: .*greater than or equal to 0"),
        ({"weights": [1, 1, 1, 1]}, "weights"),
        ({"weights": [1, 1, -1, 1, 1]}, "must not be negative"),
        ({"weights": [1, 1, 1, 1, 0]}, "the last above 0"),
        ({"padding": 2}, "padding"),
        ({"treshold": 0.5}, "did you mean 'threshold'"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        baseline(**options)


def test_weights_survive_a_round_trip() -> None:
    config = baseline(weights=[0, 1, 2, 3, 4]).config
    assert config.weights == (0.0, 1.0, 2.0, 3.0, 4.0)
    again = validate(MultiExit.Config, yaml.safe_load(config.model_dump_json()), place="test")
    assert again == config


def test_another_kind_of_net_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"multi_exit needs 4 stages .* but Sequential has not"):
        baseline().adapt(Classifier(net))


# --- cutting


@contextmanager
def zeroed(net: nn.Module, modules: tuple[str, ...]) -> Iterator[None]:
    def zero(module: nn.Module, args: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, REMOVED] = 0
        return output

    with ExitStack() as stack:
        for name in modules:
            stack.callback(net.get_submodule(name).register_forward_hook(zero).remove)
        yield


K = len(REMOVED)
# net, layer, site, modules zeroed in the masked net, exit that reads the channels, parameters
# saved in the net
SITES = [
    ("resnet", "layer4.1.conv1", "conv", ("layer4.1.bn1",), 0, K * (2 * 512 * 9 + 2)),
    ("resnet", "layer3.0.conv2", "conv", ("layer3.0.bn2",), 0, K * (256 * 9 + 2)),
    ("resnet", "layer4.1.conv2", "conv", ("layer4.1.bn2",), 0, K * (512 * 9 + 2)),
    ("resnet", "layer4.1.conv2", "block", ("layer4.1",), 4, K * (512 * 9 + 2 + NUM_CLASSES)),
    ("resnet", "layer2.1.conv2", "block", ("layer2.1",), 2, K * (128 * 9 + 2 + 256 * 10)),
    (
        "resnet",
        "layer1.0.conv2",
        "group",
        ("bn1", "layer1.0.bn2", "layer1.1.bn2"),
        1,
        K * (147 + 2 + 2 * (64 * 9 + 2) + 2 * 64 * 9 + 128 * 10),
    ),
    ("vgg", "features.18", "conv", ("features.18",), 4, K * (512 * 9 + 1 + 49 * 8)),
    ("vgg", "features.8", "conv", ("features.8",), 2, K * (256 * 9 + 1 + 512 * 9)),
    ("vgg", "features.6", "conv", ("features.6",), 0, K * (128 * 9 + 1 + 256 * 9)),
    ("vgg_bn", "features.25", "conv", ("features.26",), 4, K * (512 * 9 + 3 + 49 * 8)),
]


@pytest.mark.parametrize(("name", "layer", "site", "zero", "reader", "saved"), SITES)
def test_exits_are_cut_with_the_maps_they_read(
    name: str,
    layer: str,
    site: str,
    zero: tuple[str, ...],
    reader: int,
    saved: int,
    request: pytest.FixtureRequest,
    image_NCHW: Tensor,
) -> None:
    model = request.getfixturevalue(name)
    image_NCHW = functional.interpolate(image_NCHW[:4], 64) if name == "resnet" else image_NCHW
    with torch.no_grad():
        whole_ENK = exit_logits(model, image_NCHW)
        with zeroed(model.net, zero):
            expected_ENK = exit_logits(model, image_NCHW)
    changed_E = (expected_ENK - whole_ENK).abs().amax((1, 2))
    assert changed_E[-1] > 1e-4  # the mask matters
    assert (changed_E[reader - 1 :] > 1e-4).all() if reader else True
    small, made_by = copy.deepcopy(model), baseline()
    total = small.net.get_submodule(layer).out_channels
    plan = extend_plan({}, layer, site, REMOVED, total)
    cut(small.net, layer, site, REMOVED, made_by.feature_heads(small))
    with torch.no_grad():
        small_ENK = exit_logits(small, image_NCHW)
    torch.testing.assert_close(small_ENK, expected_ENK, atol=1e-5, rtol=1e-5)
    count = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert count[0] - count[1] == saved + (K * 64 * 9 if reader else 0)
    channels = CHANNELS["resnet18" if name == "resnet" else "vgg11"]
    for number, before in enumerate(channels, 1):
        now = small.extra[f"exit{number}"].conv1.in_channels
        assert now == (before - K if number == reader else before)

    rebuilt = made({"resnet": "resnet18", "vgg": "vgg11", "vgg_bn": "vgg11_bn"}[name], seed=5)
    apply_plan(rebuilt.net, plan, made_by.feature_heads(rebuilt))
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(exit_logits(rebuilt, image_NCHW), small_ENK)


def test_cut_exits_learn(resnet: Classifier, image_NCHW: Tensor) -> None:
    model, made_by = copy.deepcopy(resnet).train(), baseline()
    for layer, site in (("layer4.1.conv2", "group"), ("layer2.1.conv2", "block")):
        cut(model.net, layer, site, REMOVED, made_by.feature_heads(model))
    assert all(module.training for module in model.modules())
    batch = Batch(image_NCHW, torch.tensor([0, 1, 2, 0, 1, 2]), torch.full((6,), -1), 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    off = torch.autocast("cpu", enabled=False)
    losses = [float(made_by.step(model, batch, optimizer, off)["loss"]) for _ in range(3)]
    assert losses[2] < losses[0]


# --- trials

RECIPE = {"epochs": 1, "batch_size": 16, "normalise": "imagenet"}


def spec(n: int = 1, name: str = "multi_exit", options: dict | None = None, **prune) -> Trial:
    mapping: dict = {
        "backbone": "resnet18",
        "baseline": {"name": name, "training": RECIPE} | (options or {}),
        "n": n,
    }
    if n:
        mapping["prune"] = {
            "criterion": "random", "site": "block", "ratio": 0.1, "finetune": RECIPE
        } | prune  # fmt: skip
    return validate(Trial, mapping, place="test").resolved()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    return load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))


def test_a_trial_stores_the_logits_of_the_exit_taken(dataset: Dataset, tmp_path: Path) -> None:
    store, options = Store(str(tmp_path / "store")), {"threshold": 0.5}
    trial = spec(options=options)
    node = run_trial(trial, dataset, store)
    made_by = make_baseline(trial, dataset)
    model, _ = load_model(store, node["key"], trial, made_by)
    model.eval()
    rows = dataset.indices(VALIDATION)
    trainer = Trainer(DeviceData(dataset, torch.device("cpu")), trial.compute, 0, 1)
    image_NCHW = trainer.eval_images(trial.prune.finetune, torch.from_numpy(rows))
    stored = Predictions.from_bytes(store.read(node["key"], "validation.npz")).logits_NK
    for got, image_CHW in zip(stored, image_NCHW, strict=True):
        exits = by_hand(model, image_CHW)
        number = next((e for e, k in enumerate(exits[:-1]) if k.softmax(0).max() >= 0.5), 4)
        np.testing.assert_allclose(got, exits[number].numpy(), atol=2e-3, rtol=2e-3)
    assert node["plan"]["layer4.1.conv2"]["site"] == "block"
    assert model.extra["exit4"].conv1.in_channels == 512 - 51

    # whichever fine-tuning loss: it is the same one
    plain = spec(options=options, finetune_loss="cross_entropy")
    assert node_key(plain, identity(dataset)) == node["key"]
    # what the exits cost is counted
    root = run_trial(spec(0, options=options), dataset, store)
    exits = [(64, 8), (128, 4), (256, 2), (512, 1)]  # channels, side of the map
    cost = sum(2 * s * s * 9 * (c * 64 + 64 * 32) + 2 * 32 * 3 for c, s in exits)
    vanilla = run_trial(spec(0, "vanilla"), dataset, store)
    assert root["model"]["flops"] - vanilla["model"]["flops"] == cost
    assert node["model"]["flops"] < root["model"]["flops"]

    folder = save_portable(store, node["key"], tmp_path / "m", {"groups": list(dataset.groups)})
    logits_NK = load_portable(folder).logits(dataset.images_NHWC[rows])
    np.testing.assert_array_equal(logits_NK.astype(np.float16), stored)


def test_the_graph_of_an_exported_model_takes_any_number_of_images(image_NCHW: Tensor) -> None:
    """Choosing an exit an image must not stop the export of a graph for MLflow."""
    model, made_by = made("resnet18"), baseline(threshold=0.5)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image_NCHW: Tensor) -> Tensor:
            group_N = torch.full((image_NCHW.shape[0],), -1, dtype=torch.int64)
            return made_by.logits(self.model, image_NCHW, group_N)

    graph = torch.export.export(
        Net().eval(), (image_NCHW[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    ).module()
    with torch.no_grad():
        expected_NK = made_by.logits(model, image_NCHW, torch.full((6,), -1))
        torch.testing.assert_close(graph(image_NCHW), expected_NK, atol=1e-5, rtol=1e-5)


def test_plain_vgg_is_accepted_by_a_space(tmp_path: Path) -> None:
    document = {
        "name": "s",
        "data": {"name": "synthetic", "num_images": 60, "image_size": 32},
        "backbone": "vgg11",
        "baseline": {"name": "multi_exit", "threshold": {"choice": [0.8, 0.99]}},
        "search": {"sampler": "grid"},
    }
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["show", str(path)])
    assert result.exit_code == 0, result.output
