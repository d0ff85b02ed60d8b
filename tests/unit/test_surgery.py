"""Each cut net against its own masked net, whose outputs at the site are zero."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.errors import UserError
from trainables.pruning.base import lowest, num_to_remove
from trainables.pruning.surgery import (
    apply_plan,
    cut,
    extend_plan,
    find_layer,
    masked,
    num_channels,
    removed_between,
    site_module,
)
from trainables.registry import backbones

torch.set_num_threads(1)
NUM_CLASSES = 5
REMOVED = [0, 3, 17, 40, 63]
# Layer of ResNet-18 -> modules whose outputs are zero when its whole coupled group goes.
STAGE_NORMS = {
    "layer4.1.conv2": ("layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"),
    "layer1.0.conv2": ("bn1", "layer1.0.bn2", "layer1.1.bn2"),
}


def trained(name: str, size: int) -> nn.Module:
    """A net with running statistics that are neither 0 and 1, and signed BatchNorm scales."""
    cls = backbones.get(name)
    net = cls.build(cls.Config(), NUM_CLASSES, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.normal_(0, 0.1, generator=generator)
    net.train()
    with torch.no_grad():
        if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
            for _ in range(3):
                net(0.5 + 2 * torch.randn(6, 3, size, size, generator=generator))
    return net.eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return trained("resnet18", 64)


@pytest.fixture(scope="module")
def vgg() -> nn.Module:
    return trained("vgg11", 32)


@pytest.fixture(scope="module")
def vgg_bn() -> nn.Module:
    return trained("vgg11_bn", 32)


@pytest.fixture(scope="module")
def image_NCHW() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@contextmanager
def zeroed(net: nn.Module, modules: tuple[str, ...], removed: list[int]) -> Iterator[None]:
    """Outputs of the named modules are zero on the channels; independent of ``masked``."""

    def zero(module: nn.Module, args: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, removed] = 0
        return output

    with ExitStack() as stack:
        for name in modules:
            stack.callback(net.get_submodule(name).register_forward_hook(zero).remove)
        yield


def num_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def flops(net: nn.Module, image_NCHW: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image_NCHW[:1])
    return counter.get_total_flops()


def assert_same_logits(small: nn.Module, expected_NK: Tensor, image_NCHW: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(small(image_NCHW), expected_NK, atol=1e-5, rtol=1e-5)


# ResNet-18: (layer, site, modules zeroed in the masked net, parameters saved for k channels)
RESNET_SITES = {
    "inner conv": ("layer4.1.conv1", "conv", ("layer4.1.bn1",), lambda k: k * (2 * 512 * 9 + 2)),
    "inner conv, first stage": (
        "layer1.0.conv1",
        "conv",
        ("layer1.0.bn1",),
        lambda k: k * (2 * 64 * 9 + 2),
    ),
    "branch, last block": (
        "layer4.1.conv2",
        "conv",
        ("layer4.1.bn2",),
        lambda k: k * (512 * 9 + 2),
    ),
    "branch, block with downsample": (
        "layer3.0.conv2",
        "conv",
        ("layer3.0.bn2",),
        lambda k: k * (256 * 9 + 2),
    ),
    "branch, inner block": (
        "layer2.0.conv2",
        "conv",
        ("layer2.0.bn2",),
        lambda k: k * (128 * 9 + 2),
    ),
    "last block": (
        "layer4.1.conv2",
        "block",
        ("layer4.1",),
        lambda k: k * (512 * 9 + 2 + NUM_CLASSES),
    ),
    "block before a stage": (
        "layer2.1.conv2",
        "block",
        ("layer2.1",),
        lambda k: k * (128 * 9 + 2 + 256 * 9 + 256),
    ),
    "last stage": (
        "layer4.1.conv2",
        "group",
        STAGE_NORMS["layer4.1.conv2"],
        lambda k: k * (2 * (512 * 9 + 2) + 256 + 2 + 512 * 9 + NUM_CLASSES),
    ),
    "first stage with the stem": (
        "layer1.0.conv2",
        "group",
        STAGE_NORMS["layer1.0.conv2"],
        lambda k: k * (147 + 2 + 2 * (64 * 9 + 2) + 2 * 64 * 9 + 128 * 9 + 128),
    ),
}


@pytest.mark.parametrize("case", RESNET_SITES)
def test_cut_resnet_equals_its_masked_net_and_saves_what_it_says(
    case: str, resnet: nn.Module, image_NCHW: Tensor
) -> None:
    layer, site, zero, saved = RESNET_SITES[case]
    with torch.no_grad(), zeroed(resnet, zero, REMOVED):
        expected_NK = resnet(image_NCHW)
    with torch.no_grad():
        assert (expected_NK - resnet(image_NCHW)).abs().max() > 1e-3  # the mask matters
    small = copy.deepcopy(resnet)
    cut(small, layer, site, REMOVED)
    assert_same_logits(small, expected_NK, image_NCHW)
    assert num_parameters(resnet) - num_parameters(small) == saved(len(REMOVED))
    assert flops(small, image_NCHW) < flops(resnet, image_NCHW)
    assert num_channels(small, layer) == num_channels(resnet, layer) - len(REMOVED)


VGG_SITES = {
    # saved: rows, biases, and the next layer's inputs (7 x 7 positions in the classifier)
    "vgg": ("features.18", "features.18", lambda k: k * (512 * 9 + 1 + 49 * 4096)),
    "vgg inner": ("features.8", "features.8", lambda k: k * (256 * 9 + 1 + 512 * 9)),
    "vgg_bn": ("features.25", "features.26", lambda k: k * (512 * 9 + 3 + 49 * 4096)),
    "vgg_bn inner": ("features.11", "features.12", lambda k: k * (256 * 9 + 3 + 512 * 9)),
}


@pytest.mark.parametrize("case", VGG_SITES)
def test_cut_vgg_equals_its_masked_net_and_saves_what_it_says(
    case: str, request: pytest.FixtureRequest, image_NCHW: Tensor
) -> None:
    net = request.getfixturevalue(case.removesuffix(" inner"))
    image_NCHW = image_NCHW[:, :, :32, :32]
    layer, zero, saved = VGG_SITES[case]
    with torch.no_grad(), zeroed(net, (zero,), REMOVED):
        expected_NK = net(image_NCHW)
    with torch.no_grad():
        assert (expected_NK - net(image_NCHW)).abs().max() > 1e-4
    before, flops_before = num_parameters(net), flops(net, image_NCHW)
    small = copy.deepcopy(net)
    cut(small, layer, "conv", REMOVED)
    assert_same_logits(small, expected_NK, image_NCHW)
    assert before - num_parameters(small) == saved(len(REMOVED))
    assert flops(small, image_NCHW) < flops_before


@pytest.mark.parametrize(
    ("layer", "site"),
    [("layer4.1.conv1", "conv"), ("layer4.1.conv2", "conv"), ("layer2.1.conv2", "block")],
)
def test_masked_context_zeroes_the_site_and_leaves_no_hook(
    layer: str, site: str, resnet: nn.Module, image_NCHW: Tensor
) -> None:
    zero = next(s[2] for s in RESNET_SITES.values() if s[:2] == (layer, site))
    with torch.no_grad():
        whole_NK = resnet(image_NCHW)
        with zeroed(resnet, zero, REMOVED):
            expected_NK = resnet(image_NCHW)
        with masked(resnet, layer, site, REMOVED):
            assert torch.equal(resnet(image_NCHW), expected_NK)
        assert torch.equal(resnet(image_NCHW), whole_NK)


TWICE = [(layer, site) for layer, site, *_ in RESNET_SITES.values()]


@pytest.mark.parametrize(("layer", "site"), TWICE)
def test_cutting_twice_equals_cutting_the_union_and_the_plan_rebuilds_it(
    layer: str, site: str, resnet: nn.Module, image_NCHW: Tensor
) -> None:
    first, second = [1, 5, 20], [0, 4, 18, 30]  # positions among the channels left
    total = num_channels(resnet, layer)
    left = [c for c in range(total) if c not in first]
    union = sorted(first + [left[p] for p in second])

    plan = extend_plan({}, layer, site, first, total)
    twice = copy.deepcopy(resnet)
    cut(twice, layer, site, first)
    plan = extend_plan(plan, layer, site, second, num_channels(twice, layer))
    cut(twice, layer, site, second)
    assert plan == {layer: {"site": site, "num_channels": total, "removed": union}}

    once = copy.deepcopy(resnet)
    cut(once, layer, site, union)
    with torch.no_grad():
        expected_NK = once(image_NCHW)
    assert_same_logits(twice, expected_NK, image_NCHW)

    cls = backbones.get("resnet18")
    rebuilt = cls.skeleton(cls.Config(), NUM_CLASSES)
    apply_plan(rebuilt, plan)
    rebuilt.load_state_dict(twice.state_dict())
    assert_same_logits(rebuilt.eval(), expected_NK, image_NCHW)


def test_plan_of_vgg_rebuilds_it(vgg_bn: nn.Module, image_NCHW: Tensor) -> None:
    image_NCHW = image_NCHW[:, :, :32, :32]
    small = copy.deepcopy(vgg_bn)
    plan = extend_plan({}, "features.25", "conv", [2, 9], 512)
    cut(small, "features.25", "conv", [2, 9])
    plan = extend_plan(plan, "features.25", "conv", [0, 8], 510)
    cut(small, "features.25", "conv", [0, 8])
    assert plan["features.25"]["removed"] == [0, 2, 9, 10]
    cls = backbones.get("vgg11_bn")
    rebuilt = cls.skeleton(cls.Config(), NUM_CLASSES)
    apply_plan(rebuilt, plan)
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(image_NCHW), small(image_NCHW))


def test_two_layers_of_one_block_are_cut_one_after_the_other(
    resnet: nn.Module, image_NCHW: Tensor
) -> None:
    with (
        torch.no_grad(),
        zeroed(resnet, ("layer4.1.bn1",), [7, 8]),
        zeroed(resnet, ("layer4.1.bn2",), [1, 2]),
    ):
        expected_NK = resnet(image_NCHW)
    for order in ((0, 1), (1, 0)):
        small = copy.deepcopy(resnet)
        steps = [("layer4.1.conv1", [7, 8]), ("layer4.1.conv2", [1, 2])]
        for number in order:
            cut(small, steps[number][0], "conv", steps[number][1])
        assert_same_logits(small, expected_NK, image_NCHW)


@pytest.mark.parametrize(("layer", "site"), TWICE)
def test_cut_net_learns(layer: str, site: str, resnet: nn.Module, image_NCHW: Tensor) -> None:
    small = copy.deepcopy(resnet)
    small.train()
    cut(small, layer, site, REMOVED)
    assert all(module.training for module in small.modules())
    optimizer = torch.optim.SGD(small.parameters(), lr=0.01, momentum=0.9)
    before = [p.detach().clone() for p in small.parameters()]
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(small(image_NCHW), torch.tensor([0, 1, 2, 3]))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
    for (name, parameter), old in zip(small.named_parameters(), before, strict=True):
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert not torch.equal(parameter, old), name


@pytest.mark.parametrize(
    ("layer", "site", "cut_too"),
    [
        ("layer4.1.conv2", "block", True),
        ("layer4.1.conv2", "group", True),
        ("layer4.1.conv2", "conv", False),
        ("layer2.1.conv2", "block", False),
        ("layer4.1.conv1", "conv", False),
    ],
)
def test_further_heads_lose_the_columns_the_own_head_loses(
    layer: str, site: str, cut_too: bool, resnet: nn.Module
) -> None:
    small, head = copy.deepcopy(resnet), nn.Linear(512, 2)
    weight = head.weight.detach().clone()
    cut(small, layer, site, REMOVED, [head])
    keep = [c for c in range(512) if c not in REMOVED] if cut_too else list(range(512))
    assert torch.equal(head.weight, weight[:, keep])
    assert head.in_features == small.fc.in_features == len(keep)


def test_site_is_where_the_channel_is_scored(resnet: nn.Module, vgg: nn.Module) -> None:
    assert site_module(resnet, "layer4.1.conv2", "conv") is resnet.layer4[1].bn2
    assert site_module(resnet, "layer4.1.conv2", "block") is resnet.layer4[1]
    assert site_module(resnet, "layer4.1.conv1", "conv") is resnet.layer4[1].bn1
    assert site_module(vgg, "features.18", "conv") is vgg.features[18]


@pytest.mark.parametrize(
    ("layer", "site", "removed", "message"),
    [
        ("layer4.2.conv2", "conv", [0], "'layer4.2.conv2' is not a convolution"),
        ("layer4.1.bn2", "conv", [0], "'layer4.1.bn2' is not a convolution"),
        ("conv1", "conv", [0], "'conv1' are coupled to other layers: use site 'group'"),
        ("layer2.0.downsample.0", "conv", [0], "are coupled to other layers: use site 'group'"),
        ("layer4.1.conv1", "block", [0], "needs the last convolution of a residual block"),
        ("layer2.0.conv2", "block", [0], "needs the last block of a stage"),
        ("layer4.1.conv2", "block", range(512), "has 512 channels; 512 cannot be removed"),
        ("layer1.0.conv2", "group", range(64), "has 64 channels; 64 cannot be removed"),
    ],
)
def test_mistakes_are_named_and_change_nothing(
    layer: str, site: str, removed: list[int], message: str, resnet: nn.Module, image_NCHW: Tensor
) -> None:
    with torch.no_grad():
        before_NK = resnet(image_NCHW)
    with pytest.raises(UserError, match=message) as caught:
        cut(resnet, layer, site, removed)
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        assert torch.equal(resnet(image_NCHW), before_NK)


def test_a_layer_is_not_cut_at_two_sites() -> None:
    plan = extend_plan({}, "layer4.1.conv2", "block", [0], 512)
    with pytest.raises(UserError, match="was cut at site 'block' before, not 'conv'"):
        extend_plan(plan, "layer4.1.conv2", "conv", [0], 511)


def test_nothing_to_remove_changes_nothing(resnet: nn.Module) -> None:
    small = copy.deepcopy(resnet)
    cut(small, "layer4.1.conv2", "block", [])
    assert [type(m) for m in small.modules()] == [type(m) for m in resnet.modules()]


def test_unknown_layer_lists_the_convolutions(resnet: nn.Module) -> None:
    with pytest.raises(UserError, match=r"it has: conv1, layer1\.0\.conv1, .*layer4\.1\.conv2"):
        find_layer(resnet, "last")


@pytest.mark.parametrize(
    ("ratio", "num_original", "num_left", "expected"),
    [
        (0.02, 512, 512, 10),  # 10.24
        (0.02, 512, 502, 10),  # of the original number, not of what is left
        (0.29, 100, 100, 29),  # 28.999999999999996 in floating point
        (0.001, 512, 512, 1),  # at least one
        (0.9, 10, 4, 3),  # never the last
        (0.5, 10, 1, 0),
    ],
)
def test_num_to_remove(ratio: float, num_original: int, num_left: int, expected: int) -> None:
    assert num_to_remove(ratio, num_original, num_left) == expected


def test_lowest_breaks_ties_by_position() -> None:
    assert lowest(torch.tensor([0.5, 0.1, 0.5, 0.1, 0.1]), 2) == [1, 3]
    assert lowest(torch.tensor([0.5, 0.1, 0.5, torch.inf, 0.2]), 3) == [0, 1, 4]


@given(st.lists(st.lists(st.integers(0, 29), max_size=8, unique=True), min_size=1, max_size=3))
def test_what_lies_between_two_plans_is_what_was_removed(rounds: list[list[int]]) -> None:
    """Positions among the channels that were left, iteration by iteration, of two layers."""
    plan: dict = {}
    for round_ in rounds:
        left = 30 - len(plan.get("a", {"removed": []})["removed"])
        positions = sorted(p for p in round_ if p < left)
        grown = extend_plan(plan, "a", "conv", positions, left) if positions else plan
        masked_now = grown.get("b", {"masked": []})["masked"] + [len(grown.get("b", {}))]
        grown = grown | {
            "b": {"site": "conv", "num_channels": 30, "removed": [], "masked": masked_now}
        }
        found = removed_between(plan, grown)
        assert found.get("a", []) == positions
        assert found["b"] == sorted(set(masked_now) - set(plan.get("b", {"masked": []})["masked"]))
        plan = grown
