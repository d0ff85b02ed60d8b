"""Random augmentation of a batch of images on the device that holds them, without a host sync.

Order: crop, flips, affine, brightness and saturation, AutoAugment, scale to [0, 1], normalise,
cutout. All randomness is a block of uniforms an image, drawn on the CPU by ``draw``; the rest is a
pure function of it, image by image, so neither the batch size nor the order of batches changes an
image's result. Pixels take integer values in [0, 255] after each step, as in torchvision.

Shape legend: N images, H height, W width, C colour channels, S side of the output, K uniforms an
image, P parameters an image, G members of a group of images.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.data.autoaugment import autoaugment, blend, grey, plan, warp
from trainables.errors import UserError
from trainables.specs import Spec

Channels = tuple[float, float, float]

# The column of each random number. New ones go to the end, into the spare columns, so that no
# existing number moves.
COLUMNS = (
    *("crop_row", "crop_column", "horizontal_flip", "vertical_flip"),
    *("degrees", "scale", "shear", "interpolation"),
    *("jitter_order", "brightness", "saturation"),
    *("policy", "apply_first", "apply_second", "sign_first", "sign_second"),
    *("cutout_row", "cutout_column"),
)
NUM_UNIFORMS = 24
MODES = ("nearest", "bilinear", "bicubic")
NORMALISATIONS: dict[str, tuple[Channels, Channels]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Augment(Spec):
    """Which augmentations are on and how strong; the defaults are flips only."""

    crop: bool = Field(
        default=False, description="random crop of the cached image, else its centre"
    )
    horizontal_flip: float = Field(default=0.5, ge=0, le=1, description="probability")
    vertical_flip: float = Field(default=0.5, ge=0, le=1, description="probability")
    degrees: float = Field(default=0.0, ge=0, le=180, description="rotation uniform in +-degrees")
    scale: tuple[float, float] = Field(default=(1.0, 1.0), description="range of the zoom factor")
    shear: float = Field(
        default=0.0, ge=0, lt=90, description="degrees, uniform in +-shear, x axis only"
    )
    interpolation: Literal["bilinear", "mixed"] = Field(
        default="bilinear", description="mixed: nearest, bilinear or bicubic, drawn for each image"
    )
    brightness: float = Field(
        default=0.0, ge=0, description="factor uniform in [1-b, 1+b], at least 0"
    )
    saturation: float = Field(
        default=0.0, ge=0, description="factor uniform in [1-s, 1+s], at least 0"
    )
    autoaugment: Literal["none", "imagenet"] = "none"
    cutout: int = Field(default=0, ge=0, description="pixels, side of one square hole")

    @model_validator(mode="after")
    def _check_scale(self) -> Augment:
        low, high = self.scale
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"scale must be two numbers 0 < low <= high but got {self.scale}")
        return self

    @property
    def warps(self) -> bool:
        """Whether pixels are resampled at all."""
        return self.degrees > 0 or self.shear > 0 or self.scale != (1.0, 1.0)


PAPER = Augment(
    crop=True,
    degrees=180,
    scale=(0.8, 1.2),
    shear=10,
    interpolation="mixed",
    brightness=32 / 255,
    saturation=0.5,
    autoaugment="imagenet",
    cutout=16,
)


@dataclass(frozen=True)
class AugmentDraws:
    """Uniforms in [0, 1), float32 on the CPU, a row an image; ``draws[start:stop]`` is a batch."""

    uniform_NK: Tensor
    packed_NP: Tensor | None = None
    """What follows from them, on the device of the images, if it was ``prepared``."""

    def __len__(self) -> int:
        return len(self.uniform_NK)

    def __getitem__(self, rows: slice) -> AugmentDraws:
        packed = None if self.packed_NP is None else self.packed_NP[rows]
        return AugmentDraws(self.uniform_NK[rows], packed)

    def prepared(
        self, augment: Augment, cached: tuple[int, ...], image_size: int, device: torch.device
    ) -> AugmentDraws:
        """The same for ``apply_train`` with this ``augment``, of images of ``cached`` height and
        width: all images' parameters are computed and moved at once instead of batch by batch.
        """
        margin = (cached[0] - image_size, cached[1] - image_size)
        packed = _parameters(augment, self, margin, image_size)
        return AugmentDraws(self.uniform_NK, packed.to(device, non_blocking=True))

    def column(self, name: str) -> Tensor:
        """One number an image, float64 so that what follows from it is not rounded twice."""
        return self.uniform_NK[:, COLUMNS.index(name)].double()


def draw(augment: Augment, num_images: int, generator: torch.Generator) -> AugmentDraws:
    """Draw the random numbers of ``num_images`` images for one epoch.

    ``augment`` does not enter: arms that differ in their augmentation, or in nothing but the
    criterion, see the same numbers. The first k rows do not depend on ``num_images``.
    """
    del augment
    return AugmentDraws(torch.rand(num_images, NUM_UNIFORMS, generator=generator))


def normalisation(name: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation per channel of images scaled to [0, 1].

    Raises:
        UserError: a name other than ``none`` and ``imagenet``.
    """
    if name not in NORMALISATIONS:
        near = difflib.get_close_matches(name, NORMALISATIONS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(NORMALISATIONS)})"
        raise UserError(f"unknown normalisation {name!r}{hint}")
    return NORMALISATIONS[name]


def _between(uniform_N: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform_N


def _one_of(uniform_N: Tensor, count: int) -> Tensor:
    """An integer in 0 .. count - 1."""
    return (uniform_N * count).floor().clamp_(max=count - 1)


def _parameters(
    augment: Augment, draws: AugmentDraws, margin: tuple[int, int], side: int
) -> Tensor:
    """What is done to each image: float32 (N, P) on the CPU, in the order of ``apply_train``."""
    column = draws.column
    if augment.crop:
        row, left = (
            _one_of(column(n), m + 1)
            for n, m in zip(("crop_row", "crop_column"), margin, strict=True)
        )
    else:
        row, left = (torch.full_like(column("crop_row"), round(m / 2)) for m in margin)
    angle = torch.deg2rad(_between(column("degrees"), -augment.degrees, augment.degrees))
    tan = torch.deg2rad(_between(column("shear"), -augment.shear, augment.shear)).tan()
    scale = _between(column("scale"), *augment.scale)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Inverse of rotation(angle) * scale * [[1, -tan(shear)], [0, 1]], torchvision's RandomAffine.
    theta = (
        (cos - sin * tan) / scale,
        (cos * tan + sin) / scale,
        zero,
        -sin / scale,
        cos / scale,
        zero,
    )
    brightness, saturation = (
        _between(column(name), max(0.0, 1 - width), 1 + width)
        for name, width in (("brightness", augment.brightness), ("saturation", augment.saturation))
    )
    first = column("jitter_order") < 0.5  # brightness before saturation, otherwise after it
    one = torch.ones_like(brightness)
    parameters = (
        row,
        left,
        column("vertical_flip") < augment.vertical_flip,
        column("horizontal_flip") < augment.horizontal_flip,
        *theta,
        torch.where(first, brightness, one),
        saturation,
        1 - saturation,
        torch.where(first, one, brightness),
        _one_of(column("cutout_row"), side) - augment.cutout // 2,
        _one_of(column("cutout_column"), side) - augment.cutout // 2,
    )
    return torch.stack([value.float() for value in parameters], dim=1)


def _positions(start_N: Tensor, flip_N: Tensor, side: int) -> Tensor:
    """Which of the cached image's rows (or columns) each of the output's is: int64 (N, S)."""
    step_S = torch.arange(side, device=start_N.device)
    step_NS = torch.where(flip_N[:, None] > 0, step_S.flip(0), step_S)
    return start_N[:, None].long() + step_NS


def _warp_mixed(image_NCHW: Tensor, theta_N6: Tensor, mode_N: Tensor) -> Tensor:
    """``warp`` with one of ``MODES`` for each image; ``mode_N`` is on the CPU."""
    order_N = mode_N.argsort(stable=True).to(image_NCHW.device, non_blocking=True)
    sizes = torch.bincount(mode_N, minlength=len(MODES)).tolist()
    out = torch.empty_like(image_NCHW)
    for mode, member_G in zip(MODES, order_N.split(sizes), strict=True):
        if len(member_G):
            out[member_G] = warp(image_NCHW[member_G], theta_N6[member_G], mode)
    return out


def _hole(row_N: Tensor, column_N: Tensor, cutout: int, side: int) -> Tensor:
    """Pixels inside the hole: bool (N, 1, S, S)."""
    step_S = torch.arange(side, device=row_N.device)
    inside_row, inside_column = (
        (step_S >= start[:, None]) & (step_S < start[:, None] + cutout)
        for start in (row_N, column_N)
    )
    return inside_row[:, None, :, None] & inside_column[:, None, None, :]


def _finish(image_NCHW: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Scale to [0, 1] and normalise; a new float32 tensor unless the input already is float32."""
    image = image_NCHW.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if (tuple(mean), tuple(std)) != NORMALISATIONS["none"]:
        both_23 = _on(image.device, tuple(mean), tuple(std))
        image.sub_(both_23[0, :, None, None]).div_(both_23[1, :, None, None])
    return image


@functools.lru_cache(maxsize=16)
def _on(device: torch.device, mean: Channels, std: Channels) -> Tensor:
    with torch.inference_mode(False):  # training uses it too
        return torch.tensor([mean, std]).to(device)


def _check(image_NHWC: Tensor, image_size: int) -> tuple[int, int]:
    """Rows and columns that the images have more than the output."""
    if image_NHWC.dtype != torch.uint8 or image_NHWC.ndim != 4 or image_NHWC.shape[3] != 3:
        raise ValueError(
            f"images must be uint8 (N, H, W, 3), got {image_NHWC.dtype} {image_NHWC.shape}"
        )
    _, height, width, _ = image_NHWC.shape
    if min(height, width) < image_size:
        raise ValueError(
            f"images of {height} x {width} pixels are smaller than image_size {image_size}"
        )
    return height - image_size, width - image_size


@torch.no_grad()
def apply_train(
    augment: Augment,
    image_uint8_NHWC: Tensor,
    draws: AugmentDraws,
    *,
    image_size: int,
    mean: Channels,
    std: Channels,
) -> Tensor:
    """Augment one batch on the device of ``image_uint8_NHWC``; float32 (N, C, S, S), contiguous.

    Brightness and saturation come in an order drawn for each image. The crop is cut before the
    affine map, so what lies outside it is black, as in torchvision. The hole of cutout is 0 after
    normalisation (DeVries and Taylor 2017): black without one, the mean colour with one.

    Raises:
        ValueError: images that are not uint8 (N, H, W, 3) or too small, draws of other length.
    """
    margin = _check(image_uint8_NHWC, image_size)
    if len(draws) != len(image_uint8_NHWC):
        raise ValueError(f"{len(image_uint8_NHWC)} images but draws for {len(draws)}")
    device = image_uint8_NHWC.device
    packed = draws.packed_NP
    if packed is None:
        packed = _parameters(augment, draws, margin, image_size).to(device, non_blocking=True)
    row, left, flip_rows, flip_columns = packed[:, :4].unbind(1)
    theta_N6 = packed[:, 4:10]
    brightness_before, saturation, rest, brightness_after, hole_row, hole_column = packed[
        :, 10:
    ].unbind(1)

    image_N = torch.arange(len(draws), device=device)[:, None, None]
    row_NS = _positions(row, flip_rows, image_size)
    column_NS = _positions(left, flip_columns, image_size)
    image = image_uint8_NHWC[image_N, row_NS[:, :, None], column_NS[:, None, :]]
    image = image.permute(0, 3, 1, 2).contiguous()
    if augment.warps:
        image = image.float()
        if augment.interpolation == "mixed":
            mode_N = _one_of(draws.column("interpolation"), len(MODES)).long()
            image = _warp_mixed(image, theta_N6, mode_N).round_().clamp_(0, 255)
        else:
            image = warp(image, theta_N6, "bilinear").round_()
    if augment.brightness or augment.saturation:
        image = image.float()
        for factor_N in (brightness_before, None, brightness_after):
            if factor_N is None and augment.saturation:
                image = blend(image, grey(image), saturation, rest)
            elif factor_N is not None and augment.brightness:
                image = image.mul_(factor_N[:, None, None, None]).clamp_(0, 255).floor_()
    if augment.autoaugment == "imagenet":
        names = ("policy", "apply_first", "apply_second", "sign_first", "sign_second")
        uniform_N5 = torch.stack([draws.column(name) for name in names], dim=1)
        image = autoaugment(image.to(torch.uint8), plan(uniform_N5))
    image = _finish(image, mean, std)
    if augment.cutout:
        image.masked_fill_(_hole(hole_row, hole_column, augment.cutout, image_size), 0.0)
    return image


@torch.no_grad()
def apply_eval(
    image_uint8_NHWC: Tensor, *, image_size: int, mean: Channels, std: Channels
) -> Tensor:
    """Centre crop, scale to [0, 1], normalise; float32 (N, C, S, S), contiguous.

    Raises:
        ValueError: images that are not uint8 (N, H, W, 3) or are too small.
    """
    top, left = (round(margin / 2) for margin in _check(image_uint8_NHWC, image_size))
    crop = image_uint8_NHWC[:, top : top + image_size, left : left + image_size]
    return _finish(crop.permute(0, 3, 1, 2), mean, std)
