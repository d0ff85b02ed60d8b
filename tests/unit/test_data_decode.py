import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainables.data.decode import DecodeError, decode_image, quiet_pillow

RED, GREEN, BLUE, GREY = (200, 30, 40), (20, 180, 60), (10, 50, 220), (128, 128, 128)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quadrants(height: int, width: int) -> np.ndarray:
    image_HWC = np.zeros((height, width, 3), np.uint8)
    image_HWC[: height // 2, : width // 2] = RED
    image_HWC[: height // 2, width // 2 :] = GREEN
    image_HWC[height // 2 :, : width // 2] = BLUE
    image_HWC[height // 2 :, width // 2 :] = GREY
    return image_HWC


def corners(image_HWC: np.ndarray) -> list[tuple[int, ...]]:
    """Colour at the middle of each quadrant: top left, top right, bottom left, bottom right."""
    height, width = image_HWC.shape[:2]
    return [
        tuple(int(value) for value in image_HWC[row, column])
        for row in (height // 4, 3 * height // 4)
        for column in (width // 4, 3 * width // 4)
    ]


def test_same_size_png_is_returned_untouched() -> None:
    image_HWC = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    decoded_HWC = decode_image(encoded(Image.fromarray(image_HWC), "PNG"), 24, 32)
    np.testing.assert_array_equal(decoded_HWC, image_HWC)
    assert decoded_HWC.flags.c_contiguous


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGB", RED, RED),
        # 25 % opaque on white: 255 - (255 - c) / 4
        ("RGBA", (200, 30, 40, 64), (241, 199, 201)),
        ("RGBA", (200, 30, 40, 0), (255, 255, 255)),
        ("LA", (0, 128), (127, 127, 127)),
        ("I;16", 77 * 256 + 19, (77, 77, 77)),
    ],
)
def test_png_modes(mode: str, value: int, expected: tuple[int, int, int]) -> None:
    decoded_HWC = decode_image(encoded(Image.new(mode, (40, 30), value), "PNG"), 12, 16)
    assert decoded_HWC.shape == (12, 16, 3)
    assert decoded_HWC.dtype == np.uint8
    np.testing.assert_allclose(decoded_HWC.reshape(-1, 3).astype(int) - expected, 0, atol=1)


def test_palette_and_its_transparency() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, *RED])
    plain_HWC = decode_image(encoded(image, "PNG"), 8, 8)
    assert (plain_HWC == RED).all()
    clear_HWC = decode_image(encoded(image, "PNG", transparency=1), 8, 8)
    assert (clear_HWC == 255).all()


def test_cmyk_and_grey_jpeg() -> None:
    # c = m = 0 and y = k = 0 is white; full yellow takes blue away
    white_HWC = decode_image(encoded(Image.new("CMYK", (32, 32), (0, 0, 0, 0)), "JPEG"), 8, 8)
    assert white_HWC.min() >= 253
    yellow_HWC = decode_image(encoded(Image.new("CMYK", (32, 32), (0, 0, 255, 0)), "JPEG"), 8, 8)
    assert yellow_HWC[..., :2].min() >= 250
    assert yellow_HWC[..., 2].max() <= 5
    grey_HWC = decode_image(encoded(Image.new("L", (32, 32), 90), "JPEG"), 8, 8)
    assert abs(grey_HWC.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_shows_the_scene_upright(orientation: int, format: str) -> None:
    scene_HWC = quadrants(64, 64)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)  # all others undo themselves
    exif = Image.Exif()
    exif[0x0112] = inverse
    stored = Image.fromarray(scene_HWC)
    stored.getexif()[0x0112] = inverse
    stored = ImageOps.exif_transpose(stored)
    exif[0x0112] = orientation
    data = encoded(stored, format, exif=exif, **({"quality": 100} if format == "JPEG" else {}))
    found = corners(decode_image(data, 64, 64))
    np.testing.assert_allclose(found, [RED, GREEN, BLUE, GREY], atol=4)


def test_rotated_portrait_photograph_fills_a_landscape_frame() -> None:
    scene_HWC = quadrants(300, 400)
    sideways = Image.fromarray(np.rot90(scene_HWC))  # stored 400 high, 300 wide
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    decoded_HWC = decode_image(encoded(sideways, "JPEG", quality=100, exif=exif), 30, 40)
    np.testing.assert_allclose(corners(decoded_HWC), [RED, GREEN, BLUE, GREY], atol=4)


def test_damaged_exif_does_not_lose_the_image() -> None:
    data = encoded(Image.new("RGB", (32, 32), RED), "JPEG", quality=100)
    junk = b"Exif\x00\x00" + b"II*\x00\xff\xff\xff\x7f" + b"\x00" * 4
    damaged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + data[2:]
    with quiet_pillow():
        assert abs(decode_image(damaged, 8, 8).astype(int) - RED).max() <= 3


def test_cover_crops_the_centre() -> None:
    # 100 x 20: three bands, of which a square keeps only the middle 20 columns
    image_HWC = np.zeros((20, 100, 3), np.uint8)
    image_HWC[:, :40], image_HWC[:, 40:60], image_HWC[:, 60:] = RED, GREEN, BLUE
    decoded_HWC = decode_image(encoded(Image.fromarray(image_HWC), "PNG"), 20, 20)
    assert (decoded_HWC == GREEN).all()
    tall_HWC = decode_image(encoded(Image.fromarray(image_HWC.transpose(1, 0, 2)), "PNG"), 10, 10)
    assert (tall_HWC[2:8] == GREEN).all()


def test_downscaling_is_antialiased() -> None:
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    decoded_HWC = decode_image(encoded(Image.fromarray(board), "PNG"), 16, 16)
    assert abs(decoded_HWC.astype(int) - 127.5).max() < 4  # plain subsampling gives 0 or 255


def test_large_jpeg_decoded_at_reduced_size_stays_close_to_full_decoding() -> None:
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    photo = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encoded(photo, "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).convert("RGB").resize((64, 48), Image.Resampling.BILINEAR)
    difference = decode_image(data, 48, 64).astype(int) - np.asarray(full)
    assert abs(difference).mean() < 1.5


def png_that_claims(width: int, height: int) -> bytes:
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>404 not found</html>", "not an image"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "corrupt"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "corrupt"),
        (png_that_claims(12_000, 10_000), "bomb"),
        (png_that_claims(60_000, 60_000), "bomb"),
        (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "mode F"),
    ],
)
def test_unusable_files_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_image(data, 8, 8)


def test_no_damage_escapes_as_another_exception() -> None:
    rng = np.random.default_rng(2)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    reasons = []
    for format in ("PNG", "JPEG", "GIF", "TIFF", "BMP"):
        whole = bytearray(encoded(noise, format))
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(4):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            try:
                assert decode_image(bytes(damaged), 8, 8).shape == (8, 8, 3)
            except DecodeError as error:
                reasons.append(str(error))
    assert len(reasons) > 20
    assert not any("\n" in reason for reason in reasons)
