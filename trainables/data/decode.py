"""One image file to one uint8 RGB array of a fixed size.

Shape legend: H height, W width, C colour channels (red, green, blue).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import (
    Image,
    Jpeg2KImagePlugin,  # noqa: F401  # those that Pillow knows before it is told to look for all
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

DECODER_VERSION = 1
"""Part of the cache key and of the data fingerprint: raise it when any pixel changes."""

MAX_PIXELS = 89_478_485
"""Pillow's own limit (256 MiB of RGB): a larger file is taken for a decompression bomb."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow knows more, among them PostScript, which it would hand to Ghostscript to run."""

ORIENTATION_TAG = 0x0112
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class DecodeError(Exception):
    """The bytes are no usable image; the text says why, without the name of the file."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's remarks on odd but readable files (damaged EXIF, many pixels).

    Warning filters belong to the process, not the thread: enter this before starting threads.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def decode_image(data: bytes, height: int, width: int) -> np.ndarray:
    """Decode, turn upright, convert to RGB, resize to cover (height, width), crop the centre.

    EXIF orientation is applied. Greyscale is repeated in the three channels, 16-bit greyscale
    keeps its upper 8 bits, CMYK and palettes are converted, transparent pixels are composited on
    white. Of an animation the first frame is taken. Downscaling is antialiased.

    Returns:
        uint8 array HWC.

    Raises:
        DecodeError: not an image, truncated, of an unsupported mode, or too large.
    """
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format == "PNG":  # decoding alone does not compare the pixels' checksums
                image.verify()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError(_too_large(f"{image.width} x {image.height} pixels"))
            orientation = _orientation(image)
            factor = _cover_factor(image.size, orientation, height, width)
            if image.format == "JPEG" and factor >= 4:
                # The JPEG decoder halves the size itself; twice the final size is left to filter.
                image.draft(
                    image.mode, (int(2 * image.width / factor), int(2 * image.height / factor))
                )
            image.load()
            upright = _to_rgb(image)
            if orientation in TRANSPOSE:
                upright = upright.transpose(TRANSPOSE[orientation])
            return np.array(_cover(upright, height, width), dtype=np.uint8)
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DecodeError(_too_large("too many pixels")) from None
    except UnidentifiedImageError:
        raise DecodeError(f"not an image file of {', '.join(FORMATS)}") from None
    except Exception as error:  # parsers raise anything on damaged files, even SyntaxError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DecodeError(f"corrupt ({reason})") from error


def _too_large(what: str) -> str:
    return f"{what}, the limit is {MAX_PIXELS} pixels (a decompression bomb?)"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 (upright) where the EXIF block is absent or damaged."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF blocks raise anything, and the pixels may still be whole
        return 1


def _cover_factor(size: tuple[int, int], orientation: int, height: int, width: int) -> float:
    """By how much the image may shrink and still cover (height, width) once it is upright."""
    wide, high = size if orientation < 5 else size[::-1]
    return min(wide / width, high / height)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        grey_HW = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey_HW).convert("RGB")
    if image.mode in ("I", "F"):
        raise DecodeError(f"mode {image.mode} (32 bits a pixel) is not supported, save as 8 bits")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize the largest centred box of the wanted shape: cover and crop in one step."""
    factor = min(image.width / width, image.height / height)
    left = (image.width - width * factor) / 2
    top = (image.height - height * factor) / 2
    box = (
        max(0.0, left),
        max(0.0, top),
        min(float(image.width), left + width * factor),
        min(float(image.height), top + height * factor),
    )
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
