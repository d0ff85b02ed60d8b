"""Colour spaces and melanin for the synthetic images, in float64.

float64 and not float32: last-bit differences between CPUs then practically never cross a rounding
step of the 8-bit image, so the pixels (and the data fingerprint) agree between machines.

Shape legend: ... any leading axes, C = 3 colour channels, last.
"""

import numpy as np

# Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1); the white point is the sum of each row.
_XYZ_FROM_RGB_CC = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE_C = _XYZ_FROM_RGB_CC.sum(axis=1)
_FROM_RGB_CC = (_XYZ_FROM_RGB_CC / _WHITE_C[:, None]).T.copy()
_TO_RGB_CC = np.linalg.inv(_FROM_RGB_CC)
_KNEE = 6 / 29  # of the CIE 1976 L*a*b* cube root

MELANIN_DENSITY_C = np.array([0.32, 0.52, 0.80])
"""Optical density of melanin in linear R, G, B for one unit of dM."""

TONES = ("I", "II", "III", "IV", "V", "VI")
TONE_MELANIN = (0.0, 0.3, 0.7, 1.2, 1.8, 2.6)
"""dM of the skin types I to VI: skin L* 68 / 64 / 59 / 54 / 48 / 41."""


def linear_from_srgb(srgb: np.ndarray) -> np.ndarray:
    """Undo the sRGB transfer curve; both sides in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    """Apply the sRGB transfer curve; values outside [0, 1] are clipped first."""
    clipped = np.clip(linear, 0.0, 1.0)
    curve = 1.055 * clipped ** (1 / 2.4) - 0.055
    return np.where(clipped <= 0.0031308, 12.92 * clipped, curve)


def lab_from_linear(linear: np.ndarray) -> np.ndarray:
    """Linear RGB (..., C) in [0, 1] to CIELAB (..., C) under D65: L* in [0, 100]."""
    xyz = linear @ _FROM_RGB_CC
    root = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def linear_from_lab(lab: np.ndarray) -> np.ndarray:
    """CIELAB (..., C) under D65 to linear RGB (..., C); out of gamut falls outside [0, 1]."""
    root = np.empty_like(lab)
    root[..., 1] = (lab[..., 0] + 16) / 116
    root[..., 0] = root[..., 1] + lab[..., 1] / 500
    root[..., 2] = root[..., 1] - lab[..., 2] / 200
    xyz = np.where(root > _KNEE, root * root * root, 3 * _KNEE**2 * (root - 4 / 29))
    return xyz @ _TO_RGB_CC


def melanin_transmission(tone: int) -> np.ndarray:
    """Factor (C,) on linear RGB that skin of type ``tone`` (1 to 6) has against type I."""
    return np.exp(-TONE_MELANIN[tone - 1] * MELANIN_DENSITY_C)
