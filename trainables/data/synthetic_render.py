"""One synthetic photograph: skin, lesion, melanin, light, artefacts, sensor, in this order.

The tone enters at one place only, between lesion and light, and takes no random number: the
counterfactual of an image differs from it by the melanin alone.

Shape legend: H height, W width, C = 3 colour channels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainables.data.synthetic_artefacts import add_hair, add_pen, add_vignette
from trainables.data.synthetic_colour import (
    TONE_MELANIN,
    linear_from_lab,
    melanin_transmission,
    srgb_from_linear,
)
from trainables.data.synthetic_draws import Purpose, lattice_noise, stream
from trainables.data.synthetic_lesion import draw_outline, lesion_fields

BASE_SKIN_LAB_C = np.array([68.0, 18.0, 8.0])
"""Type I: L* and ITA (66 degrees) as measured; with a* = 18 the other types' L* and ITA follow."""

_PERSON_SD_C = np.array([1.5, 2.5, 1.5])
_MAX_MELANIN = TONE_MELANIN[-1]


@dataclass(frozen=True)
class Photograph:
    """All that the pixels depend on, besides the size."""

    seed: int
    patient: int
    view: int
    label: str  # the true class, not the noisy one
    tone: int  # 1 to 6, the one rendered
    contrast_loss: float = 0.0
    lighting: float = 1.0
    hair: float = 0.0
    vignette: bool = False
    pen: bool = False


def render(photo: Photograph, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Render one photograph.

    Returns:
        uint8 sRGB image (H, W, C) and the lesion's mask (H, W), bool.
    """
    x_HW, y_HW = _frame(height, width)
    camera = stream(photo.seed, Purpose.CAMERA, photo.patient, photo.view)
    shift_x, shift_y = camera.normal(0, 0.04, 2)  # median off-centre .05 of the shorter side
    turn, zoom = camera.uniform(0, 2 * math.pi), math.exp(camera.normal(0, 0.08))
    cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
    dx, dy = x_HW - shift_x, y_HW - shift_y
    u_HW, v_HW = cos * dx + sin * dy, cos * dy - sin * dx

    outline = draw_outline(photo.seed, photo.patient, photo.label, width / height)
    mask, offset = lesion_fields(photo.seed, photo.patient, photo.label, outline, u_HW, v_HW)
    lost = photo.contrast_loss * TONE_MELANIN[photo.tone - 1] / _MAX_MELANIN
    lab = _skin(photo.seed, photo.patient, u_HW, v_HW) + (1 - lost) * offset
    np.maximum(lab[..., 0], 3.0, out=lab[..., 0])
    linear = np.maximum(linear_from_lab(lab), 0.002) * melanin_transmission(photo.tone)
    linear = linear * _light(camera, photo.lighting, x_HW, y_HW)

    key = (photo.patient, photo.view)
    if photo.pen:
        rng = stream(photo.seed, Purpose.PEN, *key)
        linear = add_pen(linear, x_HW - shift_x, y_HW - shift_y, zoom * outline.radius, rng)
    if photo.hair > 0:
        rng = stream(photo.seed, Purpose.HAIR, *key)
        linear = add_hair(linear, x_HW, y_HW, photo.hair, rng)
    if photo.vignette:
        linear = add_vignette(linear, x_HW, y_HW, stream(photo.seed, Purpose.VIGNETTE, *key))
    noise = stream(photo.seed, Purpose.SENSOR_NOISE, *key).normal(0, 0.007, linear.shape)
    srgb = np.clip(srgb_from_linear(linear) + noise, 0.0, 1.0)
    return np.rint(255 * srgb).astype(np.uint8), mask


@lru_cache(maxsize=4)
def _frame(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres; unit: the shorter side, origin: the middle of the frame. Read-only."""
    y_H = (np.arange(height) + 0.5) / height - 0.5
    x_W = (np.arange(width) + 0.5) / height - width / height / 2
    frame = np.meshgrid(x_W, y_H)
    for axis in frame:
        axis.setflags(write=False)
    return frame[0], frame[1]


def _skin(seed: int, patient: int, x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """CIELAB (H, W, C) of the patient's skin as if of type I: colour and texture."""
    rng = stream(seed, Purpose.SKIN, patient)
    lab_C = BASE_SKIN_LAB_C + _PERSON_SD_C * rng.standard_normal(3)
    strength = math.exp(rng.normal(0, 0.3))
    tables = rng.standard_normal((2, 32, 32, 2))
    broad = lattice_noise(x_HW / 0.16, y_HW / 0.16, tables[0])
    grain = lattice_noise(
        (0.8 * x_HW - 0.6 * y_HW) / 0.024, (0.6 * x_HW + 0.8 * y_HW) / 0.024, tables[1]
    )
    texture = strength * (1.2 * broad + 1.2 * grain)
    lab = np.empty((*x_HW.shape, 3))
    lab[..., 0] = lab_C[0] + texture[..., 0]
    lab[..., 1] = lab_C[1] - 0.7 * texture[..., 0] + 0.8 * texture[..., 1]  # darker is redder
    lab[..., 2] = lab_C[2] + 0.6 * texture[..., 1]
    return lab


def _light(
    camera: np.random.Generator, scale: float, x_HW: np.ndarray, y_HW: np.ndarray
) -> np.ndarray:
    """Factor (H, W, C) on linear RGB: exposure, colour cast, fall-off to one side and the rim."""
    exposure, warm, magenta = camera.standard_normal(3)
    lean_x, lean_y = camera.normal(0, 0.08, 2)
    rim = camera.uniform(0.0, 0.35)
    # 0.16 in log light is about 4.5 L*; the casts give about 4 to 5 in b* and a*.
    cast_C = np.array([0.05 * warm + 0.04 * magenta, -0.04 * magenta, -0.11 * warm])
    gain_C = np.exp(scale * (0.16 * exposure + cast_C))
    shade = 1 + scale * (lean_x * x_HW + lean_y * y_HW - rim * (x_HW**2 + y_HW**2))
    return np.asarray(np.maximum(shade, 0.1)[..., None] * gain_C)
