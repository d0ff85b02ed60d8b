"""One statistics pass for several criteria and layers: the same scores, fewer passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from three_channels import (
    NUM_CLASSES,
    dataset,
    images,
    model,
    prune,
    train_rows,
    trainer,
    vanilla,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional

from trainables.baselines.base import Task
from trainables.baselines.domain_independent import DomainIndependent
from trainables.data.device import DeviceData
from trainables.models.classifier import Classifier
from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.statistics import Sites
from trainables.registry import backbones, criteria
from trainables.scoring import score_channels, score_criteria
from trainables.training import Trainer
from trainables.trial_spec import Compute, Prune

torch.set_num_threads(1)
ARMS = [
    prune("snnl", batch_size=5, temperature=0.3),
    prune("taylor"),
    prune("hsic", batch_size=5),
    prune("random"),
    prune("skewness"),
    prune("magnitude"),
    prune("obd", curvature="fisher"),
    prune("snnl", batch_size=5, distance="euclidean", layer="second"),
]
BATCHES = 3  # of 5 from 19 rows of known group; the partial one is dropped


@contextmanager
def counted(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often the net ran over images, and how often gradients were asked for."""
    count = {"forward": 0, "backward": 0}
    real = torch.autograd.grad

    def grad(*args: Any, **options: Any) -> Any:
        count["backward"] += 1
        return real(*args, **options)

    handle = net.register_forward_pre_hook(
        lambda *_: count.__setitem__("forward", count["forward"] + 1)
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", grad)
        yield count
    handle.remove()


def test_criteria_in_one_pass_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net, fed = model(), [arm for arm in ARMS if arm.criterion.name not in ("obd", "magnitude")]
    alone = [score_criteria(net, [arm], trainer(), vanilla())[0] for arm in ARMS]
    together = score_criteria(net, ARMS, trainer(), vanilla())
    for arm, one, same in zip(ARMS, alone, together, strict=True):
        assert list(one) == list(same) == [arm.layer]
        assert torch.equal(one[arm.layer], same[arm.layer]), arm.criterion.name
    with counted(net.net, monkeypatch) as count:
        score_criteria(net, fed, trainer(), vanilla())
    # snnl twice and hsic: three batches; taylor and skewness: one of all 20; random: none
    assert count == {"forward": BATCHES + 1, "backward": 1}
    with counted(net.net, monkeypatch) as count:
        for arm in fed:
            score_criteria(net, [arm], trainer(), vanilla())
    assert count == {"forward": 3 * BATCHES + 2, "backward": 1}


def test_no_gradient_is_made_where_none_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    with counted(net.net, monkeypatch) as count:
        score_criteria(net, [ARMS[0], ARMS[2], ARMS[4]], trainer(), vanilla())
    assert count == {"forward": BATCHES + 1, "backward": 0}


def test_several_layers_are_one_pass_and_score_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    for name in ("snnl", "skewness", "taylor"):
        both = prune(name, layer="first,second")
        with counted(net.net, monkeypatch) as count:
            (scores,) = score_criteria(net, [both], trainer(), vanilla())
        assert count["forward"] == 1
        assert list(scores) == ["first", "second"]
        for layer, score_C in scores.items():
            own_C = score_channels(net, prune(name, layer=layer), trainer(), vanilla())
            assert torch.equal(score_C, own_C), (name, layer)


def test_random_draws_each_layer_anew_from_one_stream() -> None:
    net = Classifier(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)))
    arm = prune("random", layer="0,1")
    (scores,) = score_criteria(net, [arm], trainer())
    first_C, second_C = scores.values()
    assert torch.equal(first_C, score_channels(net, prune("random", layer="0"), trainer()))
    assert not torch.equal(first_C, second_C)
    assert sorted(second_C.tolist()) == list(range(16))


class _Catch(Criterion):
    """Keeps what it is given."""

    uses_group = False

    class Config(Criterion.Config):
        name: str = "catch"

    def __init__(self, config: Any, context: ScoringContext) -> None:
        super().__init__(config, context)
        type(self).seen = []

    def update(self, batch: ScoringBatch) -> None:
        self.seen.append(batch)

    def score(self) -> Tensor:
        return torch.zeros(self.context.num_channels)


class _CatchGradient(_Catch):
    needs_gradients = True


@pytest.fixture
def catching() -> Iterator[list[Prune]]:
    """Arms that keep their batches: without gradients, with them."""
    classes = (_Catch, _CatchGradient)
    for cls in classes:
        criteria._classes[cls.__name__] = type(cls.__name__, (cls,), {"name": cls.__name__})
    yield [
        Prune(criterion=_Catch.Config(name=cls.__name__), layer="first", site="conv")
        for cls in classes
    ]
    for cls in classes:
        del criteria._classes[cls.__name__]


def seen(cls: type[_Catch]) -> ScoringBatch:
    (batch,) = criteria._classes[cls.__name__].seen
    return batch


def test_maps_are_the_output_itself_and_not_what_works_in_place_on_it(catching: list) -> None:
    """The net's ReLU overwrites the output of its first convolution."""
    net = model()
    score_criteria(net, catching, trainer(), vanilla())
    rows = seen(_Catch)
    order = [images([row]) for row in train_rows()]
    with torch.no_grad():
        output = net.net.first(torch.tensor(order).flatten(0, 1))
    found = rows.feature_NCHW.flatten(1).sum(1).sort().values
    torch.testing.assert_close(found, output.flatten(1).sum(1).sort().values, rtol=1e-5, atol=1e-5)
    assert rows.feature_NCHW.min() < 0
    assert torch.equal(seen(_CatchGradient).feature_NCHW, rows.feature_NCHW)
    for arm, cls in zip(catching, (_Catch, _CatchGradient), strict=True):
        together = seen(cls).feature_NCHW
        score_criteria(net, [arm], trainer(), vanilla())
        assert torch.equal(seen(cls).feature_NCHW, together)  # alone as together


def test_a_batch_holds_what_was_asked_for(catching: list) -> None:
    score_criteria(model(), catching, trainer(), vanilla())
    plain, with_gradient = seen(_Catch), seen(_CatchGradient)
    assert plain.gradient_NCHW is None
    assert with_gradient.gradient_NCHW.shape == with_gradient.feature_NCHW.shape
    assert not with_gradient.gradient_NCHW.requires_grad
    data = dataset()
    rows = train_rows()
    for found, whole in (
        (plain.label_N, data.label_N), (plain.group_N, data.group_N),
        (plain.further["age"], data.further["age"].group_N),
    ):  # fmt: skip
        assert sorted(found.tolist()) == sorted(whole[rows].tolist())
    assert set(plain.further) == {"age"}


def test_only_the_sites_asked_for_are_held_and_hooks_go() -> None:
    net = model().net
    with Sites({"first": net.first}) as sites:
        sites.run(lambda: net(torch.rand(2, 3, 8, 8)))
        assert set(sites.output) == {"first"}
        assert not sites.output["first"].requires_grad
    assert not net.first._forward_hooks
    with pytest.raises(RuntimeError), Sites({"first": net.first}) as sites:
        sites.run(lambda: net(torch.rand(2, 7, 8, 8)))
    assert not net.first._forward_hooks


def test_the_net_goes_on_with_the_same_numbers() -> None:
    net, image_NCHW = model(with_norm=True).net, torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = net(image_NCHW)
        with Sites({"first": net.first, "norm": net.norm}):
            assert torch.equal(net(image_NCHW), expected)


def test_the_gradient_is_that_of_the_baseline_s_inference() -> None:
    """A head of two slices, one a group: cross-entropy of their sum, by finite differences."""
    baseline = DomainIndependent(DomainIndependent.Config(), Task(NUM_CLASSES, num_groups=2))
    net = model()
    net.net.fc = nn.Linear(2, 2 * NUM_CLASSES)
    with torch.no_grad():
        net.net.fc.weight.normal_(0, 0.7, generator=torch.Generator().manual_seed(2))
    found = score_channels(net, prune("taylor"), trainer(), baseline)
    whole, rows, step = net.net.double(), train_rows(), 1e-6
    label_N = torch.from_numpy(dataset().label_N[rows])
    image_NCHW = torch.tensor(images(rows), dtype=torch.float64)

    def loss_N(channel: int, gate: float) -> Tensor:
        map_NCHW = whole.first(image_NCHW).detach()
        map_NCHW[:, channel] *= gate
        output_NO = whole.fc(whole.pool(whole.second(map_NCHW.relu())).flatten(1))
        logits_NK = output_NO[:, :NUM_CLASSES] + output_NO[:, NUM_CLASSES:]
        return functional.cross_entropy(logits_NK, label_N, reduction="none").detach()

    expected = [
        ((loss_N(k, 1 + step) - loss_N(k, 1 - step)) / (2 * step)).abs().mean().item()
        for k in range(3)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_further_attributes_reach_snnl() -> None:
    net = model()
    each = {
        name: score_channels(net, prune("snnl", attributes={name: 1.0}), trainer())
        for name in ("tone", "age")
    }
    both = score_channels(net, prune("snnl", attributes={"age": 0.5, "tone": 2.0}), trainer())
    torch.testing.assert_close(both, 2.0 * each["tone"] + 0.5 * each["age"])
    assert not torch.allclose(each["tone"], each["age"])
    assert torch.equal(each["tone"], score_channels(net, prune("snnl"), trainer()))


def test_coupled_layers_score_the_mean_of_their_members() -> None:
    """ResNet-18's first stage: the stem and two blocks add into one stream."""
    backbone = backbones.get("resnet18")
    net = Classifier(backbone.build(backbone.Config(), 3, torch.Generator().manual_seed(0)))
    members = ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    for name in ("snnl", "skewness", "taylor"):
        arm = prune(name, layer="layer1.1.conv2,conv1,layer1.0.conv2", site="group")
        (scores,) = score_criteria(net, [arm], trainer(), vanilla())
        assert list(scores) == ["conv1"]
        each = [
            score_channels(net, prune(name, layer=layer, site="group"), trainer(), vanilla())
            for layer in members
        ]
        torch.testing.assert_close(scores["conv1"], torch.stack(each).mean(0))
        assert not torch.allclose(each[0], each[1])
    weighed = prune("magnitude", layer=",".join(members), site="group")
    (scores,) = score_criteria(net, [weighed], trainer(), vanilla())
    alone = score_channels(net, prune("magnitude", layer="conv1", site="group"), trainer())
    assert torch.equal(scores["conv1"], alone)  # of all three filters either way


def test_maps_of_one_pixel_are_noted_where_it_matters() -> None:
    notes = {}
    for name, options in (
        ("snnl", {}), ("snnl", {"distance": "euclidean"}), ("taylor", {}), ("skewness", {}),
    ):  # fmt: skip
        own, told = model(), trainer()
        own.net.second = nn.Conv2d(3, 2, 3)  # 3 x 3 maps become 1 x 1
        score_channels(own, prune(name, layer="second", **options), told)
        notes[name, *options.values()] = told.notes
    assert notes["snnl", "euclidean"] == notes[("taylor",)] == []
    (note,) = notes[("snnl",)]
    assert "feature maps of second are 1 x 1 at image size 8: snnl sees only their signs" in note
    assert "takes the values of all images together" in notes[("skewness",)][0]


def test_bf16_maps_are_given_in_float32(catching: list) -> None:
    data = DeviceData(dataset(), torch.device("cpu"))
    low = Trainer(data, Compute(precision="bf16"), seed=0, iteration=1)
    score_criteria(model(), catching, low, vanilla())
    low_batch = seen(_CatchGradient)
    assert low_batch.feature_NCHW.dtype == low_batch.gradient_NCHW.dtype == torch.float32
    score_criteria(model(), catching, trainer(), vanilla())
    full = seen(_CatchGradient)
    torch.testing.assert_close(low_batch.feature_NCHW, full.feature_NCHW, rtol=0.05, atol=0.05)
    # a few activations change sign at the ReLU, and with them their whole gradient
    error = (low_batch.gradient_NCHW - full.gradient_NCHW).norm() / full.gradient_NCHW.norm()
    assert 0 < error < 0.1


def test_scores_that_are_no_numbers_name_the_criterion() -> None:
    net = model()
    with torch.no_grad():
        net.net.first.weight[1] = torch.inf
    with pytest.raises(ScoringError, match="magnitude: 1 channel scores are not finite"):
        score_channels(net, prune("magnitude"), trainer())


def test_images_of_unknown_group_are_scored_only_where_groups_do_not_matter() -> None:
    counted_rows = {}
    for name in ("snnl", "taylor"):
        cls = criteria.get(name)
        group_N = torch.from_numpy(dataset().group_N[train_rows()])
        order = cls.scoring_order(prune(name).criterion, group_N, torch.Generator().manual_seed(0))
        counted_rows[name] = sum(map(len, order))
    assert counted_rows == {"snnl": 19, "taylor": 20}
