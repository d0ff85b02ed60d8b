"""Decoded images darkened by melanin's optical density, kept beside the array they come from.

Beer-Lambert on linear sRGB, for each colour channel c of a darkened image:

    I'_c = I_c exp(-dM e_c),  e = (.32, .52, .80) for R, G, B,

which is 10^(-dM e_c / ln 10). e is that of the synthetic data set, fitted to photographs of skin;
its ratios are near those of melanin's absorption, proportional to wavelength^-3.33 (Jacques 2013,
Physics in Medicine and Biology 58:R37), at about 610, 530 and 465 nm. The whole image darkens, the
lesion, hair and ruler included: differences in optical density are kept, and nothing else of
darker skin is imitated.

Shape legend: N images, H height, W width, C = 3 colour channels, V = 256 values of a channel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from trainables.data.array_file import open_array, write_array
from trainables.data.cache_folder import cache_failure, require_space
from trainables.data.synthetic_colour import (
    MELANIN_DENSITY_C,
    linear_from_srgb,
    srgb_from_linear,
)
from trainables.errors import UserError

VERSION = 1
"""Part of the cache key and of the data fingerprint: raise it when any pixel changes."""
BLOCK = 256  # images held in memory


def darkened_array(
    images_NHWC: np.ndarray, content: str, density_N: np.ndarray, *, cache_dir: Path
) -> tuple[np.ndarray, str]:
    """The images with some of them darkened, from the cache where it has them.

    Args:
        images_NHWC: uint8, as decoded.
        content: their content digest.
        density_N: dM of each image; 0 leaves every pixel as it is.
        cache_dir: folder of the array cache; the darkened array is as large as the first one.

    Returns:
        (read-only memory map NHWC of uint8, its content digest).

    Raises:
        UserError: the cache cannot be written.
    """
    density = {int(row): float(density_N[row]) for row in np.flatnonzero(density_N)}
    identity = ["darken", VERSION, content, sorted(density.items())]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    path = cache_dir / "arrays" / f"{key}.npy"
    try:
        array = open_array(path, images_NHWC.shape)
        if array is None:
            require_space(cache_dir, images_NHWC.shape)
            write_array(path, images_NHWC.shape, _blocks(images_NHWC, density))
            array = open_array(path, images_NHWC.shape)
    except OSError as error:
        raise cache_failure(cache_dir, error) from error
    if array is None:
        raise UserError(f"the image cache {path} is damaged right after writing: check the disk")
    return array, key


def new_values(density: float) -> np.ndarray:
    """The new value (C, V) uint8 of each channel and old value."""
    linear_V = linear_from_srgb(np.arange(256) / 255)
    linear_CV = linear_V * np.exp(-density * MELANIN_DENSITY_C)[:, None]
    return np.rint(srgb_from_linear(linear_CV) * 255).astype(np.uint8)


def _blocks(images_NHWC: np.ndarray, density: Mapping[int, float]) -> Iterator[np.ndarray]:
    for start in range(0, len(images_NHWC), BLOCK):
        block_NHWC = np.array(images_NHWC[start : start + BLOCK])
        for row, image_HWC in enumerate(block_NHWC, start):
            if row in density:
                for channel, value_V in enumerate(new_values(density[row])):
                    image_HWC[..., channel] = value_V[image_HWC[..., channel]]
        yield block_NHWC
