"""A lesion: a smooth asymmetric outline, structures by class, and its CIELAB offset from the skin.

A lesion is a function of its own coordinates (unit: the image's shorter side, origin: its centre),
so a second photograph shows the same lesion turned, shifted and scaled. It knows nothing of tone.

Shape legend: H height, W width, C = 3 (L*, a*, b*), K harmonics.
"""

import math
from dataclasses import dataclass

import numpy as np

from trainables.data.synthetic_classes import CLASSES
from trainables.data.synthetic_draws import Purpose, lattice_noise, stream
from trainables.data.synthetic_structures import structure_weight

HARMONICS_K = np.arange(2, 9)
_AREA_LIMITS = (0.04, 0.64)  # 5 and 95 % of real lesions
_DL_LIMITS = (-38.0, -2.0)
# Spread of one class's lesions round its medians (area and spreads: of the logarithm).
_AREA_SD, _OFFSET_SD_C, _COMPACTNESS_SD, _SPREAD_SD = 0.55, (6.0, 3.5, 4.0), 0.35, 0.2
_WOBBLE = 0.12  # s.d. of the border's small-scale displacement, of the radius


@dataclass(frozen=True)
class Outline:
    """A closed curve r(angle) = radius * (1 + Re sum_k harmonic_k exp(i k angle))."""

    radius: float
    harmonic_K: np.ndarray  # complex

    def excess(self, x_HW: np.ndarray, y_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the centre and, in the same direction, that of the curve, both (H, W)."""
        distance = np.hypot(x_HW, y_HW) + 1e-12
        turn = (x_HW + 1j * y_HW) / distance
        # Horner's rule in exp(i angle): no trigonometric function a pixel.
        total = np.zeros_like(turn)
        for harmonic in self.harmonic_K[::-1]:
            total = (total + harmonic) * turn
        return distance, self.radius * (1 + (total * turn).real)


def draw_outline(seed: int, patient: int, label: str, aspect: float) -> Outline:
    """Outline with the area and compactness drawn for the patient round the class medians.

    With amplitudes a_k: area = pi r^2 (1 + sum a^2 / 2) exactly, and to second order
    perimeter^2 / (4 pi area) = 1 + sum (k^2 - 1) a_k^2 / 2.
    """
    lesion = CLASSES[label]
    rng = stream(seed, Purpose.OUTLINE, patient)
    z_area, z_compact = rng.standard_normal(2)
    size_K = np.abs(rng.standard_normal(len(HARMONICS_K))) / HARMONICS_K**1.4
    phase_K = rng.uniform(0, 2 * math.pi, len(HARMONICS_K))
    bend = (lesion.compactness - 1) * math.exp(_COMPACTNESS_SD * z_compact)
    size_K *= math.sqrt(2 * bend / float(np.sum((HARMONICS_K**2 - 1) * size_K**2)))
    size_K *= min(1.0, 0.75 / float(size_K.sum()))  # the curve must not cross its centre
    area = float(np.clip(lesion.area * math.exp(_AREA_SD * z_area), *_AREA_LIMITS)) * aspect
    radius = math.sqrt(area / (math.pi * (1 + float(np.sum(size_K**2)) / 2)))
    return Outline(radius, size_K * np.exp(1j * phase_K))


def lesion_fields(
    seed: int, patient: int, label: str, outline: Outline, x_HW: np.ndarray, y_HW: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mask (H, W), bool, and offset from the skin (H, W, C) in CIELAB.

    Mean offset inside minus outside the mask is the one drawn for the lesion, and the s.d. of L*
    and b* inside come out as drawn wherever border and structures alone do not exceed them.
    """
    lesion = CLASSES[label]
    rng = stream(seed, Purpose.TEXTURE, patient)
    z_C, z_spread = rng.standard_normal(3), rng.standard_normal(2)
    coarse, fine = rng.standard_normal((2, 16, 16, 4))
    target_C = np.array(lesion.offset) + np.array(_OFFSET_SD_C) * z_C
    target_C[0] = np.clip(target_C[0], *_DL_LIMITS)

    radius = outline.radius
    distance, border = outline.excess(x_HW, y_HW)
    mask = distance < border
    coarse_HWC = lattice_noise(x_HW / (0.45 * radius), y_HW / (0.45 * radius), coarse)
    # The finer lattice is turned against the coarse one, which hides both.
    fine_HWC = lattice_noise(
        (0.8 * x_HW - 0.6 * y_HW) / 0.035, (0.6 * x_HW + 0.8 * y_HW) / 0.035, fine
    )
    wobble = radius * _WOBBLE * (coarse_HWC[..., 3] + 0.5 * fine_HWC[..., 3])
    # Sharper on one side than on the other, as real borders are.
    soft = lesion.softness * np.exp(0.4 * coarse_HWC[..., 2])
    soft *= min(1.0, radius / 0.2)
    alpha = 1 / (1 + np.exp(np.clip((distance - border + wobble) / soft, -30, 30)))

    offset = alpha[..., None] * target_C
    for number, cue in enumerate(lesion.cues):
        cue_rng = stream(seed, Purpose.STRUCTURE, patient, number)
        if cue_rng.random() < cue.share:
            weight = alpha * structure_weight(cue, cue_rng, x_HW, y_HW, distance / border, radius)
            offset += weight[..., None] * np.array(cue.offset)
    if not mask.any() or mask.all():
        return mask, offset
    offset = _recentred(offset, alpha, mask, target_C)
    spread = np.array([lesion.spread_l, lesion.spread_b]) * np.exp(_SPREAD_SD * z_spread)
    noise_HWC = coarse_HWC[..., :2] + 0.8 * fine_HWC[..., :2]
    for channel, target, noise in ((0, spread[0], 0), (2, spread[1], 1)):
        texture = noise_HWC[..., noise] * alpha
        inside = texture[mask]
        missing = max(target**2 - float(offset[..., channel][mask].var()), (0.3 * target) ** 2)
        scaled = texture * math.sqrt(missing / (float(inside.var()) + 1e-12))
        offset[..., channel] += scaled
        offset[..., 1] += (0.25 if channel == 2 else -0.1) * scaled
    return mask, _recentred(offset, alpha, mask, target_C)


def _recentred(
    offset: np.ndarray, alpha: np.ndarray, mask: np.ndarray, target_C: np.ndarray
) -> np.ndarray:
    """Shift the lesion, by ``alpha``, so that mean inside minus mean outside is the target."""
    # Mean inside minus mean outside is one weighted sum, without copies of the two parts.
    inside = np.count_nonzero(mask)
    contrast = np.where(mask, 1 / inside, -1 / (mask.size - inside)).ravel()
    now_C = contrast @ offset.reshape(-1, 3)
    gain = max(float(contrast @ alpha.ravel()), 0.2)
    return offset + alpha[..., None] * ((target_C - now_C) / gain)
