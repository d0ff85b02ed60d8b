"""What lies between lesion and lens: hair, a surgeon's pen mark, dark corners of the instrument.

All take linear RGB (H, W, C) and return a new array; coordinates have the unit shorter side and
the origin in the middle of the frame.
"""

import math

import numpy as np

from trainables.data.synthetic_draws import arcs

_HAIR_LENGTH, _HAIR_WIDTH = (0.4, 1.1), (0.006, 0.013)
_INK_TRANSMISSION_C = np.array([0.42, 0.33, 0.72])  # gentian violet


def add_hair(
    linear: np.ndarray, x_HW: np.ndarray, y_HW: np.ndarray, cover: float, rng: np.random.Generator
) -> np.ndarray:
    """Lay hairs over the image until they cover about the share ``cover`` of it."""
    aspect = x_HW.shape[1] / x_HW.shape[0]
    one = sum(_HAIR_LENGTH) / 2 * sum(_HAIR_WIDTH) / 2 * 0.8  # a fifth falls outside the frame
    count = max(1, round(cover * aspect / one))
    colour_C = np.array([0.030, 0.016, 0.010]) * math.exp(rng.normal(0, 0.5))
    main = rng.uniform(0, math.pi)
    arc = np.column_stack(
        [
            rng.uniform(-0.5 * aspect, 0.5 * aspect, count),
            rng.uniform(-0.5, 0.5, count),
            main + rng.normal(0, 0.45, count),
            rng.uniform(*_HAIR_LENGTH, count),
            rng.normal(0, 0.35, count),
        ]
    )
    opacity = arcs(x_HW, y_HW, arc, rng.uniform(*_HAIR_WIDTH, count))[..., None] * 0.92
    return np.asarray(linear * (1 - opacity) + np.minimum(linear, colour_C) * opacity)


def add_pen(
    linear: np.ndarray, x_HW: np.ndarray, y_HW: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw one or two pen arcs round a lesion of ``radius``, inside the frame."""
    ring = min(1.3 * radius + 0.04, 0.46)
    ink = np.zeros_like(x_HW)
    distance = np.hypot(x_HW, y_HW)
    angle = np.arctan2(y_HW, x_HW)
    pixel = float(x_HW[0, 1] - x_HW[0, 0])
    band = np.clip((0.014 - np.abs(distance - ring)) / pixel + 0.5, 0, 1)
    for _ in range(int(rng.integers(1, 3))):
        middle, half = rng.uniform(-math.pi, math.pi), rng.uniform(0.35, 0.9)
        apart = np.abs((angle - middle + math.pi) % (2 * math.pi) - math.pi)
        ink = np.maximum(ink, band * (apart < half))
    return np.asarray(linear * (1 - ink[..., None] * (1 - _INK_TRANSMISSION_C)))


def add_vignette(
    linear: np.ndarray, x_HW: np.ndarray, y_HW: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Darken everything outside a circle that leaves out at least two corners of the frame."""
    corner = math.hypot(x_HW.shape[1] / x_HW.shape[0], 1) / 2
    shift_x, shift_y = rng.normal(0, 0.02, 2)
    ring = corner * rng.uniform(0.72, 0.9)
    soft = rng.uniform(0.008, 0.03)
    outside = np.clip((np.hypot(x_HW - shift_x, y_HW - shift_y) - ring) / soft, -30, 30)
    light = 0.015 + 0.985 / (1 + np.exp(outside))
    return np.asarray(linear * light[..., None])
