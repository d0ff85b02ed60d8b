"""Random streams: one generator a (seed, purpose, patient, view), so no draw moves another.

Changing the number of images, a rate or the tone leaves every other image's draws as they were;
a purpose with a varying number of draws (hair) cannot shift the next one.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; the numbers are part of the pixels, so they never change."""

    PATIENT = 0
    VIEW_FLAGS = 1
    SKIN = 2
    OUTLINE = 3
    STRUCTURE = 4
    TEXTURE = 5
    CAMERA = 6
    HAIR = 7
    VIGNETTE = 8
    PEN = 9
    SENSOR_NOISE = 10


def stream(seed: int, purpose: Purpose, *index: int) -> np.random.Generator:
    """The generator of one purpose; ``index`` is the patient, then the view where it matters."""
    entropy = np.random.SeedSequence((seed, int(purpose), *index))
    return np.random.Generator(np.random.Philox(entropy))


def lattice_noise(x_HW: np.ndarray, y_HW: np.ndarray, table_KKC: np.ndarray) -> np.ndarray:
    """Smooth noise (H, W, C) that is a function of the place: a table interpolated by smoothstep.

    Being a function of lesion coordinates, it turns and scales with the lesion when the same
    lesion is photographed again. One unit of ``x`` and ``y`` is one cell; the table (K, K, C)
    repeats. Values have mean 0 and s.d. of about 0.7 for a standard normal table.
    """
    size, _, channels = table_KKC.shape
    column, row = np.floor(x_HW), np.floor(y_HW)
    u, v = x_HW - column, y_HW - row
    u *= u * (3 - 2 * u)
    v *= v * (3 - 2 * v)
    j, i = column.astype(np.int64) % size, row.astype(np.int64) % size * size
    right, below = (j + 1) % size, (i + size) % (size * size)
    corners = (i + j, i + right, below + j, below + right)
    uv = u * v
    weights = (1 - u - v + uv, u - uv, v - uv, uv)
    noise_HWC = np.empty((*x_HW.shape, channels))
    for channel in range(channels):
        flat = table_KKC[..., channel].ravel()
        noise_HWC[..., channel] = sum(
            weight * np.take(flat, corner) for weight, corner in zip(weights, corners, strict=True)
        )
    return noise_HWC


def arcs(
    x_HW: np.ndarray, y_HW: np.ndarray, arc_A5: np.ndarray, width_A: np.ndarray
) -> np.ndarray:
    """Opacity (H, W) in [0, 1] of A thin bent lines, each pixel covered by its share.

    Args:
        x_HW: column coordinate; one pixel is the difference of neighbours.
        y_HW: row coordinate in the same unit.
        arc_A5: centre x, centre y, angle (radians), length, curvature (1 / unit).
        width_A: full width of each line in the same unit.
    """
    if len(arc_A5) == 0:
        return np.zeros_like(x_HW)
    pixel = float(np.hypot(x_HW[0, 1] - x_HW[0, 0], y_HW[0, 1] - y_HW[0, 0]))
    centre_x, centre_y, angle, length, bend = (arc_A5[:, k, None, None] for k in range(5))
    width = width_A[:, None, None]
    dx, dy = x_HW - centre_x, y_HW - centre_y
    along = dx * np.cos(angle) + dy * np.sin(angle)
    slope = 2 * bend * along
    across = np.abs(dy * np.cos(angle) - dx * np.sin(angle) - bend * along * along)
    distance = across / np.sqrt(1 + slope * slope)
    # A line thinner than a pixel covers it only in part: opacity is width / pixel at most.
    cover = np.clip((width / 2 - distance) / pixel + 0.5, 0.0, np.minimum(width / pixel, 1.0))
    ends = np.clip((length / 2 - np.abs(along)) / pixel + 0.5, 0.0, 1.0)
    return np.asarray((cover * ends).max(axis=0))
