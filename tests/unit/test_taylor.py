"""Taylor's criterion against finite differences of the loss, image by image."""

import pytest
import torch
from three_channels import dataset, images, model, prune, scores, train_rows, trainer, vanilla
from torch.nn import functional

from trainables.pruning.base import ScoringBatch, ScoringContext
from trainables.pruning.taylor import Taylor
from trainables.scoring import score_channels

torch.set_num_threads(1)


@pytest.mark.parametrize("with_norm", [False, True])
def test_equals_the_derivative_of_the_loss_by_a_gate_on_the_channel(with_norm: bool) -> None:
    """d loss(gate * map) / d gate at 1 = sum over positions of activation x gradient."""
    net = model(with_norm).net.double()
    rows, step = train_rows(), 1e-6
    label_N = torch.from_numpy(dataset().label_N[rows])

    def loss(number: int, channel: int, gate: float) -> float:
        image_NCHW = torch.tensor(images([rows[number]]), dtype=torch.float64)
        map_NCHW = net.norm(net.first(image_NCHW)).detach().clone()
        map_NCHW[:, channel] *= gate
        logits_NK = net.fc(net.pool(net.second(map_NCHW.relu())).flatten(1))
        return functional.cross_entropy(logits_NK, label_N[number : number + 1]).item()

    expected = []
    for channel in range(3):
        changes = [
            (loss(n, channel, 1 + step) - loss(n, channel, 1 - step)) / (2 * step)
            for n in range(len(rows))
        ]
        expected.append(sum(abs(change) for change in changes) / len(changes))
    assert scores("taylor", with_norm=with_norm) == pytest.approx(expected, rel=1e-4)
    assert max(expected) > 1.5 * min(expected) > 0


def test_signs_cancel_within_an_image_and_not_between_images() -> None:
    feature_NCHW = torch.tensor([[[[1.0, 2.0]]], [[[3.0, -1.0]]]])
    gradient_NCHW = torch.tensor([[[[2.0, -0.5]]], [[[-1.0, 1.0]]]])
    fed = Taylor(Taylor.Config(), ScoringContext(1, 2, torch.Generator()))
    nobody = torch.zeros(2, dtype=torch.int64)
    fed.update(ScoringBatch(feature_NCHW, gradient_NCHW, nobody, nobody))
    # |2 - 1| and |-3 - 1|
    assert fed.score().tolist() == [(1 + 4) / 2]


def test_gradients_of_parameters_are_left_alone() -> None:
    net = model()
    score_channels(net, prune("taylor"), trainer(), vanilla())
    assert all(parameter.grad is None for parameter in net.parameters())
    for parameter in net.parameters():
        parameter.requires_grad_(False)  # nothing that learns: maps still have a gradient
    frozen = score_channels(net, prune("taylor"), trainer(), vanilla())
    assert frozen.tolist() == scores("taylor")
