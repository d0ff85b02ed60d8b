"""Pictures of a page by the machine's own Chromium, without any driver."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCHEMES = {"dark": 0, "light": 1}
"""Numbers of Blink's setting ``preferredColorScheme``."""


def picture(
    page: Path, to: Path, scheme: str, *, width: int = 1280, height: int = 2400
) -> np.ndarray:
    """A page as pixels, (height, width, 3); also kept where FATEFRONT_SCREENSHOTS names a folder.

    The test is skipped where there is no Chromium (FATEFRONT_CHROMIUM names one).
    """
    chromium = os.environ.get("FATEFRONT_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no pictures: no chromium on this machine (FATEFRONT_CHROMIUM names one)")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={to / 'profile'}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--window-size={width},{height}", f"--screenshot={to / f'{scheme}.png'}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    kept = os.environ.get("FATEFRONT_SCREENSHOTS")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        shutil.copy(to / f"{scheme}.png", Path(kept) / f"{page.stem}_{scheme}.png")
    return np.asarray(Image.open(to / f"{scheme}.png").convert("RGB"))
