"""The diagonal curvature against Hessians and Jacobians written out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call, jacrev
from torch.nn import functional

from trainables.baselines.base import Task
from trainables.baselines.vanilla import Vanilla
from trainables.models.classifier import Classifier
from trainables.pruning.base import ScoringError
from trainables.pruning.curvature import diagonal_curvature, group_curvature, logits_of
from trainables.pruning.strata import choose_rows, group_weights
from trainables.pruning.surgery import cut
from trainables.registry import backbones

torch.set_num_threads(1)
TASK = Task(num_classes=3, num_groups=2)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TinyNet(nn.Module):
    """Convolution, BatchNorm with running statistics, dropout, a second convolution, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(5, 3)
        self.norm.running_mean = torch.randn(4)
        self.norm.running_var = torch.rand(4) + 0.5

    def forward(self, image_NCHW: Tensor) -> Tensor:
        feature_NCHW = self.norm(self.conv(image_NCHW)).relu_()
        return self.fc(self.dropout(self.second(feature_NCHW).tanh().mean((2, 3))))


@pytest.fixture
def tiny() -> tuple[TinyNet, Callable, dict[str, Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        net = TinyNet().eval()
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    return net, lambda given, image: functional_call(net, given, (image,)), parameters


def images(num: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = stream(seed)
    return (
        torch.rand(num, 3, 7, 7, generator=generator),
        torch.randint(0, 3, (num,), generator=generator),
    )


def brute(forward: Callable, parameters: dict[str, Tensor], image_NCHW: Tensor) -> dict:
    """The diagonal of J' (diag(p) - p p') J, image by image, with the Jacobian written out."""
    out = []
    for image_CHW in image_NCHW:

        def logits(given: dict[str, Tensor], image: Tensor = image_CHW) -> Tensor:
            return forward(given, image[None])[0]

        p_K = logits(parameters).softmax(0)
        hessian_KK = torch.diag(p_K) - torch.outer(p_K, p_K)
        jacobian = jacrev(logits)(parameters)
        out.append(
            {n: torch.einsum("k...,kl,l...->...", j, hessian_KK, j) for n, j in jacobian.items()}
        )
    return {name: torch.stack([one[name] for one in out]) for name in parameters}


def near(one: dict[str, Tensor], other: dict[str, Tensor], rtol: float = 1e-4) -> None:
    assert one.keys() == other.keys()
    for name in one:
        scale = float(other[name].abs().max())
        torch.testing.assert_close(one[name], other[name], rtol=rtol, atol=1e-6 * scale)


def test_exact_is_the_hessian_of_softmax_regression() -> None:
    generator = stream(3)
    feature_NF = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    label_N = torch.randint(0, 4, (20,), generator=generator)
    weight_KF = torch.randn(4, 6, generator=generator, dtype=torch.float64)

    def loss(weight: Tensor) -> Tensor:
        return functional.cross_entropy(feature_NF @ weight.T, label_N)

    full = hessian(loss, weight_KF).reshape(24, 24)
    mine = diagonal_curvature(
        lambda given, feature: feature @ given["w"].T,
        {"w": weight_KF.float()},
        [(feature_NF[:13].float(), label_N[:13]), (feature_NF[13:].float(), label_N[13:])],
        kind="gauss_newton",
    )
    torch.testing.assert_close(mine["w"].flatten().double(), full.diagonal(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("chunk_size", [1, 3, None])
def test_exact_is_j_h_j_of_a_net_with_batchnorm_and_dropout(tiny, chunk_size) -> None:
    net, forward, parameters = tiny
    before = {name: value.clone() for name, value in net.state_dict().items()}
    image_NCHW, label_N = images(7)
    group_N = torch.tensor([1, 0, -1, 1, 1, 0, -1])
    diagonal, num_G = group_curvature(
        lambda given, image, _: forward(given, image),
        parameters,
        [
            (image_NCHW[:5], label_N[:5], group_N[:5], group_N[:5]),
            (image_NCHW[5:], label_N[5:], group_N[5:], group_N[5:]),
        ],
        3,
        kind="gauss_newton",
        chunk_size=chunk_size,
    )
    assert num_G.tolist() == [2, 3, 0]
    each = brute(forward, parameters, image_NCHW)
    for group in (0, 1):
        near(
            {name: value[group] for name, value in diagonal.items()},
            {name: value[group_N == group].mean(0) for name, value in each.items()},
        )
    assert all(not bool(value[2].any()) for value in diagonal.values())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_fisher_is_the_mean_squared_gradient_of_single_images(tiny) -> None:
    net, forward, parameters = tiny
    image_NCHW, label_N = images(5)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for i in range(5):
        loss = functional.cross_entropy(net(image_NCHW[i : i + 1]), label_N[i : i + 1])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        for (name, _), gradient in zip(net.named_parameters(), gradients, strict=True):
            total[name] += gradient.square() / 5
    mine = diagonal_curvature(forward, parameters, [(image_NCHW, label_N)], kind="fisher")
    near(mine, total)


def test_drawn_classes_converge_within_the_stated_standard_error(tiny) -> None:
    _, forward, parameters = tiny
    image_NCHW, label_N = images(6)
    exact = diagonal_curvature(forward, parameters, [(image_NCHW, label_N)], kind="gauss_newton")

    def log_p(given: dict[str, Tensor]) -> Tensor:
        return forward(given, image_NCHW).log_softmax(1)

    p_NK = log_p(parameters).exp()
    jacobian = jacrev(log_p)(parameters)
    for num_samples, num_repeats in ((1, 60), (16, 20)):
        runs = [
            diagonal_curvature(
                forward, parameters, [(image_NCHW, label_N)], generator=stream(s),
                num_samples=num_samples,
            )
            for s in range(num_repeats)
        ]  # fmt: skip
        scores = []
        for name, value in exact.items():
            square = jacobian[name].square()
            mean_N = torch.einsum("nk,nk...->n...", p_NK, square)
            variance_N = torch.einsum("nk,nk...->n...", p_NK, square.square()) - mean_N.square()
            error = (variance_N.clamp(min=0).sum(0) / num_samples).sqrt() / len(image_NCHW)
            kept = error > 1e-3 * error.max()  # rounding, where drawing makes no difference
            drawn = torch.stack([run[name] for run in runs])
            scores.append(((drawn - value) / error)[:, kept])
        z = torch.cat(scores, 1)
        assert float(z.square().mean()) == pytest.approx(1, abs=0.3)  # the error is what is said
        overall = z.mean(0) * num_repeats**0.5
        assert float(overall.abs().max()) < 5
        assert float(overall.square().mean()) < 2.5


def test_draws_are_a_function_of_the_generator_alone(tiny) -> None:
    _, forward, parameters = tiny
    batches = [images(4)]
    one, same, other = (
        diagonal_curvature(forward, parameters, batches, generator=stream(seed))
        for seed in (5, 5, 6)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="generator"):
        diagonal_curvature(forward, parameters, batches)
    with pytest.raises(ValueError, match="one image"):
        diagonal_curvature(forward, parameters, [], kind="fisher")


def test_under_inference_mode_and_autocast_the_numbers_are_the_same(tiny) -> None:
    _, forward, parameters = tiny
    image_NCHW, label_N = images(4)
    plain = diagonal_curvature(forward, parameters, [(image_NCHW, label_N)], kind="gauss_newton")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        made_here = image_NCHW * 1
        inside = diagonal_curvature(
            forward, parameters, [(made_here, label_N)], kind="gauss_newton"
        )
    assert all(torch.equal(plain[name], inside[name]) for name in plain)


def classifier(backbone: str) -> Classifier:
    cls = backbones.get(backbone)
    return Classifier(cls.build(cls.Config(), 3, stream(2)))


@pytest.mark.parametrize(
    ("backbone", "site", "names"),
    [
        ("resnet18", "conv", ("net.layer4.1.conv2.weight", "net.layer4.1.bn2.weight")),
        ("resnet18", "block", ("net.layer4.1.conv1.weight", "net.fc.weight")),
        ("vgg11", "conv", ("net.features.18.weight", "net.features.18.bias")),
    ],
)
def test_pruned_nets(backbone: str, site: str, names: tuple[str, ...]) -> None:
    model = classifier(backbone)
    cut(model.net, backbones.get(backbone).last_conv, site, [0, 3, 500])
    forward = logits_of(model.train(), Vanilla(Vanilla.Config(), TASK))
    assert not model.training
    image_NCHW = torch.rand(2, 3, 32, 32, generator=stream(7))
    label_N = torch.tensor([2, 0])
    parameters = {name: model.get_parameter(name) for name in names}
    expected = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for i in range(2):
        loss = functional.cross_entropy(model(image_NCHW[i : i + 1]), label_N[i : i + 1])
        for name, g in zip(
            names, torch.autograd.grad(loss, list(parameters.values())), strict=True
        ):
            expected[name] += g.square() / 2
    for chunk_size in (1, 2):
        mine = diagonal_curvature(
            forward, parameters, [(image_NCHW, label_N)], kind="fisher", chunk_size=chunk_size
        )
        near(mine, {name: value.detach() for name, value in expected.items()}, rtol=1e-3)
    assert all(value.grad is None for value in model.parameters())


def test_rows_are_stratified_or_balanced() -> None:
    group_N = torch.tensor([0] * 60 + [1] * 20 + [-1] * 30 + [2] * 10)
    share = choose_rows(group_N, 3, 45, stream())
    assert torch.bincount(group_N[share]).tolist() == [30, 10, 5]
    equal = choose_rows(group_N, 3, 45, stream(), balance=True)
    assert torch.bincount(group_N[equal]).tolist() == [10, 10, 10]  # the smallest group has ten
    few = choose_rows(group_N, 3, 12, stream(), balance=True)
    assert torch.bincount(group_N[few]).tolist() == [4, 4, 4]
    every = choose_rows(group_N, 3, 1000, stream())
    assert torch.equal(every, torch.nonzero(group_N >= 0).flatten())
    assert torch.equal(share, choose_rows(group_N, 3, 45, stream()))
    assert not torch.equal(share, choose_rows(group_N, 3, 45, stream(1)))
    with pytest.raises(ScoringError, match="group 3"):
        choose_rows(group_N, 4, 45, stream())


def test_weights_of_the_groups() -> None:
    assert group_weights(2, 1, 0.25).tolist() == [1.0, -0.25]
    assert group_weights(3, 0, 0.5).tolist() == [-0.5, 0.5, 0.5]
