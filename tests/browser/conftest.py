"""A headless Chromium, driven by Playwright; tests that need it are skipped where it is not."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """The machine's own Chromium: Playwright brings none where downloads are not wanted."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("FATEFRONT_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (FATEFRONT_CHROMIUM names one)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
