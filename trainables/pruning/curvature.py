"""Diagonal curvature of the cross-entropy, parameter by parameter: what OBD and FairPrune weigh
weights by.

For one image with logits z, their Jacobian J by the parameters, and p = softmax(z), the
generalised Gauss-Newton matrix is ``J' (diag(p) - p p') J`` (Schraudolph, Neural Computation 2002,
sec. 3): positive semi-definite, and the Hessian itself where z is linear in the parameters. With
``diag(p) - p p' = S S'``, ``S = diag(sqrt p) - p sqrt(p)'``, its diagonal is a sum of squares,

    h_j = sum_k (J' S)_jk^2 = sum_k p_k (d log p_k / d theta_j)^2

so a class k drawn from p gives ``(d log p_k / d theta_j)^2`` with mean h_j (Dangel, Kunstner and
Hennig, BackPACK, ICLR 2020, call the two DiagGGNExact and DiagGGNMC). The label in the place of k
gives the empirical Fisher, which is neither (Kunstner et al., NeurIPS 2019).

Cost an image: one forward pass and R backward passes that keep its own gradient. All weights of a
ResNet-18 at 128 pixels, measured on an H200: 0.8 ms with R = 1, 3 ms with R = 7, 56 ms with
R = 114; on one CPU core 0.1 s with R = 1. Those of a VGG-11 with R = 1: 4 ms on the H200.

Shape legend: N images, C colours, H height, W width, K classes, G groups, R backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from trainables.baselines.base import Baseline
from trainables.models.classifier import Classifier
from trainables.replicas import ALONE, Replicas

Kind = Literal["gauss_newton", "gauss_newton_mc", "fisher"]
"""``gauss_newton``: exact, one backward pass a class and image; ``gauss_newton_mc``: a class drawn
from the model's own prediction, ``num_samples`` backward passes an image; ``fisher``: the squared
gradient of the loss of the true label, one backward pass an image.
"""

Parameters: TypeAlias = dict[str, Tensor]
Forward: TypeAlias = Callable[[Parameters, Tensor], Tensor]
"""(parameters, image_NCHW) -> logits_NK; treats images independently, as a net in eval mode."""
GroupForward: TypeAlias = Callable[[Parameters, Tensor, Tensor], Tensor]
"""The same with the images' groups (-1: unknown) as a third argument."""

CHUNK_BYTES = {"cpu": 1 << 27, "cuda": 1 << 32}
"""Memory for the gradients of the images that go through at once; by kind of device, not by what
is free, so that the order of summation never depends on the machine's load.
"""
MAX_CHUNK = 64


def diagonal_curvature(
    forward: Forward,
    parameters: Parameters,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    kind: Kind = "gauss_newton_mc",
    generator: torch.Generator | None = None,
    num_samples: int = 1,
    chunk_size: int | None = None,
) -> Parameters:
    """Mean over images of the curvature's diagonal; see ``group_curvature``.

    Args:
        forward: the net as a function of the parameters.
        parameters: those to differentiate by; the fewer, the cheaper.
        batches: (image_NCHW, label_N); labels are read by ``fisher`` only.
        kind: see ``Kind``.
        generator: CPU generator of the drawn classes (``gauss_newton_mc``).
        num_samples: classes drawn an image (``gauss_newton_mc``).
        chunk_size: images at once; by default what ``CHUNK_BYTES`` holds.

    Returns:
        Name -> float32 tensor of the parameter's shape, on its device.

    Raises:
        ValueError: no images, or ``gauss_newton_mc`` without a generator.
    """
    labelled = (
        (image, label, torch.zeros_like(label), torch.full_like(label, -1))
        for image, label in batches
    )
    diagonal, num_G = group_curvature(
        lambda parameters, image_NCHW, _: forward(parameters, image_NCHW),
        parameters,
        labelled,
        1,
        kind=kind,
        generator=generator,
        num_samples=num_samples,
        chunk_size=chunk_size,
    )
    if not bool(num_G[0]):
        raise ValueError("curvature needs at least one image")
    return {name: value[0] for name, value in diagonal.items()}


def group_curvature(
    forward: GroupForward,
    parameters: Parameters,
    batches: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]],
    num_groups: int,
    *,
    kind: Kind = "gauss_newton_mc",
    generator: torch.Generator | None = None,
    num_samples: int = 1,
    chunk_size: int | None = None,
    replicas: Replicas = ALONE,
) -> tuple[Parameters, Tensor]:
    """Mean over the images of each stratum (as a rule: group) of the curvature's diagonal.

    Given its images, ``gauss_newton_mc`` has the standard error
    ``sqrt(sum_i v_ij / num_samples) / n`` with
    ``v_ij = sum_k p_ik (d log p_ik / d theta_j)^4 - h_ij^2``.

    Args:
        forward: the net as a function of the parameters.
        parameters: those to differentiate by; the fewer, the cheaper.
        batches: (image_NCHW, label_N, stratum_N, group_N); images of no stratum (negative) are
            left out; the groups are for a net that needs them at inference.
        num_groups: G, number of strata.
        kind: see ``Kind``.
        generator: CPU generator of the drawn classes (``gauss_newton_mc``).
        num_samples: classes drawn an image (``gauss_newton_mc``).
        chunk_size: images at once; by default what ``CHUNK_BYTES`` holds.
        replicas: processes with the same arguments, each of which takes a part of every batch.

    Returns:
        Name -> float32 tensor (G, *parameter's shape), zero for a group without images; and the
        number of images num_G (int64).

    Raises:
        ValueError: ``gauss_newton_mc`` without a generator.
    """
    if kind == "gauss_newton_mc" and generator is None:
        raise ValueError("gauss_newton_mc draws classes: it needs a generator")
    parameters = {name: value.detach() for name, value in parameters.items()}
    device = next(iter(parameters.values())).device
    with torch.inference_mode(False), torch.no_grad(), _full_float32(device):
        size = chunk_size or _chunk_size(parameters, device)
        sum_G = {n: v.new_zeros((num_groups, *v.shape)) for n, v in parameters.items()}
        num_G = torch.zeros(num_groups, dtype=torch.int64, device=device)
        group_range_G1 = torch.arange(num_groups, device=device)[:, None]
        for image_NCHW, label_N, stratum_N, group_N in batches:
            # what was made in inference mode cannot be differentiated through
            image_NCHW = image_NCHW.clone() if image_NCHW.is_inference() else image_NCHW
            draw_NR = _draws(kind, len(image_NCHW), num_samples, generator).to(device)
            member_GN = stratum_N.to(device) == group_range_G1
            group_N = group_N.to(device)
            num_G += member_GN.sum(1)
            own = replicas.part(len(image_NCHW))
            for start in range(own.start, own.stop, size):
                rows = slice(start, min(start + size, own.stop))
                part = (image_NCHW[rows], label_N[rows], group_N[rows], draw_NR[rows])
                squares = _squares(forward, parameters, kind, *part)
                member = member_GN[:, rows].float()
                for name, square_N in squares.items():
                    sum_G[name] += torch.tensordot(member, square_N, dims=1)
        replicas.total(list(sum_G.values()))
        each_G = num_G.clamp(min=1)
        mean_G = {n: v / each_G.view(-1, *[1] * (v.dim() - 1)) for n, v in sum_G.items()}
    return mean_G, num_G


def logits_of(model: Classifier, baseline: Baseline) -> GroupForward:
    """The model as a ``GroupForward``: its logits at inference; puts it into eval.

    The given parameters take the place of its own (names as in ``model.named_parameters()``; those
    not given stay).
    """
    module = _Inference(model.eval(), baseline)

    def forward(
        parameters: Parameters, image_NCHW: Tensor, group_N: Tensor | None = None
    ) -> Tensor:
        if group_N is None:
            group_N = torch.full((len(image_NCHW),), -1, device=image_NCHW.device)
        named = {f"model.{name}": value for name, value in parameters.items()}
        logits_NK: Tensor = functional_call(module, named, (image_NCHW, group_N))
        return logits_NK

    return forward


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """No autocast, and no TF32: squared gradients were seen to differ by up to 8 % with it."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class _Inference(nn.Module):
    """A baseline's inference as the forward of one module, which ``functional_call`` needs."""

    def __init__(self, model: Classifier, baseline: Baseline) -> None:
        super().__init__()
        self.model = model
        self._baseline = baseline

    def forward(self, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        return self._baseline.logits(self.model, image_NCHW, group_N)


def _chunk_size(parameters: Parameters, device: torch.device) -> int:
    """Images whose gradients, their squares and the sum of those fit into the memory allowed."""
    each = 3 * 4 * sum(value.numel() for value in parameters.values())
    allowed = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    return max(1, min(MAX_CHUNK, allowed // max(each, 1)))


def _draws(kind: Kind, num: int, num_samples: int, generator: torch.Generator | None) -> Tensor:
    """draw_NR uniform on [0, 1): on the CPU, so that a GPU sees the same numbers."""
    if kind != "gauss_newton_mc":
        return torch.zeros((num, 1))
    return torch.rand((num, num_samples), generator=generator)


def _squares(
    forward: GroupForward,
    parameters: Parameters,
    kind: Kind,
    image_NCHW: Tensor,
    label_N: Tensor,
    group_N: Tensor,
    draw_NR: Tensor,
) -> Parameters:
    """The diagonal of each image by itself: name -> (N, *parameter's shape), in float32."""

    def one(image_CHW: Tensor, label: Tensor, group: Tensor, draw_R: Tensor) -> Parameters:
        def log_p(given: Parameters) -> Tensor:
            return forward(given, image_CHW[None], group[None])[0].float().log_softmax(0)

        log_p_K, pull_back = vjp(log_p, parameters)  # type: ignore[misc]
        total: Parameters = {}
        for direction_K in _directions(kind, log_p_K.exp(), label, draw_R):
            (gradient,) = pull_back(direction_K)
            for name, value in gradient.items():
                square = value.float().square()
                total[name] = total[name] + square if name in total else square
        return total

    if len(image_NCHW) > 1:
        squares: Parameters = vmap(one)(image_NCHW, label_N, group_N, draw_NR)
        return squares
    # one image by itself is half as dear without vmap, which makes grouped convolutions
    alone = one(image_NCHW[0], label_N[0], group_N[0], draw_NR[0])
    return {name: value[None] for name, value in alone.items()}


def _directions(kind: Kind, p_K: Tensor, label: Tensor, draw_R: Tensor) -> list[Tensor]:
    """Weights of the log-probabilities whose gradients are squared and summed, R of them."""
    class_K = torch.arange(len(p_K), device=p_K.device)
    if kind == "gauss_newton":
        root_KK = torch.diag(p_K.sqrt())
        return list(root_KK.unbind(0))
    if kind == "fisher":
        return [(class_K == label).float()]
    # inverse distribution function; rounding may leave the last value of the sum below 1
    drawn_R = [(p_K.cumsum(0) <= u).sum().clamp(max=len(p_K) - 1) for u in draw_R.unbind(0)]
    return [(class_K == drawn).float() / len(drawn_R) ** 0.5 for drawn in drawn_R]
