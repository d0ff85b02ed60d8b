"""FairAdaBN: its losses, a BatchNorm per group against ordinary ones, cutting, and trials."""

import copy
import dataclasses
import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock
from typer.testing import CliRunner

from orchestrator.cli import app
from trainables.baselines.base import Batch, Task, cross_entropy
from trainables.baselines.fair_adabn import FairAdaBN, statistical_disparity
from trainables.data.base import VALIDATION, Dataset
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier
from trainables.models.group_batch_norm import GroupBatchNorm2d, GroupIndex, groups_of
from trainables.node import empty_model, load_model, make_baseline
from trainables.portable import load_portable, save_portable
from trainables.predictions import Predictions
from trainables.pruning.curvature import group_curvature, logits_of
from trainables.pruning.snnl import SNNL, chance_level, snnl_fair
from trainables.pruning.surgery import apply_plan, cut, dependency_graph, extend_plan, masked
from trainables.registry import backbones
from trainables.scoring import score_channels
from trainables.specs import validate
from trainables.store import Store
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial import run_trial
from trainables.trial_spec import Compute, Trial

torch.set_num_threads(1)
NUM_CLASSES, NUM_GROUPS = 5, 3
GROUP_N = torch.tensor([0, 2, 1, 1, 0, 2])
REMOVED = [0, 3, 17, 40, 63]


def baseline(num_groups: int = NUM_GROUPS, **options: object) -> FairAdaBN:
    return FairAdaBN(FairAdaBN.Config(**options), Task(NUM_CLASSES, num_groups))


def fresh(backbone: str) -> Classifier:
    """A net by seed 1, its norms one a group; a VGG's 124 million weights of linear layers are
    thinned out."""
    cls = backbones.get(backbone)
    generator = torch.Generator().manual_seed(1)
    if backbone == "resnet18":
        net = cls.build(cls.Config(), NUM_CLASSES, generator)
    else:
        with torch.device("meta"):
            net = cls.construct(cls.Config(), NUM_CLASSES, None)
        net.features.to_empty(device="cpu")
        net.classifier = nn.Sequential(nn.Linear(512 * 49, 8), nn.ReLU(), nn.Linear(8, 5))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, std=0.1, generator=generator)
    model = Classifier(net)
    baseline().adapt(model)
    return model


def adapted(backbone: str) -> Classifier:
    """A classifier whose groups have different running statistics and affine parameters."""
    model = fresh(backbone)
    net = model.net
    generator = torch.Generator().manual_seed(2)
    for norm in group_norms(net).values():
        norm.weight.data.normal_(1, 0.3, generator=generator)
        norm.bias.data.normal_(0, 0.3, generator=generator)
        norm.running_mean.normal_(0, 0.3, generator=generator)
        norm.running_var.uniform_(0.3, 2, generator=generator)
    return model.eval()


def group_norms(net: nn.Module) -> dict[str, GroupBatchNorm2d]:
    return {n: m for n, m in net.named_modules() if isinstance(m, GroupBatchNorm2d)}


def of_group(net: nn.Module, group: int) -> nn.Module:
    """The ordinary net that has one group's BatchNorms."""
    plain = copy.deepcopy(net)
    for name, norm in group_norms(net).items():
        own = nn.BatchNorm2d(norm.num_features).eval()
        own.weight.data, own.bias.data = norm.weight.data[group], norm.bias.data[group]
        own.running_mean, own.running_var = norm.running_mean[group], norm.running_var[group]
        plain.set_submodule(name, own)
    return plain


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    return adapted("resnet18")


@pytest.fixture(scope="module")
def vgg() -> Classifier:
    return adapted("vgg11_bn")


@pytest.fixture(scope="module")
def image_NCHW() -> Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(3))


# --- the disparity loss


def disparity_by_hand(logits_NK: np.ndarray, group_N: np.ndarray, num_groups: int) -> float:
    logits_NK = logits_NK.astype(np.float64)
    p_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
    total = 0.0
    for a, b in combinations(range(num_groups), 2):
        if (group_N == a).any() and (group_N == b).any():
            for k in range(logits_NK.shape[1]):
                total += (p_NK[group_N == a, k].mean() - p_NK[group_N == b, k].mean()) ** 2
    return total


@pytest.mark.parametrize(
    ("groups", "num_groups"),
    [
        ([0, 1, 1, 0, 1, 0], 2),
        ([0, 1, -1, 0, -1, 0], 2),
        ([2, 0, 1, 1, 0, -1], 3),
        ([2, 0, 2, 0, 0, 0], 3),  # no image of group 1
    ],
)
def test_disparity_and_its_gradient(groups: list[int], num_groups: int) -> None:
    logits_NK = torch.randn(6, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    value = statistical_disparity(logits_NK, torch.tensor(groups), num_groups)
    by_hand = functools.partial(
        disparity_by_hand, group_N=np.array(groups), num_groups=num_groups
    )
    start = logits_NK.detach().double().numpy()
    assert value.item() == pytest.approx(by_hand(start), rel=1e-5)
    value.backward()
    slope = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[place] = 1e-5
        slope[place] = (by_hand(start + step) - by_hand(start - step)) / 2e-5
    np.testing.assert_allclose(logits_NK.grad.numpy(), slope, atol=1e-6)
    known = np.array(groups) >= 0
    assert np.abs(slope[known]).max() > 1e-3  # argmax counts would give no gradient at all
    assert (logits_NK.grad.numpy()[~known] == 0).all()


@pytest.mark.parametrize("groups", [[0, 0, 0], [-1, -1, -1], [1, -1, 1]])
def test_no_pair_of_groups_no_disparity(groups: list[int]) -> None:
    logits_NK = torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    value = statistical_disparity(logits_NK, torch.tensor(groups), 2)
    value.backward()
    assert value.item() == 0
    assert (logits_NK.grad == 0).all()


def test_loss_is_cross_entropy_of_known_groups_plus_disparity(
    resnet: Classifier, image_NCHW: Tensor
) -> None:
    model = copy.deepcopy(resnet)
    image_NCHW, label_N = image_NCHW[:, :, :32, :32], torch.tensor([0, 1, 2, 3, 4, 0])
    group_N = torch.tensor([0, 2, -1, 1, 0, 2])
    batch = Batch(image_NCHW, label_N, group_N, 0.0)
    known = group_N >= 0
    logits_NK = baseline().logits(model, image_NCHW, group_N).detach()
    entropy = nn.functional.cross_entropy(logits_NK[known], label_N[known]).item()
    disparity = disparity_by_hand(logits_NK.numpy(), group_N.numpy(), NUM_GROUPS)
    for strength in (0.0, 0.5, 2.0):
        value = baseline(strength=strength).loss(model, batch).item()
        assert value == pytest.approx(entropy + strength * disparity, rel=1e-5)
    assert baseline().plain_cross_entropy(model, batch).item() == pytest.approx(entropy, rel=1e-5)
    unknown = dataclasses.replace(batch, group_N=torch.full((6,), -1))
    assert baseline().loss(model, unknown).item() == 0


def test_images_of_unknown_group_teach_nothing(resnet: Classifier, image_NCHW: Tensor) -> None:
    """Whatever they show, gradients and running statistics in training stay bit for bit."""
    image_NCHW = image_NCHW[:, :, :32, :32]
    group_N, label_N = torch.tensor([0, 1, -1, 1, 0, -1]), torch.tensor([0, 1, 2, 3, 4, 0])
    other_NCHW = image_NCHW.clone()
    other_NCHW[group_N < 0] = 7
    learned = []
    for image in (image_NCHW, other_NCHW):
        model = copy.deepcopy(resnet).train()
        baseline().loss(model, Batch(image, label_N, group_N, 0.0)).backward()
        learned.append(
            {n: p.grad for n, p in model.named_parameters()} | dict(model.named_buffers())
        )
    assert learned[0]["net.conv1.weight"].abs().max() > 0
    for name, value in learned[0].items():
        assert torch.equal(value, learned[1][name]), name


# --- one BatchNorm per group


def test_training_equals_an_ordinary_norm_on_each_group() -> None:
    generator = torch.Generator().manual_seed(7)
    group_N = torch.tensor([0, 2, 1, 0, -1, 2, 0, 2])  # one image of group 1, one unknown
    index = GroupIndex()
    index.group_N = group_N
    start = nn.BatchNorm2d(4)
    nn.init.normal_(start.weight, generator=generator)
    nn.init.normal_(start.bias, generator=generator)
    start.running_mean.normal_(generator=generator)
    ours = GroupBatchNorm2d(start, 3, index)
    plain = [copy.deepcopy(start) for _ in range(3)]
    for _ in range(2):  # running statistics twice
        # a mean that is large beside the spread: squares must not be subtracted
        value_NCHW = 30 + torch.randn(8, 4, 3, 5, generator=generator)
        weigh_NCHW = torch.randn(8, 4, 3, 5, generator=generator)
        leaf = value_NCHW.clone().requires_grad_()
        out_NCHW = ours(leaf)
        ours.zero_grad()
        (out_NCHW * weigh_NCHW * (group_N >= 0)[:, None, None, None]).sum().backward()
        for group, norm in enumerate(plain):
            rows = group_N == group
            norm.train(group != 1)  # the lone image of group 1: by running statistics
            other = value_NCHW[rows].clone().requires_grad_()
            norm.zero_grad()
            expected = norm(other)
            (expected * weigh_NCHW[rows]).sum().backward()
            torch.testing.assert_close(out_NCHW[rows], expected, atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(leaf.grad[rows], other.grad, atol=2e-5, rtol=1e-4)
            near = functools.partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
            near(ours.weight.grad[group], norm.weight.grad)
            torch.testing.assert_close(ours.bias.grad[group], norm.bias.grad, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(ours.running_mean[group], norm.running_mean)
            torch.testing.assert_close(ours.running_var[group], norm.running_var)
        assert (leaf.grad[group_N < 0] == 0).all()
    assert torch.equal(ours.running_mean[1], start.running_mean)
    assert not torch.equal(ours.running_mean[0], start.running_mean)


def test_bf16_rounds_maps_but_not_statistics(resnet: Classifier, image_NCHW: Tensor) -> None:
    image_NCHW = image_NCHW[:, :, :32, :32]
    model, outputs = copy.deepcopy(resnet).train(), {}
    stem = model.net.bn1
    stem.register_forward_hook(lambda _, args, output: outputs.update(i=args[0], o=output.clone()))
    expected = stem.of_group(2).train()
    batch = Batch(image_NCHW, torch.tensor([0, 1, 2, 3, 4, 0]), GROUP_N, 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = baseline().loss(model, batch)
    loss.backward()
    assert (outputs["i"].dtype, outputs["o"].dtype) == (torch.bfloat16, torch.bfloat16)
    assert loss.dtype == stem.running_var.dtype == torch.float32
    mine = GROUP_N.eq(2)
    normal = expected(outputs["i"][mine].detach().float())
    torch.testing.assert_close(stem.running_mean[2], expected.running_mean)
    torch.testing.assert_close(stem.running_var[2], expected.running_var)
    torch.testing.assert_close(outputs["o"][mine].float(), normal, atol=1e-2, rtol=1e-2)
    plain = baseline().loss(copy.deepcopy(resnet).train(), batch)
    # groups of one or two images and maps of one pixel: normalising magnifies what is rounded, and
    # CPUs round differently (.13 seen where matrix units multiply bf16, .02 elsewhere)
    assert loss.item() == pytest.approx(plain.item(), rel=0.25)


def test_a_step_never_waits_for_the_device() -> None:
    """Tensors without values have none to wait for: reading one would be an error."""
    with torch.device("meta"):
        cls = backbones.get("resnet18")
        model = Classifier(cls.construct(cls.Config(), NUM_CLASSES, None))
        made = baseline()
        made.adapt(model)
        label_N = torch.zeros(6, dtype=torch.int64)
        batch = Batch(torch.zeros(6, 3, 32, 32), label_N, label_N, 0.0)
        optimizer = made.optimizer(model.train(), made.config.training)
        logs = made.step(model, batch, optimizer, torch.autocast("cpu", enabled=False))
        assert logs["loss"].shape == ()
        assert made.logits(model.eval(), batch.image_NCHW, label_N).shape == (6, NUM_CLASSES)


def test_groups_start_alike_and_must_be_named(image_NCHW: Tensor) -> None:
    cls = backbones.get("resnet18")
    net = cls.build(cls.Config(), NUM_CLASSES, torch.Generator().manual_seed(1)).eval()
    model = Classifier(copy.deepcopy(net))
    baseline().adapt(model)
    image_NCHW = image_NCHW[:, :, :32, :32]
    with torch.no_grad():
        got_NK = model.eval()(image_NCHW, GROUP_N)
        torch.testing.assert_close(got_NK, net(image_NCHW), atol=1e-5, rtol=1e-5)
        with pytest.raises(RuntimeError, match="one BatchNorm per group"):
            model(image_NCHW)
        with pytest.raises(RuntimeError, match="one BatchNorm per group"):
            model(image_NCHW, GROUP_N[:2])
    assert len(group_norms(model.net)) == 20
    twins = {id(norm.index) for norm in group_norms(copy.deepcopy(model.net)).values()}
    assert len(twins) == 1
    assert twins.isdisjoint({id(norm.index) for norm in group_norms(model.net).values()})


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_each_image_sees_the_plain_net_of_its_group(
    name: str, request: pytest.FixtureRequest, image_NCHW: Tensor
) -> None:
    """Mixed batches equal per-group nets, and those equal convolutions with folded norms."""
    model = request.getfixturevalue(name)
    image_NCHW = image_NCHW[:, :, :32, :32]
    with torch.no_grad():
        mixed_NK = model(image_NCHW, GROUP_N)
        unknown_NK = model(image_NCHW, torch.full_like(GROUP_N, -1))
        for group in range(NUM_GROUPS):
            plain, folded = of_group(model.net, group), of_group(model.net, group)
            fold(folded)
            assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
            rows = group == GROUP_N
            for net in (plain, folded):
                torch.testing.assert_close(
                    mixed_NK[rows], net(image_NCHW)[rows], atol=1e-5, rtol=1e-5
                )
            if group == 0:
                torch.testing.assert_close(unknown_NK, plain(image_NCHW), atol=1e-5, rtol=1e-5)
        spread = (mixed_NK - unknown_NK)[GROUP_N > 0].abs().max()
    assert spread > 1e-2  # groups do differ


def test_curvature_is_that_of_each_images_own_norms(
    resnet: Classifier, image_NCHW: Tensor
) -> None:
    """Per group as plain autograd through the plain net that has this group's norms."""
    weight = "net.layer4.1.conv2.weight"
    label_N = torch.arange(len(GROUP_N)) % NUM_CLASSES
    diagonal, num_G = group_curvature(
        logits_of(resnet, baseline()),
        {weight: resnet.get_parameter(weight)},
        [(image_NCHW, label_N, GROUP_N, GROUP_N)],
        NUM_GROUPS,
        kind="fisher",
        chunk_size=4,
    )
    assert num_G.tolist() == [2, 2, 2]
    for group in range(NUM_GROUPS):
        net = of_group(resnet.net, group).eval()
        parameter = net.get_parameter(weight.removeprefix("net."))
        squares = []
        for i in torch.nonzero(group == GROUP_N).flatten():
            loss = cross_entropy(net(image_NCHW[i, None]), label_N[i, None])
            squares.append(torch.autograd.grad(loss, parameter)[0].square())
        expected = torch.stack(squares).mean(0)
        assert expected.max() > 0
        torch.testing.assert_close(
            diagonal[weight][group], expected, rtol=1e-3, atol=1e-5 * float(expected.max())
        )


def fold(net: nn.Module) -> None:
    """Every convolution takes in the norm after it."""
    pairs = [(net, "conv1", "bn1")] if hasattr(net, "layer1") else []
    for module in list(net.modules()):
        if isinstance(module, BasicBlock):
            pairs += [(module, "conv1", "bn1"), (module, "conv2", "bn2")]
            if module.downsample is not None:
                pairs.append((module.downsample, "0", "1"))
    features = getattr(net, "features", nn.Sequential())
    convs = [int(n) for n, m in features.named_children() if isinstance(m, nn.Conv2d)]
    pairs += [(features, str(c), str(c + 1)) for c in convs]
    for parent, conv, norm in pairs:
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())


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


K, D = len(REMOVED), NUM_GROUPS
# net, layer, site, modules zeroed in the masked net, parameters saved (a norm has 2 a group)
SITES = [
    ("resnet", "layer4.1.conv1", "conv", ("layer4.1.bn1",), K * (2 * 512 * 9 + 2 * D)),
    ("resnet", "layer2.0.conv2", "conv", ("layer2.0.bn2",), K * (128 * 9 + 2 * D)),
    ("resnet", "layer4.1.conv2", "block", ("layer4.1",), K * (512 * 9 + 2 * D + NUM_CLASSES)),
    ("resnet", "layer2.1.conv2", "block", ("layer2.1",), K * (128 * 9 + 2 * D + 256 * 10)),
    (
        "resnet",
        "layer4.1.conv2",
        "group",
        ("layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"),
        K * (3 * 512 * 9 + 256 + 3 * 2 * D + NUM_CLASSES),
    ),
    ("vgg", "features.25", "conv", ("features.26",), K * (512 * 9 + 1 + 2 * D + 49 * 8)),
    ("vgg", "features.11", "conv", ("features.12",), K * (256 * 9 + 1 + 2 * D + 512 * 9)),
]


@pytest.mark.parametrize(("name", "layer", "site", "zero", "saved"), SITES)
def test_cut_net_equals_its_masked_net_and_its_plan_rebuilds_it(
    name: str,
    layer: str,
    site: str,
    zero: tuple[str, ...],
    saved: int,
    request: pytest.FixtureRequest,
    image_NCHW: Tensor,
) -> None:
    model = request.getfixturevalue(name)
    image_NCHW = image_NCHW if name == "resnet" else image_NCHW[:, :, :32, :32]
    with torch.no_grad():
        whole_NK = model(image_NCHW, GROUP_N)
        with zeroed(model.net, zero):
            expected_NK = model(image_NCHW, GROUP_N)
        if site != "group":
            with masked(model.net, layer, site, REMOVED):
                assert torch.equal(model(image_NCHW, GROUP_N), expected_NK)
    assert (expected_NK - whole_NK).abs().max() > 1e-4  # the mask matters
    small = copy.deepcopy(model)
    plan = extend_plan({}, layer, site, REMOVED, small.net.get_submodule(layer).out_channels)
    cut(small.net, layer, site, REMOVED)
    with torch.no_grad():
        small_NK = small(image_NCHW, GROUP_N)
    torch.testing.assert_close(small_NK, expected_NK, atol=1e-5, rtol=1e-5)
    count = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert count[0] - count[1] == saved
    assert len(group_norms(small.net)) == len(group_norms(model.net))

    rebuilt = fresh("resnet18" if name == "resnet" else "vgg11_bn")
    apply_plan(rebuilt.net, plan)
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(image_NCHW, GROUP_N), small_NK)


def test_cutting_twice_keeps_the_channels_that_are_left(
    resnet: Classifier, image_NCHW: Tensor
) -> None:
    image_NCHW = image_NCHW[:, :, :32, :32]
    twice, once = copy.deepcopy(resnet), copy.deepcopy(resnet)
    cut(twice.net, "layer1.0.conv2", "group", [1, 5, 20])
    cut(twice.net, "layer1.0.conv2", "group", [0, 4, 18])  # 0, 6, 21 of the original
    cut(once.net, "layer1.0.conv2", "group", [0, 1, 5, 6, 20, 21])
    with torch.no_grad():
        torch.testing.assert_close(
            twice(image_NCHW, GROUP_N), once(image_NCHW, GROUP_N), atol=1e-5, rtol=1e-5
        )
    assert group_norms(once.net)["bn1"].num_features == 58


def test_a_refused_cut_and_a_graph_leave_the_net_as_it_was(
    resnet: Classifier, image_NCHW: Tensor
) -> None:
    image_NCHW = image_NCHW[:, :, :32, :32]
    with torch.no_grad():
        before_NK = resnet(image_NCHW, GROUP_N)
    with pytest.raises(UserError, match="use site 'group'"):
        cut(resnet.net, "conv1", "conv", [0])
    with torch.inference_mode():
        dependency_graph(resnet.net)
    with torch.no_grad():
        assert torch.equal(resnet(image_NCHW, GROUP_N), before_NK)


def test_cut_net_learns(resnet: Classifier, image_NCHW: Tensor) -> None:
    model = copy.deepcopy(resnet).train()
    cut(model.net, "layer4.1.conv2", "group", REMOVED)
    assert all(module.training for module in model.modules())
    batch = Batch(image_NCHW, torch.tensor([0, 1, 2, 3, 4, 0]), GROUP_N, 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    off = torch.autocast("cpu", enabled=False)
    losses = [float(baseline().step(model, batch, optimizer, off)["loss"]) for _ in range(3)]
    assert losses[2] < losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# --- plain VGG-11 is refused


def test_a_net_without_batch_norm_is_refused_when_the_space_is_read(tmp_path: Path) -> None:
    spec = {
        "name": "s",
        "data": {"name": "synthetic", "num_images": 60, "image_size": 32},
        "backbone": "vgg11",
        "baseline": {"one_of": ["vanilla", "fair_adabn"]},
        "search": {"sampler": "grid"},
    }
    path = tmp_path / "space.yaml"
    for backbone, code in (("vgg11", 2), ("vgg11_bn", 0)):
        path.write_text(yaml.safe_dump(spec | {"backbone": backbone}))
        result = CliRunner().invoke(app, ["show", str(path)])
        assert result.exit_code == code, result.output
        if code:
            assert "fair_adabn needs a net with BatchNorm but this VGG has none" in result.stderr
            assert "use backbone resnet18 or vgg11_bn" in result.stderr
    cls = backbones.get("vgg11")
    with torch.device("meta"), pytest.raises(UserError, match="needs a net with BatchNorm"):
        baseline().adapt(Classifier(cls.construct(cls.Config(), NUM_CLASSES, None)))


# --- trials

# slow learning: running statistics of so few batches would lag behind the weights
RECIPE = {"epochs": 2, "batch_size": 12, "normalise": "imagenet", "learning_rate": 1e-4}


def spec(n: int = 1, **prune: object) -> Trial:
    mapping: dict = {
        "backbone": "resnet18",
        "baseline": {"name": "fair_adabn", "training": RECIPE},
        "n": n,
    }
    if n:
        mapping["prune"] = {
            "criterion": "snnl", "site": "conv", "layer": "layer1.0.conv1", "ratio": 0.1,
            "finetune": RECIPE,
        } | prune  # fmt: skip
    return validate(Trial, mapping, place="test").resolved()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every seventh image is of unknown group, so that batches hold some."""
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    whole = load_dataset(config, cache_dir=tmp_path_factory.mktemp("cache"))
    group_N = whole.group_N.copy()
    group_N[::7] = -1
    return dataclasses.replace(whole, group_N=group_N, group_digest="some unknown")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize(
    "prune",
    [
        {},
        {"finetune_loss": "cross_entropy"},
        {"criterion": "random", "layer": "last", "site": "group"},
    ],
)
def test_a_trial_stores_the_logits_of_each_images_group(
    prune: dict, dataset: Dataset, store: Store
) -> None:
    trial = spec(**prune)
    node = run_trial(trial, dataset, store)
    made = make_baseline(trial, dataset)
    model, _ = load_model(store, node["key"], trial, made)
    rows = dataset.indices(VALIDATION)
    trainer = Trainer(DeviceData(dataset, torch.device("cpu")), trial.compute, 0, 1)
    image_NCHW = trainer.eval_images(trial.prune.finetune, torch.from_numpy(rows))
    stored = Predictions.from_bytes(store.read(node["key"], "validation.npz")).logits_NK
    seen = set()
    with torch.no_grad():
        for group in (0, 1):
            mine = np.isin(dataset.group_N[rows], [0, -1] if group == 0 else [1])
            expected = of_group(model.net, group).eval()(image_NCHW)[mine].numpy()
            np.testing.assert_allclose(stored[mine], expected, atol=2e-3, rtol=2e-3)
            seen |= set(dataset.group_N[rows][mine].tolist())
    assert seen == {-1, 0, 1}
    root = run_trial(spec(0), dataset, store)
    assert node["model"]["num_params"] < root["model"]["num_params"]
    assert node["model"]["flops"] < root["model"]["flops"]


def test_channels_are_scored_on_each_images_own_maps(dataset: Dataset, store: Store) -> None:
    trial = spec()
    root = run_trial(spec(0), dataset, store)
    model, _ = load_model(store, root["key"], spec(0), make_baseline(trial, dataset))
    trainer = Trainer(
        DeviceData(dataset, torch.device("cpu")), Compute().resolved("cpu"), trial.seed, 1
    )
    score_C = score_channels(model, trial.prune, trainer)
    train_rows = torch.from_numpy(dataset.indices(0))
    group_N = torch.from_numpy(dataset.group_N)[train_rows]
    caught: list[Tensor] = []
    plain = [of_group(model.net, group).eval() for group in (0, 1)]
    for net in plain:

        def keep(module: nn.Module, args: object, output: Tensor) -> None:
            caught.append(output.clone())

        net.layer1[0].bn1.register_forward_hook(keep)
    total, weight = torch.zeros(64, dtype=torch.float64), 0
    order = stream(trial.seed, "select", 1)
    for batch in SNNL.scoring_order(trial.prune.criterion, group_N, order):
        image_NCHW = trainer.eval_images(trial.prune.finetune, train_rows[batch])
        caught.clear()
        with torch.no_grad():
            for net in plain:
                net(image_NCHW)
        own_NCHW = torch.where((group_N[batch] == 0)[:, None, None, None], *caught)
        level = chance_level(group_N[batch])
        total += len(batch) * snnl_fair(own_NCHW, group_N[batch]).double() / level
        weight += len(batch)
    torch.testing.assert_close(score_C.double(), total / weight, atol=1e-5, rtol=1e-5)
    assert score_C.std() > 1e-3


@pytest.fixture(scope="module")
def exported(dataset: Dataset, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    node = run_trial(spec(), dataset, store)
    about = {"groups": list(dataset.groups), "attribute": dataset.attribute}
    return save_portable(store, node["key"], tmp_path_factory.mktemp("model"), about)


def test_an_exported_model_needs_every_group(
    exported: Path, dataset: Dataset, store: Store
) -> None:
    model = load_portable(exported)
    rows = dataset.indices(VALIDATION)
    rows = rows[dataset.group_N[rows] >= 0]
    image_NHWC, group_N = dataset.images_NHWC[rows], dataset.group_N[rows]
    logits_NK = model.logits(image_NHWC, group_N)
    stored = Predictions.from_bytes(store.read(model.card.key, "validation.npz"))
    place = {name: row for row, name in enumerate(stored.image_id_N.tolist())}
    expected = stored.logits_NK[[place[name] for name in dataset.image_id_N[rows].tolist()]]
    np.testing.assert_allclose(logits_NK, expected, atol=2e-3, rtol=2e-3)
    assert np.abs(model.logits(image_NHWC, 1 - group_N) - logits_NK).max() > 1e-3
    with pytest.raises(UserError, match="needs each image's group"):
        model.logits(image_NHWC)
    group_N = group_N.copy()
    group_N[[1, 2]] = -1
    with pytest.raises(UserError, match=f"2 of {len(rows)} are unknown"):
        model.logits(image_NHWC, group_N)
    with pytest.raises(UserError, match="need as many groups"):
        model.logits(image_NHWC, group_N[:1])


def test_predict_takes_the_group_from_a_column(
    exported: Path, dataset: Dataset, tmp_path: Path
) -> None:
    rows = dataset.indices(VALIDATION)
    rows = rows[dataset.group_N[rows] >= 0][:4]
    names = [dataset.groups[g] for g in dataset.group_N[rows]]

    def predict(column: list[str], *options: str):
        lines = ["path,skin"]
        for row, name in zip(rows, column, strict=True):
            Image.fromarray(np.array(dataset.images_NHWC[row])).save(tmp_path / f"{row}.png")
            lines.append(f"{row}.png,{name}")
        (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
        arguments = ["predict", exported, tmp_path / "own.csv", "--to", tmp_path / "out.csv"]
        return CliRunner().invoke(app, [*map(str, arguments), *options])

    done = predict(names, "--group", "skin")
    assert done.exit_code == 0, done.output
    table = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True, encoding="utf-8")
    got = np.stack([table[f"logit_{c}"] for c in dataset.classes], axis=1)
    expected = load_portable(exported).logits(dataset.images_NHWC[rows], dataset.group_N[rows])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    (tmp_path / "out.csv").unlink()
    values = ", ".join(dataset.groups)
    for column, options, words in (
        (names, [], f"needs each image's {dataset.attribute} to predict"),
        (names, ["--group", "skn"], "no column 'skn'"),
        ([*names[:3], ""], ["--group", "skin"], f"1 of 4 rows .* row 4, ''; values: {values}"),
        (["x", *names[1:3], "x"], ["--group", "skin"], "2 of 4 rows .* row 1, 'x'"),
    ):
        result = predict(column, *options)
        assert result.exit_code == 2
        with pytest.raises(UserError, match=words):
            raise UserError(result.stderr.replace("\n", ""))
        assert not (tmp_path / "out.csv").exists()


def test_an_empty_model_has_the_shape_of_the_plan(dataset: Dataset) -> None:
    plan = {"layer4.1.conv2": {"site": "group", "num_channels": 512, "removed": [0, 511]}}
    model = empty_model(spec(), make_baseline(spec(), dataset), plan)
    norm = group_norms(model.net)["layer4.1.bn2"]
    assert tuple(norm.weight.shape) == (2, 510)
    with groups_of(model.net, torch.zeros(1, dtype=torch.int64)), torch.no_grad():
        assert model.eval().net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
