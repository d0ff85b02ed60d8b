"""Any set of layers: what they are, how they share, and that cutting them equals masking them."""

import copy
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.errors import UserError
from trainables.models.classifier import Classifier, MapReader
from trainables.models.group_batch_norm import split_norms
from trainables.pruning.coupling import CoupledParameter, coupled_parameters
from trainables.pruning.layers import check_layers, coupled_layers, layer_names, units
from trainables.pruning.remove import choose, remove
from trainables.pruning.surgery import apply_plan, cut, num_channels
from trainables.registry import backbones
from trainables.specs import canonical, validate
from trainables.store import Store
from trainables.trial import run_trial
from trainables.trial_spec import Prune, Trial

torch.set_num_threads(1)
NUM_CLASSES = 4
STAGES = {
    "conv1": ("conv1", "layer1.0.conv2", "layer1.1.conv2"),
    **{
        f"layer{s}.0.conv2": (f"layer{s}.0.conv2", f"layer{s}.0.downsample.0", f"layer{s}.1.conv2")
        for s in (2, 3, 4)
    },
}
NORMS = {
    "conv1": ("bn1", "layer1.0.bn2", "layer1.1.bn2"),
    **{
        f"layer{s}.0.conv2": (f"layer{s}.0.bn2", f"layer{s}.0.downsample.1", f"layer{s}.1.bn2")
        for s in (2, 3, 4)
    },
    **{f"layer{s}.{b}.conv1": (f"layer{s}.{b}.bn1",) for s in (1, 2, 3, 4) for b in (0, 1)},
}
"""Unit of ResNet-18 -> modules whose outputs are zero when its channels are masked."""


def build(name: str) -> Classifier:
    """Random weights, signed BatchNorm scales and shifts, running statistics of some images."""
    backbone = backbones.get(name)
    net = backbone.build(backbone.Config(), NUM_CLASSES, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.normal_(0, 0.1, generator=generator)
    return Classifier(small_head(net).eval())


def small_head(net: nn.Module) -> nn.Module:
    """VGG's three linear layers are 90 % of its weights: narrow ones are as good for a test."""
    if hasattr(net, "classifier"):
        wide = (nn.Linear(512 * 49, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))
        net.classifier = nn.Sequential(*wide)
        for parameter in net.classifier.parameters():
            parameter.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(9))
    return net


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    return build("resnet18")


@pytest.fixture(scope="module")
def vgg() -> Classifier:
    return build("vgg11")


def vanilla() -> Vanilla:
    return Vanilla(Vanilla.Config(), Task(NUM_CLASSES, num_groups=2))


def arm(backbone: str = "resnet18", n: int = 1, **fields: Any) -> Prune:
    """A resolved arm."""
    document = {"backbone": backbone, "baseline": "vanilla", "n": n}
    document["prune"] = {"criterion": "random", "layer": "all"} | fields
    resolved = validate(Trial, document, place="test").resolved().prune
    assert resolved is not None
    return resolved


# ---- what the words stand for ----------------------------------------------------------------


def test_one_layer_resolves_to_what_it_was() -> None:
    assert canonical(arm(layer="last")) == canonical(arm(layer="layer4.1.conv2", floor=0.0))
    explicit = {"criterion": {"name": "random"}, "layer": "layer4.1.conv2", "site": "block"}
    assert canonical(arm(layer="last", ranking="global")) == explicit
    assert arm(layer="last", floor=0.25).floor == 0.25


@pytest.mark.parametrize(
    "layer",
    [
        "layer4.1.conv2,conv1", ["conv1", "last"], ("last", "conv1", "conv1"),
        " conv1 , layer4.1.conv2",
    ],
)  # fmt: skip
def test_names_are_put_into_the_order_of_the_net_once_each(layer: Any) -> None:
    resolved = arm(layer=layer)
    assert resolved.layer == "conv1,layer4.1.conv2"
    assert (resolved.site, resolved.floor, resolved.several) == ("group", 0.1, True)
    assert validate(Prune, resolved.model_dump(mode="json"), place="test") == resolved


def test_all_is_all(resnet: Classifier) -> None:
    names = layer_names(resnet.net, "all")
    assert len(names) == 20
    assert arm(layer=names).layer == arm(layer="all").layer == "all"
    assert layer_names(resnet.net, "layer1.0.conv1,conv1") == ["conv1", "layer1.0.conv1"]
    assert canonical(arm(floor=0.1, site="group")) == canonical(arm())
    assert canonical(arm(ranking="global"))["ranking"] == "global"


def test_fields_of_layers_are_dropped_where_nothing_is_cut() -> None:
    plain = canonical(arm(criterion="none"))
    assert plain == {"criterion": {"name": "none"}}
    assert canonical(arm(criterion="none", floor=0.3, ranking="global", layer="conv1")) == plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer": "conv1,layer9"}, "'layer9' is not a convolution of resnet18"),
        ({"layer": "conv1,layer1.0.con1"}, "did you mean 'layer1.0.conv1'"),
        ({"layer": "conv1,,layer1.0.conv1"}, "a name is empty in 'conv1,,layer1.0.conv1'"),
        ({"layer": ""}, "a name is empty"),
        ({"layer": 3}, "layer: input should be a valid string but got 3"),
        ({"floor": 1.0}, "floor: input should be less than 1 but got 1"),
        ({"floor": -0.1}, "floor: input should be greater than or equal to 0 but got -0.1"),
        ({"ranking": "all"}, "ranking: input should be 'per_layer' or 'global' but got 'all'"),
    ],
)
def test_mistakes_are_named(fields: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        arm(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "site", "message"),
    [
        ("conv1", "conv", "channels of 'conv1' are coupled to other layers: use site 'group'"),
        ("layer1.0.conv1,layer2.0.downsample.0", "conv", "'layer2.0.downsample.0' are coupled"),
        ("all", "block", "needs the last convolution of a residual block but got 'conv1'"),
        ("layer1.0.conv1,nothing", "group", "'nothing' is not a convolution"),
    ],
)
def test_what_cannot_be_cut_is_found_without_weights(layer: str, site: str, message: str) -> None:
    with torch.device("meta"):
        net = backbones.get("resnet18").construct(None, 2, None)
    with pytest.raises(UserError, match=message):
        check_layers(net, layer, site)
    for fine in ("layer1.0.conv1,layer4.1.conv2", "layer2.1.conv2"):
        check_layers(net, fine, "conv")
    check_layers(net, "all", "group")


# ---- which layers go together ----------------------------------------------------------------


def test_coupled_layers_of_a_resnet_are_its_residual_streams(resnet: Classifier) -> None:
    found = units(resnet.net, "all", "group")
    names = layer_names(resnet.net, "all")
    inner = [f"layer{s}.{b}.conv1" for s in (1, 2, 3, 4) for b in (0, 1)]
    expected = STAGES | {name: (name,) for name in inner}
    assert {unit.layer: unit.members for unit in found} == expected
    assert sorted(m for unit in found for m in unit.members) == sorted(names)  # each once
    assert [u.layer for u in found] == sorted(expected, key=names.index)
    some = units(resnet.net, "layer1.1.conv2,layer1.0.conv1", "group")
    assert [(u.layer, u.members) for u in some] == [
        ("layer1.0.conv1", ("layer1.0.conv1",)), ("layer1.1.conv2", ("layer1.1.conv2",)),
    ]  # fmt: skip


def test_nothing_is_coupled_in_a_vgg(vgg: Classifier) -> None:
    names = layer_names(vgg.net, "all")
    assert len(names) == 8
    assert coupled_layers(vgg.net, names) == {name: frozenset([name]) for name in names}


def test_one_norm_a_group_couples_the_same_layers(resnet: Classifier) -> None:
    net = copy.deepcopy(resnet.net)
    split_norms(net, 2)
    assert units(net, "all", "group") == units(resnet.net, "all", "group")


# ---- what goes with a channel ----------------------------------------------------------------


def without(parameter: CoupledParameter, channels: list[int]) -> Tensor:
    keep = [p for p, c in enumerate(parameter.channel_P.tolist()) if c not in channels]
    return parameter.value.detach().index_select(parameter.dim, torch.tensor(keep))


class _Exit(nn.Module):
    """A convolution that reads a stage's maps, and a head that reads the net's features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(128, 8, 3)
        self.head = nn.Linear(512, 2)


SLICES = [
    ("resnet18", "layer2.0.conv1", "conv", ""), ("resnet18", "layer3.0.conv2", "conv", ""),
    ("resnet18", "layer4.1.conv2", "conv", "extra"), ("resnet18", "layer2.1.conv2", "block", ""),
    ("resnet18", "layer2.1.conv2", "block", "extra"),
    ("resnet18", "layer4.1.conv2", "block", "extra"),
    ("resnet18", "conv1", "group", ""), ("resnet18", "layer2.0.downsample.0", "group", "extra"),
    ("resnet18", "layer4.0.conv2", "group", "extra"),
    ("resnet18", "layer2.0.conv2", "group", "split"),
    ("resnet18", "layer2.0.conv1", "conv", "split"),
    ("vgg11_bn", "features.25", "conv", ""), ("vgg11_bn", "features.4", "group", ""),
]  # fmt: skip


@pytest.mark.parametrize(("backbone", "layer", "site", "beside"), SLICES)
def test_the_coupled_slices_are_what_a_cut_removes(
    backbone: str, layer: str, site: str, beside: str, request: pytest.FixtureRequest
) -> None:
    resnet = request.getfixturevalue("resnet")
    whole = copy.deepcopy(resnet) if backbone == "resnet18" else build(backbone)
    heads: list[Any] = []
    if beside == "extra":
        whole.extra["exit"] = _Exit()
        heads = [whole.extra["exit"].head, MapReader("layer2", whole.extra["exit"].conv)]
    if beside == "split":
        split_norms(whole.net, 2)
    coupled = {each.name: each for each in coupled_parameters(whole, layer, site, heads)}
    before = {name: value.detach().clone() for name, value in whole.named_parameters()}
    gone = [0, 5, 17]
    expected = {
        name: without(coupled[name], gone) if name in coupled else value
        for name, value in before.items()
    }
    sizes_C = sum(each.per_channel(torch.ones_like(each.value)) for each in coupled.values())
    cut(whole.net, layer, site, gone, heads)
    after = dict(whole.named_parameters())
    assert set(after) == set(expected)
    for name, value in expected.items():
        assert torch.equal(after[name], value), name
    lost = sum(v.numel() for v in before.values()) - sum(v.numel() for v in after.values())
    assert lost == sizes_C[gone].sum().item() > 0


# ---- cutting many layers ---------------------------------------------------------------------


@contextmanager
def zeroed(net: nn.Module, gone: Mapping[str, list[int]]) -> Iterator[None]:
    """Outputs of the named modules are zero on the given channels."""

    def zero(channels: list[int]) -> Any:
        def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, channels] = 0
            return output

        return hook

    with ExitStack() as stack:
        for name, channels in gone.items():
            stack.callback(net.get_submodule(name).register_forward_hook(zero(channels)).remove)
        yield


def size(net: nn.Module, image_NCHW: Tensor) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image_NCHW[:1])
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops()


def drawn(model: Classifier, prune: Prune, seed: int) -> dict[str, Tensor]:
    """Scores as any criterion could give them, another scale in each layer."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for number, unit in enumerate(units(model.net, prune.layer, prune.site)):
        num = num_channels(model.net, unit.layer)
        found[unit.layer] = 10.0**number * torch.randn(num, generator=generator)
    return found


@pytest.mark.parametrize("ranking", ["per_layer", "global"])
@pytest.mark.parametrize("backbone", ["resnet18", "vgg11"])
def test_all_layers_cut_equal_their_masked_net_and_the_plan_rebuilds_them(
    backbone: str, ranking: str, request: pytest.FixtureRequest
) -> None:
    whole = request.getfixturevalue("resnet" if backbone == "resnet18" else "vgg")
    pixels = 64 if backbone == "resnet18" else 32
    image_NCHW = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(3))
    prune, small, plan = arm(backbone, ratio=0.15, ranking=ranking), copy.deepcopy(whole), {}
    sizes = [size(small.net, image_NCHW)]
    for iteration in (1, 2):
        chosen = choose(prune, plan, drawn(small, prune, iteration))
        plan = remove(small, prune, plan, chosen, vanilla())
        sizes.append(size(small.net, image_NCHW))
        gone = {
            name: entry["removed"]
            for layer, entry in plan.items()
            for name in (NORMS[layer] if backbone == "resnet18" else (layer,))
        }
        with torch.no_grad(), zeroed(whole.net, gone):
            expected_NK = whole(image_NCHW)
        with torch.no_grad():
            torch.testing.assert_close(small(image_NCHW), expected_NK, rtol=1e-5, atol=1e-5)
            assert (whole(image_NCHW) - expected_NK).abs().max() > 1e-3
    for fewer, more in ((1, 0), (2, 1)):
        assert sizes[fewer][0] < sizes[more][0]
        assert sizes[fewer][1] < sizes[more][1]
    if ranking == "per_layer":
        assert len(plan) == len(units(whole.net, "all", "group"))
        for entry in plan.values():
            assert len(entry["removed"]) == 2 * int(0.15 * entry["num_channels"] + 1e-9)
    cls = backbones.get(backbone)
    rebuilt = Classifier(small_head(cls.skeleton(cls.Config(), NUM_CLASSES)))
    apply_plan(rebuilt.net, json.loads(json.dumps(plan, sort_keys=True)))
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(image_NCHW), small(image_NCHW))


@pytest.mark.parametrize(
    ("layer", "site", "norms"),
    [
        ("layer2.1.conv2,layer4.1.conv2", "block", {"layer2.1": 0, "layer4.1": 1}),
        ("layer3.0.conv2,layer3.1.conv1,layer4.1.conv2", "conv",
         {"layer3.0.bn2": 0, "layer3.1.bn1": 1, "layer4.1.bn2": 2}),
    ],
)  # fmt: skip
def test_several_layers_at_the_other_sites(
    layer: str, site: str, norms: dict[str, int], resnet: Classifier
) -> None:
    image_NCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    prune, small, plan = arm(layer=layer, site=site, ratio=0.1), copy.deepcopy(resnet), {}
    for iteration in (1, 2):
        chosen = choose(prune, plan, drawn(small, prune, iteration))
        plan = remove(small, prune, plan, chosen, vanilla())
    gone = [plan[name]["removed"] for name in layer.split(",")]
    with torch.no_grad(), zeroed(resnet.net, {name: gone[n] for name, n in norms.items()}):
        expected_NK = resnet(image_NCHW)
    with torch.no_grad():
        torch.testing.assert_close(small(image_NCHW), expected_NK, rtol=1e-5, atol=1e-5)
    rebuilt = copy.deepcopy(resnet)
    apply_plan(rebuilt.net, {name: plan[name] for name in reversed(plan)})
    rebuilt.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(image_NCHW), small(image_NCHW))


def test_masks_of_weights_are_cut_with_all_layers(resnet: Classifier) -> None:
    small = copy.deepcopy(resnet)
    for name in ("net.layer1.0.conv1.weight", "net.layer2.0.downsample.0.weight"):
        weight = small.get_parameter(name)
        small.masks[name] = (torch.arange(weight.numel()) % 3 > 0).float().view_as(weight)
    small.apply_masks()
    prune = arm(ratio=0.2)
    remove(small, prune, {}, choose(prune, {}, drawn(small, prune, 1)), vanilla())
    for name, mask in small.masks.items():
        weight = small.get_parameter(name)
        assert mask.shape == weight.shape
        assert torch.equal(weight == 0, mask == 0)
        assert 0.2 < (mask == 0).float().mean() < 0.47


def test_weight_masks_of_several_layers(resnet: Classifier) -> None:
    small, plan = copy.deepcopy(resnet), {}
    prune = arm(layer="conv1,layer1.0.conv2,layer1.0.conv1", surgery="weight_mask", ratio=0.25)
    for iteration in (1, 2):
        chosen = choose(prune, plan, drawn(small, prune, iteration))
        plan = remove(small, prune, plan, chosen, vanilla())
    assert {name: len(entry["masked"]) for name, entry in plan.items()} == {
        "conv1": 32, "layer1.0.conv1": 32
    }  # fmt: skip
    for name, unit in (("conv1", "conv1"), ("layer1.0.conv2", "conv1"),
                       ("layer1.0.conv1", "layer1.0.conv1")):  # fmt: skip
        rows = small.net.get_submodule(name).weight.flatten(1).abs().sum(1)
        assert torch.nonzero(rows == 0).flatten().tolist() == plan[unit]["masked"]


# ---- how many, and which ---------------------------------------------------------------------


def options(**fields: Any) -> Prune:
    return Prune(criterion="random", layer="a,b", **fields)


def test_every_layer_keeps_its_floor() -> None:
    """40 % and 40 % of 10 leave 2; a floor of 0.25 leaves ceil(2.5) = 3, one of 0.1 leaves 1."""
    for floor, last in ((None, 1), (0.0, 1), (0.1, 1), (0.25, 3), (0.5, 5), (0.9, 9)):
        whole = {"a": 10, "b": 100}
        prune, plan, left = options(ratio=0.4, floor=floor), {}, dict(whole)
        for _ in range(4):
            scores = {layer: torch.arange(float(num)) for layer, num in left.items()}
            chosen = choose(prune, plan, scores)
            for layer, positions in chosen.items():
                left[layer] -= len(positions)
                known = plan.get(layer, {"num_channels": whole[layer], "removed": []})
                more = list(range(len(known["removed"]) + len(positions)))
                plan = plan | {layer: known | {"removed": more}}
        expected = max(math.ceil((0.1 if floor is None else floor) * 100 - 1e-9), 1)
        assert left == {"a": last, "b": expected}, floor


def test_one_layer_has_no_floor_but_the_last_channel() -> None:
    prune = Prune(criterion="random", layer="a", ratio=0.95)
    assert choose(prune, {}, {"a": torch.arange(20.0)}) == {"a": list(range(19))}
    kept = Prune(criterion="random", layer="a", ratio=0.95, floor=0.3)
    assert choose(kept, {}, {"a": torch.arange(20.0)}) == {"a": list(range(14))}


def test_global_takes_the_lowest_z_scores_of_all_layers() -> None:
    """Written out: the ranking is within each layer's spread, whatever its scale and level."""
    scores = {
        "a": torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        "b": 1000 + 50 * torch.tensor([3.0, 1.0, 2.0, 4.0, 6.0, 5.0, 8.0, 9.0, 7.0, 10.0]),
    }
    z = []
    for layer, score_C in scores.items():
        values = score_C.double().tolist()
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        z += [((v - mean) / spread, layer, number) for number, v in enumerate(values)]
    lowest_four = sorted(z)[:4]
    expected = {
        name: sorted(n for _, layer, n in lowest_four if layer == name) for name in ("a", "b")
    }
    assert expected == {"a": [0], "b": [0, 1, 2]}
    assert choose(options(ratio=0.2, ranking="global"), {}, scores) == expected
    assert choose(options(ratio=0.2), {}, scores) == {"a": [0, 1], "b": [1, 2]}


def test_global_goes_on_elsewhere_where_a_layer_has_reached_its_floor() -> None:
    scores = {"a": torch.arange(10.0), "b": torch.arange(20.0)}
    plan = {"a": {"num_channels": 20, "removed": list(range(10)), "site": "group"}}
    chosen = choose(options(ratio=0.3, ranking="global", floor=0.4), plan, scores)
    assert [len(chosen["a"]), len(chosen["b"])] == [2, 10]  # 8 of 20 stay in a; 12 go in all
    alike = {"a": torch.zeros(6), "b": torch.zeros(6)}  # no spread: in order of layer and position
    chosen = choose(options(ratio=0.34, ranking="global"), {}, alike)
    assert chosen == {"a": [0, 1, 2, 3], "b": []}


def test_masked_channels_are_not_picked_again_in_either_ranking() -> None:
    plan = {"a": {"num_channels": 6, "removed": [], "masked": [0, 1], "site": "group"}}
    scores = {"a": torch.tensor([-9.0, -8.0, 1.0, 2.0, 3.0, 4.0]), "b": torch.arange(6.0)}
    for ranking in ("per_layer", "global"):
        chosen = choose(options(ratio=0.34, ranking=ranking), plan, scores)
        assert not {0, 1} & set(chosen["a"])
        assert sum(map(len, chosen.values())) == 4


# ---- a trial of all layers -------------------------------------------------------------------


def test_a_trial_of_all_layers_is_really_smaller(tmp_path: Path) -> None:
    config = Synthetic.Config(num_images=60, image_size=32, classes=("nv", "mel", "bcc"))
    dataset = load_dataset(config, cache_dir=tmp_path / "cache")
    recipe = {"epochs": 0, "batch_size": 16}
    document = {
        "backbone": "resnet18",
        "baseline": {"name": "vanilla", "training": recipe},
        "n": 2,
        "prune": {"criterion": "snnl", "layer": "all", "ratio": 0.3, "finetune": recipe,
                  "ranking": "global", "floor": 0.5},
    }  # fmt: skip
    trial, store = validate(Trial, document, place="test").resolved(), Store(str(tmp_path))
    nodes = [run_trial(step, dataset, store) for step in trial.chain]
    for fewer, more in zip(nodes[1:], nodes[:-1], strict=True):
        assert fewer["model"]["num_params"] < more["model"]["num_params"]
        assert fewer["model"]["flops"] < more["model"]["flops"]
    channels = nodes[2]["model"]["channels"]
    assert set(channels) <= set(NORMS)
    assert all(left >= before / 2 for before, left in channels.values())
    assert any(left == before / 2 for before, left in channels.values())
    scores = json.loads(store.read(nodes[1]["key"], "scores.json"))
    assert scores["layer"] == "all"
    whole = units(build("resnet18").net, "all", "group")
    assert [each["layer"] for each in scores["layers"]] == [unit.layer for unit in whole]
    removed = {each["layer"]: each["removed"] for each in scores["layers"] if each["removed"]}
    assert removed == {name: entry["removed"] for name, entry in nodes[1]["plan"].items()}
    total = sum(int(0.3 * len(each["score"]) + 1e-9) for each in scores["layers"])
    assert sum(map(len, removed.values())) == total
