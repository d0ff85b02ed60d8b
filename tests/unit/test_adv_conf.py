"""Uniform confusion: its two losses, how the domain head is trained, and the alternation."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from trainables.baselines.adv_conf import AdvConf
from trainables.baselines.adversary import (
    RIDGE,
    domain_cross_entropy,
    train_domain_head,
    uniform_confusion,
)
from trainables.baselines.base import Batch, Task
from trainables.baselines.vanilla import Vanilla
from trainables.conformance.baselines import begun, example
from trainables.models.classifier import Classifier
from trainables.pruning.surgery import cut, masked
from trainables.trial_spec import Recipe

torch.set_num_threads(1)
AUTOCAST = torch.autocast("cpu", enabled=False)
RECIPE = Recipe(learning_rate=0.01)
GROUP = torch.tensor([0, 2, -1, 1, 1, 2, 0, -1, 2, 2])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def states_equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def unknown(batch: Batch) -> Batch:
    group_N = torch.full_like(batch.group_N, -1)
    return Batch(batch.image_NCHW, batch.label_N, group_N, batch.progress)


def test_both_losses_are_means_over_the_images_of_known_group() -> None:
    logits_ND = 3 * torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    known = GROUP.numpy() >= 0
    log_p = log_softmax(logits_ND.double().numpy())[known]
    confusion = np.mean([-sum(row) / 3 for row in log_p])
    own = np.mean([-row[g] for row, g in zip(log_p, GROUP.numpy()[known], strict=True)])
    assert float(uniform_confusion(logits_ND, GROUP)) == pytest.approx(confusion, rel=1e-6)
    assert float(domain_cross_entropy(logits_ND, GROUP)) == pytest.approx(own, rel=1e-6)
    nobody = torch.full_like(GROUP, -1)
    assert float(uniform_confusion(logits_ND, nobody)) == 0
    assert float(domain_cross_entropy(logits_ND, nobody)) == 0


def test_confusion_is_least_where_the_head_knows_nothing() -> None:
    even = uniform_confusion(torch.full((10, 3), 7.0), GROUP)
    assert float(even) == pytest.approx(np.log(3), rel=1e-6)
    logits_ND = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    assert float(uniform_confusion(logits_ND, GROUP)) > float(even)


def head_and_inputs(scale: float, num_inputs: int = 4) -> tuple[torch.nn.Linear, torch.Tensor]:
    torch.manual_seed(3)
    head = torch.nn.Linear(num_inputs, 3)
    return head, scale * (torch.randn(10, num_inputs) + 5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_head_is_trained_by_accelerated_descent_on_centred_inputs(scale: float) -> None:
    """The same by autograd, on the rows of known group alone."""
    head, input_NF = head_and_inputs(scale)
    head, input_NF = head.double(), input_NF.double()
    known = GROUP >= 0
    rows_NF, mean_F = input_NF[known], input_NF[known].mean(0)
    power = float(((rows_NF - mean_F) ** 2).sum(1).mean())
    rates = 1 / (0.5 + 0.5 * power + RIDGE * power), 2.0
    point = [head.weight.detach(), head.bias.detach() + head.weight.detach() @ mean_F]
    previous = point

    def objective(weight_DF: torch.Tensor, bias_D: torch.Tensor) -> tuple:
        output_ND = (rows_NF - mean_F) @ weight_DF.T + bias_D
        loss = functional.cross_entropy(output_ND, GROUP[known])
        return loss, loss + RIDGE / 2 * power * (weight_DF**2).sum()

    first = objective(*point)[0]
    for number in range(7):
        ahead = [
            (p + number / (number + 3) * (p - q)).requires_grad_()
            for p, q in zip(point, previous, strict=True)
        ]
        slopes = torch.autograd.grad(objective(*ahead)[1], ahead)
        previous = point
        point = [(p - r * g).detach() for p, r, g in zip(ahead, rates, slopes, strict=True)]
    before = train_domain_head(head, input_NF, GROUP, 7)
    assert torch.allclose(head.weight, point[0], rtol=1e-9, atol=1e-12)
    assert torch.allclose(head.bias, point[1] - point[0] @ mean_F, rtol=1e-9, atol=1e-9)
    assert before.item() == pytest.approx(first.item(), rel=1e-5)


@pytest.mark.parametrize(("scale", "num_inputs"), [(1.0, 2), (1.0, 64), (30.0, 16)])
def test_the_head_ends_at_ridge_logistic_regression(scale: float, num_inputs: int) -> None:
    generator = torch.Generator().manual_seed(5)
    group_N = torch.randint(-1, 3, (80,), generator=generator)
    input_NF = torch.randn(80, num_inputs, generator=generator, dtype=torch.float64)
    input_NF = scale * (input_NF + group_N[:, None] / num_inputs**0.5 + 3)
    head = head_and_inputs(1.0, num_inputs)[0].double()
    train_domain_head(head, input_NF, group_N, 3_000)
    known = group_N >= 0
    rows = input_NF[known].numpy()
    penalty = RIDGE * ((rows - rows.mean(0)) ** 2).sum(1).mean()
    reference = LogisticRegression(C=1 / (len(rows) * penalty), tol=1e-7, max_iter=5_000)
    reference.fit(rows - rows.mean(0), group_N[known].numpy())
    expected = reference.predict_proba(rows - rows.mean(0))
    found = head(input_NF[known]).softmax(1).detach().numpy()
    assert np.abs(found - expected).max() < 1e-3
    assert np.ptp(expected, axis=0).min() > 0.5  # not the answer of a constant


def test_the_head_and_the_net_alternate_within_each_step() -> None:
    """Three steps by hand: head, then net through the frozen head; the head has no optimiser."""
    config = AdvConf.Config(alpha=0.7, domain_steps=4)
    baseline, model = begun(config)
    by_hand = copy.deepcopy(model)
    optimizer = baseline.optimizer(model, RECIPE)
    own = torch.optim.SGD(
        by_hand.net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-5
    )
    batch, domain = example(), by_hand.extra["domain"].requires_grad_(False)
    known = batch.group_N >= 0
    for _ in range(3):
        logs = baseline.step(model.train(), batch, optimizer, AUTOCAST)
        feature_NF, logits_NK = by_hand.train().forward_features(batch.image_NCHW)
        domain_loss = train_domain_head(domain, feature_NF.detach(), batch.group_N, 4)
        log_p_ND = functional.log_softmax(domain(feature_NF), dim=1)[known]
        class_loss = functional.cross_entropy(logits_NK, batch.label_N)
        loss = class_loss - 0.7 * log_p_ND.mean()
        own.zero_grad()
        loss.backward()
        own.step()
        expected = {"loss": loss, "class_loss": class_loss, "domain_loss": domain_loss}
        for name, value in expected.items():
            assert logs[name].item() == pytest.approx(value.item(), rel=1e-5), name
        assert model.extra["domain"].weight.grad is None
    for mine, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
    start = begun(config)[1].extra["domain"].weight
    assert not torch.allclose(model.extra["domain"].weight, start, atol=1e-3)


def test_images_of_unknown_group_train_the_class_loss_alone() -> None:
    baseline, model = begun(AdvConf.Config())
    domain = copy.deepcopy(model.extra["domain"])
    plain = Vanilla(Vanilla.Config(), Task(num_classes=3, num_groups=2))
    twin = Classifier(copy.deepcopy(model.net))
    batch = unknown(example())
    baseline.step(model.train(), batch, baseline.optimizer(model, RECIPE), AUTOCAST)
    plain.step(twin.train(), batch, plain.optimizer(twin, RECIPE), AUTOCAST)
    assert states_equal(model.net, twin.net)
    assert states_equal(model.extra["domain"], domain)


@pytest.mark.parametrize("site", ["block", "group"])
def test_the_domain_head_is_cut_with_the_features(site: str) -> None:
    baseline, model = begun(AdvConf.Config())
    model.eval()
    image_NCHW, removed = example().image_NCHW, [0, 7, 99, 500]
    layer, domain = "layer4.1.conv2", model.extra["domain"]
    heads = baseline.feature_heads(model)
    if site == "block":
        with torch.no_grad(), masked(model.net, layer, site, removed):
            expected = [domain(model.forward_features(image_NCHW)[0]), model(image_NCHW)]
    cut(model.net, layer, site, removed, heads)
    assert domain.in_features == domain.weight.shape[1] == 508
    with torch.no_grad():
        found = [domain(model.forward_features(image_NCHW)[0]), model(image_NCHW)]
    if site == "block":
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
