"""Gradient reversal and projection: what the net really descends."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from trainables.baselines.adv_rev import MIN_NORM, AdvRev, project
from trainables.baselines.adversary import ramp, reverse_gradient
from trainables.baselines.base import Baseline, Batch, Task
from trainables.baselines.vanilla import Vanilla
from trainables.conformance.baselines import CHECKS, begun, example
from trainables.models.classifier import Classifier
from trainables.specs import canonical
from trainables.trial_spec import Recipe

torch.set_num_threads(1)
AUTOCAST = torch.autocast("cpu", enabled=False)
RECIPE = Recipe(learning_rate=0.01)
PROJECTION = AdvRev.Config(form="projection")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_projection_form_conforms(check) -> None:
    check(PROJECTION)


def at(progress: float, group_N: torch.Tensor | None = None) -> Batch:
    batch = example()
    group_N = batch.group_N if group_N is None else group_N
    return Batch(batch.image_NCHW.double(), batch.label_N, group_N, progress)


def stepped(config: AdvRev.Config, batch: Batch) -> tuple[Classifier, Classifier]:
    """A classifier (float64) before and after one step, the latter with the step's gradients."""
    baseline, model = begun(config)
    before = copy.deepcopy(model.double().train())
    baseline.step(model, batch, baseline.optimizer(model, RECIPE), AUTOCAST)
    return before, model


def losses(before: Classifier, after: Classifier, batch: Batch, on_logits: bool) -> tuple:
    """Class and domain loss of the net before the step, through the domain head it then met."""
    feature_NF, logits_NK = before.forward_features(batch.image_NCHW)
    known = batch.group_N >= 0
    domain_ND = after.extra["domain"](logits_NK if on_logits else feature_NF)
    return (
        functional.cross_entropy(logits_NK.float(), batch.label_N),  # losses are always float32
        functional.cross_entropy(domain_ND.float()[known], batch.group_N[known]),
    )


def gradients(config: AdvRev.Config, batch: Batch) -> list[tuple]:
    """(gradient the step used, of the class loss, of the domain loss) for each tensor."""
    before, after = stepped(config, batch)
    class_loss, domain_loss = losses(before, after, batch, config.form == "projection")
    parameters = list(before.net.parameters())
    g_y = torch.autograd.grad(class_loss, parameters, retain_graph=True)
    g_s = torch.autograd.grad(domain_loss, parameters, allow_unused=True)  # not the class head
    g_s = tuple(torch.zeros_like(y) if s is None else s for y, s in zip(g_y, g_s, strict=True))
    assert after.extra["domain"].weight.grad is None
    return list(zip([p.grad for p in after.net.parameters()], g_y, g_s, strict=True))


def test_the_ramp_is_a_hyperbolic_tangent() -> None:
    for progress in (0.0, 0.05, 0.3, 1.0):
        assert ramp(progress) == pytest.approx(math.tanh(5 * progress), abs=1e-12)


def test_a_reversed_gradient_is_the_negative_multiple() -> None:
    value = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad((value**3).sin().sum(), value)
    (reversed_,) = torch.autograd.grad((reverse_gradient(value, 0.4) ** 3).sin().sum(), value)
    assert torch.allclose(reversed_, -0.4 * plain, rtol=1e-12)
    assert torch.equal(reverse_gradient(value, 0.4), value)


@pytest.mark.parametrize(("with_ramp", "strength"), [(True, 0.5 * math.tanh(1.5)), (False, 0.5)])
def test_reversal_descends_the_class_loss_minus_the_domain_loss(
    with_ramp: bool, strength: float
) -> None:
    config = AdvRev.Config(alpha=0.5, ramp=with_ramp)
    for used, g_y, g_s in gradients(config, at(0.3)):
        assert torch.allclose(used, g_y - strength * g_s, rtol=1e-7, atol=1e-12)


def vanilla_steps_alike(config: AdvRev.Config, batch: Batch) -> bool:
    before, after = stepped(config, batch)
    plain: Baseline = Vanilla(Vanilla.Config(), Task(num_classes=3, num_groups=2))
    twin = Classifier(before.net)
    plain.step(twin, batch, plain.optimizer(twin, RECIPE), AUTOCAST)
    pairs = zip(after.net.parameters(), twin.net.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=1e-15) for a, b in pairs)


def test_without_an_adversary_the_step_is_vanillas() -> None:
    nobody = torch.full_like(example().group_N, -1)
    assert vanilla_steps_alike(AdvRev.Config(), at(0.0))  # the ramp begins at zero
    assert not vanilla_steps_alike(AdvRev.Config(), at(0.5))
    assert vanilla_steps_alike(AdvRev.Config(), at(0.5, nobody))
    assert not vanilla_steps_alike(PROJECTION, at(0.0))
    assert vanilla_steps_alike(PROJECTION, at(0.5, nobody))


def test_no_projected_gradient_has_a_part_that_helps_the_adversary() -> None:
    """On every tensor of a ResNet-18: ``g + alpha g_s`` is orthogonal to ``g_s``."""
    num_projected = 0
    found = list(gradients(PROJECTION.model_copy(update={"alpha": 0.6}), at(0.3)))
    whole = sum((g_y * g_s).sum() for _, g_y, g_s in found) / sum(
        g_s.square().sum() for *_, g_s in found
    )
    num_otherwise = 0
    for used, g_y, g_s in found:
        # one projection over all parameters would give other gradients
        other = g_y - (0.6 + whole) * g_s
        num_otherwise += not torch.allclose(used, other, rtol=1e-3, atol=1e-6)
        if g_s.norm() <= MIN_NORM:
            assert torch.allclose(used, g_y - 0.6 * g_s, rtol=1e-9)
            continue
        num_projected += 1
        left = used + 0.6 * g_s
        assert abs(float((left * g_s).sum())) < 1e-9 * float(g_y.norm() * g_s.norm())
        # what was taken away lies along g_s and nowhere else
        along = (g_y * g_s).sum() / g_s.norm() ** 2
        assert torch.allclose(left, g_y - along * g_s, rtol=1e-7, atol=1e-10)
        assert float((g_y * g_s).sum().abs()) > 1e-9 * float(g_y.norm() * g_s.norm())
    assert num_otherwise > 50
    assert num_projected == 62  # all of ResNet-18: 20 convolutions, 20 BatchNorms, the head


def test_projection_by_hand_and_where_it_is_skipped() -> None:
    g_y, g_s = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])
    assert project(g_y, g_s, 0.5).tolist() == [-1.0, 1.0]
    assert project(-g_y, g_s, 0.5).tolist() == [-1.0, -1.0]
    tiny = torch.tensor([0.9 * MIN_NORM, 0.0])
    assert torch.allclose(project(g_y, tiny, 1.0), g_y - tiny)
    assert torch.allclose(project(g_y, 2 * tiny, 1.0), torch.tensor([0.0, 1.0]), atol=1e-4)
    assert torch.equal(project(g_y, torch.zeros(2), 1.0), g_y)


def test_the_domain_head_reads_features_or_logits() -> None:
    _, reversal = begun(AdvRev.Config())
    _, projection = begun(PROJECTION)
    assert reversal.extra["domain"].in_features == 512
    assert projection.extra["domain"].in_features == 3


def test_the_ramp_is_no_part_of_a_projections_key() -> None:
    assert canonical(AdvRev.Config(form="projection", ramp=False)) == canonical(PROJECTION)
    assert canonical(AdvRev.Config(ramp=False)) != canonical(AdvRev.Config())
