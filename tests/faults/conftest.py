"""Sweeps on real Ray, as those of `tests/sweep`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_runs import Cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("faults")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cli(place: Path) -> Iterator[Cli]:
    client = Cli(place / "cache")
    yield client
    left = client.end()
    assert not left, f"processes outlived their sweep: {left}"
