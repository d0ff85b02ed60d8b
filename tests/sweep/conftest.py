"""Fixtures of the sweeps on real Ray."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_runs import Cli


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would the drivers it starts."""
    old = signal.getsignal(signal.SIGINT)
    if old == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for sweeps; removed at the end (a node holds 45 MB of weights)."""
    folder = tmp_path_factory.mktemp("sweeps")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cli(cache: Path, place: Path) -> Iterator[Cli]:
    client = Cli(cache)
    yield client
    left = client.end()
    assert not left, f"processes outlived their sweep: {left}"
