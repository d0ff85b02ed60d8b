"""Sweeps on remote stores start with an S3 server of their own."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from servers import s3_server
from sweep_runs import Cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("remote")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def s3(place: Path) -> Iterator[dict[str, str]]:
    """Settings of a running S3 server with the bucket `bucket`."""
    with s3_server(place) as settings, pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        # fsspec would go on asking the server of another module, which is gone: its address comes
        # from the environment, which is not in the key of fsspec's cache
        s3fs.S3FileSystem.clear_instance_cache()
        yield settings
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def cli(place: Path, s3: dict[str, str]) -> Iterator[Cli]:
    """The command; it finds the server by its environment."""
    client = Cli(place / "cache")
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: _none_left(client))
        yield client


def _none_left(client: Cli) -> None:
    left = client.end()
    assert not left, f"processes outlived their sweep: {left}"
