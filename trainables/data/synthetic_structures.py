"""Structures inside a lesion: network, globules, blotches, a pale centre, vessels.

Shape legend: H height, W width.
"""

import math

import numpy as np

from trainables.data.synthetic_classes import Cue
from trainables.data.synthetic_draws import arcs, lattice_noise


def structure_weight(
    cue: Cue,
    rng: np.random.Generator,
    x_HW: np.ndarray,
    y_HW: np.ndarray,
    depth_HW: np.ndarray,
    radius: float,
) -> np.ndarray:
    """Weight (H, W) in [0, 1] of one structure.

    Args:
        cue: which structure, and its sizes in radii of the lesion.
        rng: the structure's own stream.
        x_HW: lesion coordinate in shorter sides.
        y_HW: likewise, across.
        depth_HW: 0 at the lesion's centre, 1 at its border.
        radius: of the lesion, in shorter sides.
    """
    x, y = x_HW / radius, y_HW / radius
    if cue.shape == "centre":
        return np.asarray(np.exp(-((depth_HW / 0.5) ** 2)))
    if cue.shape == "network":
        return _network(rng, x_HW, y_HW)
    if cue.shape == "blotch":
        angle = rng.uniform(0, 2 * math.pi)
        lean = x * math.cos(angle) + y * math.sin(angle)
        patch = lattice_noise(x / 0.6, y / 0.6, rng.standard_normal((8, 8, 1)))[..., 0]
        return np.asarray(1 / (1 + np.exp(-np.clip((lean + 0.7 * patch - 0.35) / 0.12, -30, 30))))
    if cue.shape == "vessels":
        count = cue.count
        arc = np.empty((count, 5))
        place = rng.uniform(0, 2 * math.pi, count)
        arc[:, 0] = 0.6 * np.cos(place)
        arc[:, 1] = 0.6 * np.sin(place)
        arc[:, 2] = place + rng.normal(0, 0.6, count)  # from the border inwards
        arc[:, 3] = rng.uniform(0.4, 1.0, count)
        arc[:, 4] = rng.normal(0, 0.6, count)
        return arcs(x, y, arc, np.full(count, 2 * cue.radius) * rng.uniform(0.6, 1.3, count))
    return _globules(cue, rng, x, y)


def _network(rng: np.random.Generator, x_HW: np.ndarray, y_HW: np.ndarray) -> np.ndarray:
    """Honeycomb of dark lines: holes are the maxima of three plane waves at 60 degrees."""
    period, turn = rng.uniform(0.055, 0.085), rng.uniform(0, math.pi)
    bend = lattice_noise(x_HW / 0.15, y_HW / 0.15, rng.standard_normal((16, 16, 2)))
    x, y = x_HW + 0.25 * period * bend[..., 0], y_HW + 0.25 * period * bend[..., 1]
    total = np.zeros_like(x_HW)
    for step in range(3):
        angle = turn + step * math.pi / 3
        total += np.cos(2 * math.pi / period * (x * math.cos(angle) + y * math.sin(angle)))
    return np.asarray(np.clip(0.6 - 0.5 * total, 0.0, 1.0))


def _globules(cue: Cue, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Round spots, unevenly placed between the two depths of ``cue.band``."""
    place = rng.uniform(0, 2 * math.pi, cue.count)
    low, high = cue.band
    depth = np.sqrt(rng.uniform(low**2, high**2, cue.count))
    size = cue.radius * rng.uniform(0.6, 1.5, cue.count)
    total = np.zeros_like(x)
    for angle, far, spot in zip(place, depth, size, strict=True):
        near = (x - far * math.cos(angle)) ** 2 + (y - far * math.sin(angle)) ** 2
        np.maximum(total, 1 - near / (2 * spot * spot), out=total)
    return total
