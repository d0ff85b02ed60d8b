"""Augmentation against slicing, torchvision's functions on single images, and closed forms.

Shape legend: N images, H height, W width, C colour channels, S side of the output.
"""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from pydantic import ValidationError
from torch import Tensor
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode

from trainables.data.augment import (
    COLUMNS,
    NUM_UNIFORMS,
    PAPER,
    Augment,
    AugmentDraws,
    apply_eval,
    apply_train,
    draw,
    normalisation,
)
from trainables.data.autoaugment import policy_table, warp
from trainables.errors import UserError

SIDE, WIDE = 24, 33
MEAN, STD = normalisation("none")
STILL = Augment(horizontal_flip=0, vertical_flip=0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(num_images: int, seed: int = 0, width: int = WIDE, height: int = SIDE) -> Tensor:
    """Smooth blobs plus noise, uint8 (N, H, W, C): neighbours are related."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, (num_images, 1, 1, 3))
    x, y = 0.2 * x[None, :, :, None], 0.3 * y[None, :, :, None]
    wave = 120 + 90 * np.sin(x + phase) * np.cos(y - phase)
    return torch.from_numpy(np.clip(wave + rng.normal(0, 12, wave.shape), 0, 255).astype(np.uint8))


def fixed(num_images: int, **columns: float | list[float]) -> AugmentDraws:
    """Draws with chosen values in some columns and .5 in the others."""
    uniform_NK = torch.full((num_images, NUM_UNIFORMS), 0.5)
    for name, value in columns.items():
        uniform_NK[:, COLUMNS.index(name)] = torch.as_tensor(value, dtype=torch.float32)
    return AugmentDraws(uniform_NK)


def train(augment: Augment, image_NHWC: Tensor, draws: AugmentDraws, side: int = SIDE) -> Tensor:
    return apply_train(augment, image_NHWC, draws, image_size=side, mean=MEAN, std=STD)


def levels(image_NCHW: Tensor) -> Tensor:
    """Back to uint8; asserts that the pixels are whole levels."""
    level = image_NCHW * 255
    assert (level - level.round()).abs().max() < 1e-4
    return level.round().to(torch.uint8)


def centre_NCHW(image_NHWC: Tensor, side: int = SIDE) -> Tensor:
    return tvf.center_crop(image_NHWC.permute(0, 3, 1, 2), [side, side]).contiguous()


# ---------------------------------------------------------------- draws


def test_draws_do_not_depend_on_the_augmentation_and_leave_the_generator_in_one_state() -> None:
    first, second = generator(3), generator(3)
    a, b = draw(STILL, 50, first), draw(PAPER, 50, second)
    assert torch.equal(a.uniform_NK, b.uniform_NK)
    assert torch.equal(first.get_state(), second.get_state())
    assert not torch.equal(a.uniform_NK, draw(PAPER, 50, generator(4)).uniform_NK)


def test_first_rows_do_not_depend_on_the_number_of_images() -> None:
    few, many = (draw(PAPER, num_images, generator(0)) for num_images in (7, 31))
    assert torch.equal(few.uniform_NK, many[:7].uniform_NK)


def test_draws_are_pinned() -> None:
    uniform_NK = draw(PAPER, 2, generator(121)).uniform_NK
    torch.testing.assert_close(
        uniform_NK[1, :3], torch.rand(27, generator=generator(121))[24:27], rtol=0, atol=0
    )
    assert uniform_NK.shape == (2, 24)
    assert uniform_NK.dtype == torch.float32
    assert COLUMNS.index("policy") == 11  # a column that moves changes every published run


@pytest.mark.parametrize("seed", [0, 1])
def test_batch_size_changes_no_image(seed: int) -> None:
    image_NHWC, draws = pictures(40, seed), draw(PAPER, 40, generator(seed))
    whole = train(PAPER, image_NHWC, draws)
    parts = [
        train(PAPER, image_NHWC[a:b], draws[a:b]) for a, b in ((0, 1), (1, 8), (8, 23), (23, 40))
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_same_seed_same_pictures_and_the_input_is_not_written() -> None:
    image_NHWC = pictures(16)
    before = image_NHWC.clone()
    a, b = (train(PAPER, image_NHWC, draw(PAPER, 16, generator(5))) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(image_NHWC, before)
    assert (a != train(PAPER, image_NHWC, draw(PAPER, 16, generator(6)))).float().mean() > 0.5


# ---------------------------------------------------------------- crop, flips, evaluation


@pytest.mark.parametrize("name", ["none", "imagenet"])
def test_neutral_values_equal_evaluation_bit_for_bit(name: str) -> None:
    mean, std = normalisation(name)
    image_NHWC, draws = pictures(9), draw(STILL, 9, generator(0))
    got = apply_train(STILL, image_NHWC, draws, image_size=SIDE, mean=mean, std=std)
    expected = apply_eval(image_NHWC, image_size=SIDE, mean=mean, std=std)
    assert torch.equal(got, expected)
    assert got.is_contiguous()
    assert expected.is_contiguous()


@pytest.mark.parametrize(("height", "width"), [(24, 24), (24, 33), (24, 32), (29, 24)])
def test_evaluation_is_centre_crop_and_normalise(height: int, width: int) -> None:
    image_NHWC = pictures(3, width=width, height=height)
    mean, std = normalisation("imagenet")
    expected = tvf.normalize(centre_NCHW(image_NHWC).float() / 255, list(mean), list(std))
    got = apply_eval(image_NHWC, image_size=SIDE, mean=mean, std=std)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    raw = apply_eval(image_NHWC, image_size=SIDE, mean=MEAN, std=STD)
    assert torch.equal(raw, centre_NCHW(image_NHWC).float() / 255)


def test_flips_are_exact_slices() -> None:
    image_NHWC = pictures(4)
    draws = fixed(4, horizontal_flip=[0.1, 0.1, 0.9, 0.9], vertical_flip=[0.1, 0.9, 0.1, 0.9])
    got = train(Augment(), image_NHWC, draws)
    plain = apply_eval(image_NHWC, image_size=SIDE, mean=MEAN, std=STD)
    expected = torch.stack([plain[0].flip(1, 2), plain[1].flip(2), plain[2].flip(1), plain[3]])
    assert torch.equal(got, expected)


def test_flip_rates_match_their_probabilities() -> None:
    draws = draw(PAPER, 4000, generator(0))
    image_NHWC = torch.zeros(4000, 8, 8, 3, dtype=torch.uint8)
    image_NHWC[:, 0, 0] = 255
    augment = Augment(horizontal_flip=0.3, vertical_flip=0.6)
    corner = train(augment, image_NHWC, draws, side=8)[:, 0]
    assert abs(corner[:, :, -1].amax(1).mean() - 0.3) < 3.5 * math.sqrt(0.21 / 4000)
    assert abs(corner[:, -1, :].amax(1).mean() - 0.6) < 3.5 * math.sqrt(0.24 / 4000)


def test_crops_are_exact_slices_and_reach_every_place() -> None:
    augment = Augment(crop=True, horizontal_flip=0, vertical_flip=0)
    margin = WIDE - SIDE
    image_NHWC = pictures(1).expand(margin + 1, -1, -1, -1)
    draws = fixed(margin + 1, crop_column=[(k + 0.5) / (margin + 1) for k in range(margin + 1)])
    got = levels(train(augment, image_NHWC, draws))
    for k in range(margin + 1):
        assert torch.equal(got[k], image_NHWC[k, :, k : k + SIDE].permute(2, 0, 1))
    last = fixed(1, crop_column=1 - 2**-24)  # the largest float32 uniform
    assert torch.equal(levels(train(augment, image_NHWC[:1], last))[0], got[-1])


def test_crop_also_moves_along_a_taller_side() -> None:
    image_NHWC = pictures(1, height=31, width=SIDE)
    got = train(Augment(crop=True), image_NHWC, fixed(1, crop_row=0.999))
    assert torch.equal(levels(got)[0], image_NHWC[0, -SIDE:].permute(2, 0, 1))


# ---------------------------------------------------------------- affine


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_affine_equals_torchvision_on_single_images(mode: str) -> None:
    num_images = 30
    augment = Augment(
        horizontal_flip=0,
        vertical_flip=0,
        degrees=180,
        scale=(0.8, 1.2),
        shear=10,
        interpolation="mixed",
    )
    draws = draw(augment, num_images, generator(1))
    draws.uniform_NK[:, COLUMNS.index("interpolation")] = {"nearest": 0.0, "bilinear": 0.5}[mode]
    image_NHWC = pictures(num_images)
    got = levels(train(augment, image_NHWC, draws)).int()
    crop_NCHW = centre_NCHW(image_NHWC)
    num_different = 0
    for i in range(num_images):
        expected = tvf.affine(
            crop_NCHW[i],
            angle=float(-180 + 360 * draws.column("degrees")[i]),
            translate=[0, 0],
            scale=float(0.8 + 0.4 * draws.column("scale")[i]),
            shear=[float(-10 + 20 * draws.column("shear")[i]), 0.0],
            interpolation=InterpolationMode(mode),
        ).int()
        num_different += int((got[i] != expected).sum())
        if mode == "bilinear":
            assert (got[i] - expected).abs().max() <= 1
    # Coordinates differ by a few ulp: a pixel changes only where a value is about half-way.
    assert num_different <= 2e-3 * got.numel()


def test_quarter_turns_are_exact() -> None:
    image_NHWC = pictures(3)
    # 0, +90 and -90 degrees of +-180; positive turns clockwise in torchvision's affine
    got = train(
        Augment(horizontal_flip=0, vertical_flip=0, degrees=180),
        image_NHWC,
        fixed(3, degrees=[0.5, 0.75, 0.25]),
    )
    plain = centre_NCHW(image_NHWC)
    expected = torch.stack([plain[0], plain[1].rot90(-1, (1, 2)), plain[2].rot90(1, (1, 2))])
    assert torch.equal(levels(got), expected)


def test_outside_of_the_crop_is_black_even_where_the_cached_image_goes_on() -> None:
    white_NHWC = torch.full((1, SIDE, 60, 3), 255, dtype=torch.uint8)
    got = train(Augment(degrees=90), white_NHWC, fixed(1, degrees=0.75))[0]  # 45 degrees
    assert got[:, 0, 0].max() == 0
    assert got[:, SIDE // 2, SIDE // 2].min() == 1
    # The area of a square's intersection with itself turned by 45 degrees: 2 (sqrt 2 - 1) S^2.
    assert float(got.mean()) == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.02)


def test_bicubic_is_the_cubic_convolution_kernel() -> None:
    """Keys 1981 with a = -3/4, summed by hand at shifted positions."""

    def kernel(distance: float, a: float = -0.75) -> float:
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    image = pictures(1).permute(0, 3, 1, 2)[:, :, :, :SIDE].float()
    shift = 0.3  # pixels
    theta = torch.tensor([[1.0, 0, 2 * shift / SIDE, 0, 1, 0]])
    got = warp(image, theta, "bicubic")[0, 1, 10, 5]
    expected = sum(kernel(shift - k) * float(image[0, 1, 10, 5 + k]) for k in range(-2, 4))
    assert float(got) == pytest.approx(expected, abs=0.01)


def test_mixed_interpolation_draws_one_of_three_for_each_image() -> None:
    image_NHWC = pictures(3)
    augment = Augment(horizontal_flip=0, vertical_flip=0, degrees=20, interpolation="mixed")
    draws = fixed(3, degrees=0.9, interpolation=[0.8, 0.1, 0.5])
    got = levels(train(augment, image_NHWC, draws))
    angle = math.radians(-20 + 40 * float(torch.tensor(0.9)))
    theta = torch.tensor(
        [[math.cos(angle), math.sin(angle), 0, -math.sin(angle), math.cos(angle), 0]]
    )
    for i, mode in enumerate(("bicubic", "nearest", "bilinear")):
        expected = (
            warp(centre_NCHW(image_NHWC)[i : i + 1].float(), theta, mode).round().clamp(0, 255)
        )
        assert (got[i].int() - expected[0].int()).abs().max() <= 1
        assert (got[i].int() == expected[0].int()).float().mean() > 0.99


# ---------------------------------------------------------------- colour


def test_brightness_equals_torchvision() -> None:
    augment = Augment(horizontal_flip=0, vertical_flip=0, brightness=32 / 255)
    draws = draw(augment, 20, generator(2))
    image_NHWC = pictures(20)
    got = levels(train(augment, image_NHWC, draws))
    for i, crop in enumerate(centre_NCHW(image_NHWC)):
        factor = 1 - 32 / 255 + 64 / 255 * float(draws.column("brightness")[i])
        assert torch.equal(got[i], tvf.adjust_brightness(crop, factor))


def test_saturation_equals_torchvision() -> None:
    augment = Augment(horizontal_flip=0, vertical_flip=0, saturation=0.5)
    draws = draw(augment, 20, generator(2))
    image_NHWC = pictures(20)
    got = levels(train(augment, image_NHWC, draws))
    for i, crop in enumerate(centre_NCHW(image_NHWC)):
        factor = 0.5 + float(draws.column("saturation")[i])
        assert torch.equal(got[i], tvf.adjust_saturation(crop, factor))


@pytest.mark.parametrize("brightness_first", [True, False])
def test_order_of_the_colour_jitter(brightness_first: bool) -> None:
    image_NHWC = pictures(1, seed=3)
    draws = fixed(
        1, jitter_order=0.2 if brightness_first else 0.7, brightness=0.77, saturation=0.77
    )
    augment = Augment(horizontal_flip=0, vertical_flip=0, brightness=0.5, saturation=0.5)
    factor = 0.5 + float(torch.tensor(0.77))
    crop = centre_NCHW(image_NHWC)[0]
    bright_first = tvf.adjust_saturation(tvf.adjust_brightness(crop, factor), factor)
    bright_last = tvf.adjust_brightness(tvf.adjust_saturation(crop, factor), factor)
    got = levels(train(augment, image_NHWC, draws))[0]
    right, wrong = (bright_first, bright_last) if brightness_first else (bright_last, bright_first)
    assert torch.equal(got, right)
    assert (got == wrong).float().mean() < 0.9


def test_a_grey_picture_keeps_its_colours_under_any_saturation() -> None:
    level = torch.arange(SIDE * SIDE).remainder(256).to(torch.uint8).view(1, SIDE, SIDE, 1)
    image_NHWC = level.expand(50, -1, -1, 3)
    augment = STILL.model_copy(update={"saturation": 0.9})
    got = levels(train(augment, image_NHWC, draw(PAPER, 50, generator(0))))
    # grey = floor(.9999 level) is up to one below, so the blend is up to about one off
    assert (got.int() - level.permute(0, 3, 1, 2).int()).abs().max() <= 1


# ---------------------------------------------------------------- AutoAugment

POLICIES = AutoAugment(AutoAugmentPolicy.IMAGENET)


def test_policy_table_is_pinned() -> None:
    """Four of the 25 rows, so that a torchvision that changes its (private) table is noticed."""
    pinned = {
        0: (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        12: (("Equalize", 0.0, None), ("Equalize", 0.8, None)),
        18: (("ShearX", 0.6, 5), ("Equalize", 1.0, None)),
        24: (("Equalize", 0.8, None), ("Equalize", 0.6, None)),
    }
    assert len(POLICIES._policies) == 25
    for row, steps in pinned.items():
        assert POLICIES._policies[row] == steps
    _, probability_B2, _ = policy_table()
    expected = torch.tensor([[step[1] for step in steps] for steps in POLICIES._policies])
    assert torch.equal(probability_B2, expected)


def by_torchvision(image_CHW: Tensor, policy: int, applied: tuple, signs: tuple) -> Tensor:
    """One sub-policy on one uint8 image by torchvision's functions."""
    for (name, _, level), apply, sign in zip(
        POLICIES._policies[policy], applied, signs, strict=True
    ):
        if not apply:
            continue
        levels_fn, signed = POLICIES._AUGMENTATION_SPACE[name]
        table = levels_fn(10, *image_CHW.shape[-2:])
        magnitude = 0.0 if table is None else float(table[level]) * (sign if signed else 1)
        image_CHW = POLICIES._apply_image_or_video_transform(
            image_CHW, name, magnitude, InterpolationMode.NEAREST, POLICIES._fill
        )
    return image_CHW


def test_autoaugment_equals_torchvision_for_each_policy_sign_and_application() -> None:
    cases = [
        (policy, (first, second), signs)
        for policy in range(25)
        for first in (True, False)
        for second in (True, False)
        for signs in ((1, 1), (-1, 1), (1, -1), (-1, -1))
    ]
    # An operation of probability 0 is never applied, one of probability 1 always.
    cases = [
        case
        for case in cases
        if all(
            0 < probability < 1 or applied == (probability == 1)
            for (_, probability, _), applied in zip(
                POLICIES._policies[case[0]], case[1], strict=True
            )
        )
    ]
    draws = fixed(
        len(cases),
        policy=[(c[0] + 0.5) / 25 for c in cases],
        apply_first=[0.0 if c[1][0] else 0.999 for c in cases],
        apply_second=[0.0 if c[1][1] else 0.999 for c in cases],
        sign_first=[0.9 if c[2][0] > 0 else 0.1 for c in cases],
        sign_second=[0.9 if c[2][1] > 0 else 0.1 for c in cases],
    )
    assert len(cases) > 250
    image_NHWC = pictures(len(cases), seed=7)
    got = levels(train(STILL.model_copy(update={"autoaugment": "imagenet"}), image_NHWC, draws))
    for i, crop in enumerate(centre_NCHW(image_NHWC)):
        assert torch.equal(got[i], by_torchvision(crop, *cases[i])), cases[i]


def test_autoaugment_by_public_functions() -> None:
    """Three sub-policies written out with torchvision's public functions."""
    image_NHWC = pictures(3, seed=1)
    draws = fixed(
        3, policy=[0.02, 17.5 / 25, 7.5 / 25], apply_first=0.0, apply_second=0.0, sign_first=0.9
    )
    draws.uniform_NK[:, COLUMNS.index("sign_second")] = 0.1
    got = levels(train(STILL.model_copy(update={"autoaugment": "imagenet"}), image_NHWC, draws))
    a, b, c = centre_NCHW(image_NHWC)
    assert torch.equal(got[0], tvf.rotate(tvf.posterize(a, 4), -30.0))
    assert torch.equal(got[1], tvf.invert(tvf.adjust_sharpness(b, 1.7)))
    assert torch.equal(got[2], tvf.equalize(tvf.posterize(c, 6)))


def test_operations_are_applied_at_their_probability() -> None:
    num_images = 5000
    level = torch.arange(64, dtype=torch.uint8).view(1, 8, 8, 1).expand(num_images, -1, -1, 3)
    draws = draw(PAPER, num_images, generator(0))
    draws.uniform_NK[:, COLUMNS.index("policy")] = 17.5 / 25  # sharpness .4, invert .6
    got = levels(train(STILL.model_copy(update={"autoaugment": "imagenet"}), level, draws, side=8))
    inverted = (got.float().mean((1, 2, 3)) > 128).float().mean()
    assert abs(float(inverted) - 0.6) < 3.5 * math.sqrt(0.24 / num_images)


# ---------------------------------------------------------------- cutout


def test_cutout_is_one_square_of_the_given_side_clipped_at_the_border() -> None:
    white_NHWC = torch.full((4, 24, 24, 3), 255, dtype=torch.uint8)
    draws = fixed(4, cutout_row=[0.5, 0.0, 0.999, 0.25], cutout_column=[0.5, 0.0, 0.5, 0.75])
    got = train(STILL.model_copy(update={"cutout": 6}), white_NHWC, draws)
    centres = [(12, 12), (0, 0), (23, 12), (6, 18)]
    for i, (row, column) in enumerate(centres):
        expected = torch.ones(3, 24, 24)
        expected[:, max(row - 3, 0) : row + 3, max(column - 3, 0) : column + 3] = 0
        assert torch.equal(got[i], expected)
    assert [int((g == 0).sum()) // 3 for g in got] == [36, 9, 24, 36]


def test_cutout_is_zero_after_normalisation() -> None:
    mean, std = normalisation("imagenet")
    got = apply_train(
        STILL.model_copy(update={"cutout": 4}),
        pictures(1),
        fixed(1),
        image_size=SIDE,
        mean=mean,
        std=std,
    )
    assert torch.equal(got[0, :, 10:14, 10:14], torch.zeros(3, 4, 4))


# ---------------------------------------------------------------- the whole recipe, errors, GPU


def test_paper_recipe_gives_pictures_in_range() -> None:
    got = train(PAPER, pictures(64), draw(PAPER, 64, generator(0)))
    assert got.shape == (64, 3, SIDE, SIDE)
    assert got.dtype == torch.float32
    levels(got)
    assert got.min() >= 0
    assert got.max() <= 1


def test_mistakes_are_refused() -> None:
    with pytest.raises(
        UserError, match="unknown normalisation 'imagnet', did you mean 'imagenet'"
    ):
        normalisation("imagnet")
    for wrong in (
        {"scale": (1.2, 0.8)},
        {"degrees": -1},
        {"horizontal_flip": 1.1},
        {"flip": True},
    ):
        with pytest.raises(ValidationError):
            Augment.model_validate(wrong)
    with pytest.raises(ValueError, match="smaller than image_size 40"):
        apply_eval(pictures(1), image_size=40, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="draws for 3"):
        train(STILL, pictures(2), fixed(3))
    with pytest.raises(ValueError, match="uint8"):
        apply_eval(pictures(1).float(), image_size=SIDE, mean=MEAN, std=STD)


def test_no_value_is_read_back_from_the_device() -> None:
    """On the meta device, which has no values, anything that reads one raises."""
    image_NHWC, draws = pictures(64).to("meta"), draw(PAPER, 64, generator(0))
    with pytest.raises((RuntimeError, NotImplementedError)):
        image_NHWC.float().mean().item()
    mean, std = normalisation("imagenet")
    got = apply_train(PAPER, image_NHWC, draws, image_size=SIDE, mean=mean, std=std)
    assert got.device.type == "meta"
    assert got.shape == (64, 3, SIDE, SIDE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_the_device_without_a_sync_and_alike() -> None:
    image_NHWC, draws = pictures(128), draw(PAPER, 128, generator(0))
    on_device = image_NHWC.cuda()
    train(PAPER, on_device, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = train(PAPER, on_device, draws)
        still = apply_eval(on_device, image_size=SIDE, mean=MEAN, std=STD)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # a GPU divides by 255 as a product with the reciprocal: one unit in the last place
    here = apply_eval(image_NHWC, image_size=SIDE, mean=MEAN, std=STD)
    torch.testing.assert_close(still.cpu(), here, rtol=2e-7, atol=1e-7)
    # Interpolated values half-way between two levels may fall to either side.
    assert (got.cpu() - train(PAPER, image_NHWC, draws)).abs().gt(1e-6).float().mean() < 0.01
