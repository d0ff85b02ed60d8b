"""Fixtures of the sweeps on real Ray."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_runs import Cli


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


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


@pytest.fixture
def here(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """The command in this process, for what ends before Ray starts; returns (code, document)."""
    from orchestrator.cli import app

    monkeypatch.setenv("FATEFRONT_CACHE", str(cache))

    def run(space: Path, folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
        command = ["run", str(space), "--out", str(folder), "--tracking-uri", "none", "--json"]
        with pytest.raises(SystemExit) as left:
            app([*command, *options])
        return left.value.code, json.loads(capsys.readouterr().out)

    return run
