"""The published tables, which are no part of the project, and image files of the listed names."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(
    os.environ.get("FATEFRONT_SHARED") or Path(__file__).resolve().parents[2] / "../shared/data"
)


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test where one of these files is not there."""
    absent = [name for name in names if not (REAL / name).exists()]
    return pytest.mark.skipif(
        bool(absent), reason=f"not in {REAL} (set FATEFRONT_SHARED): {', '.join(absent)}"
    )


def write_images(folder: Path, names: Iterable[str], suffix: str = ".jpg") -> None:
    """One generated image under every name."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    first = folder / f".generated{suffix}"
    Image.fromarray(pixels).save(first)
    for name in names:
        os.link(first, folder / f"{name}{suffix}")
