"""Filter norms against loops over the weights."""

import math

import pytest
import torch
from three_channels import model, scores
from torch import nn

from trainables.models.classifier import Classifier
from trainables.pruning.base import ScoringContext
from trainables.pruning.coupling import coupled_parameters
from trainables.pruning.magnitude import Magnitude
from trainables.registry import backbones

torch.set_num_threads(1)


def length(values: list[float], norm: str) -> float:
    return sum(values) if norm == "l1" else math.sqrt(sum(value * value for value in values))


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_equals_a_loop_over_the_filter(norm: str, fold: bool) -> None:
    net = model(with_norm=True).net
    expected = []
    for k in range(3):
        variance = net.norm.running_var[k].item() + net.norm.eps
        scale = abs(net.norm.weight[k].item()) / math.sqrt(variance) if fold else 1.0
        expected.append(
            length([scale * abs(w) for w in net.first.weight[k].flatten().tolist()], norm)
        )
    found = scores("magnitude", with_norm=True, norm=norm, fold_norm=fold)
    assert found == pytest.approx(expected, rel=1e-6)


def test_without_a_norm_to_fold_both_are_one() -> None:
    assert scores("magnitude", fold_norm=True) == scores("magnitude")


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_coupled_filters_are_one_vector(norm: str, fold: bool) -> None:
    """Channel k of ResNet-18's first stage is the filter k of three convolutions."""
    backbone = backbones.get("resnet18")
    net = backbone.build(backbone.Config(), 4, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    pairs = {"conv1": "bn1", "layer1.0.conv2": "layer1.0.bn2", "layer1.1.conv2": "layer1.1.bn2"}
    for name in pairs.values():
        module = net.get_submodule(name)
        assert isinstance(module, nn.BatchNorm2d)
        module.weight.data.normal_(1, 0.5, generator=generator)
        module.running_var.uniform_(0.5, 2, generator=generator)
    weights = coupled_parameters(Classifier(net), "layer1.1.conv2", "group")
    context = ScoringContext(64, 2, torch.Generator(), weights=weights)
    found = Magnitude(Magnitude.Config(norm=norm, fold_norm=fold), context).score()
    for k in (0, 17, 63):
        values = []
        for conv, norm_name in pairs.items():
            own = net.get_submodule(norm_name)
            scale = abs(own.weight[k].item()) / math.sqrt(own.running_var[k].item() + own.eps)
            filter_k = net.get_submodule(conv).weight[k].flatten().tolist()
            values += [(scale if fold else 1.0) * abs(w) for w in filter_k]
        assert found[k].item() == pytest.approx(length(values, norm), rel=1e-5)
