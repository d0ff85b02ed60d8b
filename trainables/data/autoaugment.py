"""AutoAugment's ImageNet policy on a batch: one pass per kind of operation, not one per image.

Which image gets which operation is known on the CPU (it follows from the drawn uniforms), so the
device is never asked anything: the groups and their arguments travel in two small transfers.

Shape legend: N images, C colour channels, H height, W width, B sub-policies (25), M pairs of an
image and an operation in a batch, G members of one group of them, A numbers that an operation
needs for one image (at most 6: an affine matrix).

Source: Cubuk et al. 2019, AutoAugment (arXiv:1805.09501), the policy found on ImageNet; the table
and each operation, pixel by pixel, are those of ``torchvision.transforms.v2.AutoAugment``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

NUM_BINS = 10
NUM_ARGUMENTS = 6
LUMA = torch.tensor([0.2989, 0.587, 0.114]).tolist()  # rounded to float32


def warp(image_NCHW: Tensor, theta_N6: Tensor, mode: str) -> Tensor:
    """Resample each image at its own inverse affine map; black outside.

    The grid is two products and two sums per coordinate, not ``affine_grid``: that one is a matrix
    product, which may run in TF32 and may depend on the batch size.

    Args:
        image_NCHW: float32.
        theta_N6: row-major 2 x 3 matrix from output to input coordinates, both in [-1, 1].
        mode: ``nearest``, ``bilinear`` or ``bicubic`` (the last one overshoots).
    """
    height, width = image_NCHW.shape[-2:]
    device = image_NCHW.device
    x_W = (2 * torch.arange(width, device=device) + 1) / width - 1
    y_H1 = ((2 * torch.arange(height, device=device) + 1) / height - 1)[:, None]
    xx, xy, x0, yx, yy, y0 = theta_N6[:, :, None, None].unbind(1)
    grid_NHW2 = torch.stack([xx * x_W + (xy * y_H1 + x0), yx * x_W + (yy * y_H1 + y0)], dim=-1)
    return grid_sample(image_NCHW, grid_NHW2, mode, "zeros", align_corners=False)


def _fused(addend: Tensor, factor: Tensor, by: Tensor | float) -> Tensor:
    """``addend + factor * by`` of float32 values with one rounding.

    torchvision's ``add(alpha=...)`` is a fused multiply-add. Spelled out in float64, pixels that
    fall on a whole level do not depend on device, vector width or batch size.
    """
    return (addend.double() + factor.double() * by).float()


def grey(image_NCHW: Tensor) -> Tensor:
    """ITU-R 601 luma of float images with integer values in [0, 255], floored: (N, 1, H, W)."""
    red, green, blue = image_NCHW.split(1, dim=1)
    return _fused(_fused(red * LUMA[0], green, LUMA[1]), blue, LUMA[2]).floor_()


def blend(image_NCHW: Tensor, other_N1HW: Tensor, weight_N: Tensor, rest_N: Tensor) -> Tensor:
    """``weight * image + rest * other``, floored, in [0, 255]; ``rest`` is 1 - weight."""
    weight_N111, rest_N111 = weight_N[:, None, None, None], rest_N[:, None, None, None]
    return _fused(image_NCHW * weight_N111, other_N1HW, rest_N111.double()).clamp_(0, 255).floor_()


def _affine(image: Tensor, argument_NA: Tensor) -> Tensor:
    return warp(image.float(), argument_NA, "nearest").to(torch.uint8)


def _posterize(image: Tensor, argument_NA: Tensor) -> Tensor:
    return image & argument_NA[:, 0, None, None, None].to(torch.uint8)


def _solarize(image: Tensor, argument_NA: Tensor) -> Tensor:
    return torch.where(image >= argument_NA[:, 0, None, None, None], ~image, image)


def _color(image: Tensor, argument_NA: Tensor) -> Tensor:
    image = image.float()
    return blend(image, grey(image), argument_NA[:, 0], argument_NA[:, 1]).to(torch.uint8)


def _contrast(image: Tensor, argument_NA: Tensor) -> Tensor:
    image = image.float()
    # A sum of integers is exact in float64, so the mean depends on no order of summation.
    mean_N111 = grey(image).mean((1, 2, 3), keepdim=True, dtype=torch.float64).float()
    return blend(image, mean_N111, argument_NA[:, 0], argument_NA[:, 1]).to(torch.uint8)


def _sharpness(image: Tensor, argument_NA: Tensor) -> Tensor:
    if min(image.shape[-2:]) <= 2:
        return image
    image = image.float()
    inner = image[:, :, 1:-1, 1:-1]
    rows = image[:, :, :-2] + image[:, :, 1:-1] + image[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    blurred = ((box + 4 * inner) / 13).round_()  # 3 x 3 kernel of ones with a 5 in the middle
    inner.copy_(_fused(inner, blurred - inner, argument_NA[:, 1, None, None, None].double()))
    return image.clamp_(0, 255).to(torch.uint8)


def _autocontrast(image: Tensor, argument_NA: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import autocontrast

    return autocontrast(image)


def _equalize(image: Tensor, argument_NA: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    return equalize(image)


KINDS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _affine,
    _posterize,
    _solarize,
    _color,
    _contrast,
    _sharpness,
    _autocontrast,
    _equalize,
)


def operation(
    name: str, magnitude: float
) -> tuple[Callable[[Tensor, Tensor], Tensor], list[float]]:
    """The batched function of one of torchvision's operations and its numbers for this magnitude.

    Raises:
        ValueError: an operation that the ImageNet policy does not contain.
    """
    if name == "Rotate":  # counter-clockwise, as torchvision's ``rotate``
        cos, sin = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
        return _affine, [cos, -sin, 0.0, sin, cos, 0.0]
    if name == "ShearX":  # about the upper edge, not the centre
        return _affine, [1.0, magnitude, magnitude, 0.0, 1.0, 0.0]
    if name == "Posterize":
        return _posterize, [256 - 2 ** (8 - int(magnitude))]
    if name == "Solarize":
        return _solarize, [255 * magnitude]
    if name == "Invert":  # solarising from black on
        return _solarize, [0.0]
    blends = {"Color": _color, "Contrast": _contrast, "Sharpness": _sharpness}
    if name in blends:
        return blends[name], [1 + magnitude, -magnitude]
    if name in {"AutoContrast", "Equalize"}:
        return (_autocontrast if name == "AutoContrast" else _equalize), [0.0]
    raise ValueError(f"operation {name!r} is not in AutoAugment's ImageNet policy")


@lru_cache(maxsize=1)
def policy_table() -> tuple[Tensor, Tensor, Tensor]:
    """Kind (B, 2), probability (B, 2), arguments (B, 2, sign, A) of the ImageNet sub-policies."""
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

    policies = AutoAugment(AutoAugmentPolicy.IMAGENET)._policies
    kind_B2 = torch.zeros(len(policies), 2, dtype=torch.int64)
    probability_B2 = torch.zeros(len(policies), 2)
    argument_B22A = torch.zeros(len(policies), 2, 2, NUM_ARGUMENTS)
    for row, steps in enumerate(policies):
        for step, (name, probability, level) in enumerate(steps):
            # The size matters to translations only, which this policy does not contain.
            levels_fn, signed = AutoAugment._AUGMENTATION_SPACE[name]
            levels = levels_fn(NUM_BINS, 1, 1)
            magnitude = 0.0 if levels is None else float(levels[level])
            probability_B2[row, step] = probability
            for side, sign in enumerate((-1, 1) if signed else (1, 1)):
                function, numbers = operation(name, sign * magnitude)
                kind_B2[row, step] = KINDS.index(function)
                argument_B22A[row, step, side, : len(numbers)] = torch.tensor(numbers)
    return kind_B2, probability_B2, argument_B22A


@dataclass(frozen=True)
class Plan:
    """Who gets what: ``image_M`` and ``argument_MA`` (on the CPU), sorted by step, then by kind.

    ``segments`` holds (kind, first, last + 1) over M in the order in which they are applied.
    """

    image_M: Tensor
    argument_MA: Tensor
    segments: tuple[tuple[int, int, int], ...]


def plan(uniform_N5: Tensor) -> Plan:
    """Turn five uniforms an image (sub-policy, apply 1, apply 2, sign 1, sign 2) into a plan."""
    kind_B2, probability_B2, argument_B22A = policy_table()
    policy_N = (uniform_N5[:, 0] * len(kind_B2)).long().clamp_(max=len(kind_B2) - 1)
    images, arguments, segments, start = [], [], [], 0
    for step in range(2):
        applied_N = uniform_N5[:, 1 + step] < probability_B2[policy_N, step]
        side_N = (uniform_N5[:, 3 + step] >= 0.5).long()
        kind_N = kind_B2[policy_N, step]
        argument_NA = argument_B22A[policy_N, step, side_N]
        for kind in range(len(KINDS)):
            member_G = (applied_N & (kind_N == kind)).nonzero()[:, 0]  # on the CPU: no device sync
            if len(member_G):
                images.append(member_G)
                arguments.append(argument_NA[member_G])
                segments.append((kind, start, start + len(member_G)))
                start += len(member_G)
    if not segments:
        return Plan(torch.zeros(0, dtype=torch.int64), torch.zeros(0, NUM_ARGUMENTS), ())
    return Plan(torch.cat(images), torch.cat(arguments), tuple(segments))


def autoaugment(image_NCHW: Tensor, plan: Plan) -> Tensor:
    """Apply a plan to uint8 images; writes in ``image_NCHW`` and returns it."""
    image_M = plan.image_M.to(image_NCHW.device, non_blocking=True)
    argument_MA = plan.argument_MA.to(image_NCHW.device, non_blocking=True)
    for kind, start, stop in plan.segments:
        member_G = image_M[start:stop]
        changed = KINDS[kind](image_NCHW[member_G], argument_MA[start:stop])
        image_NCHW[member_G] = changed
    return image_NCHW
