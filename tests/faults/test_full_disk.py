"""A disk that is full, at every place where a sweep writes: a small tmpfs, filled to the end.

The command ends by itself with one line that says so; with room again the same command finishes,
and its results are those of a sweep that never lacked any. Needs root (mount).
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_runs import Cli, assert_each_node_once, results, write_space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount needs root"),
]
MEGABYTE = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of so many megabytes."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """Leave so many bytes."""
    state = os.statvfs(folder)
    path = folder / "filling"
    with path.open("wb") as file:
        free = state.f_bavail * state.f_frsize - left
        while free > 0:
            free -= file.write(b"\0" * min(free, MEGABYTE))
    return path


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(place / "tiny.yaml", prune=prune, controls=["none"])


@pytest.fixture(scope="module")
def reference(cli, place, space):
    code, _, err = cli.run(space, place / "reference", "--workers", "2")
    assert code == 0, err
    return results(place / "reference")


def says_why(code: int, err: str) -> None:
    assert code in (1, 2)
    assert "Traceback" not in err
    assert "No space left on device" in err or "full" in err


@pytest.mark.parametrize("left", [0, 4_096, 60_000, 3 * MEGABYTE, 60 * MEGABYTE, 150 * MEGABYTE])
def test_of_the_sweep(cli, place, space, reference, tmp_path, left):
    """Ledger, manifest and store: from no byte to room for some trials."""
    with small_disk(tmp_path / "disk", 700) as disk:
        filling = fill(disk, left)
        code, _, err = cli.start(space, disk / "sweep", "--workers", "2").finish()
        if code:
            says_why(code, err)
        else:  # models that nobody needs were dropped
            assert left >= 150 * MEGABYTE
        filling.unlink()
        again = cli.start(space, disk / "sweep", "--workers", "2", "--retry-failed")
        code, _, err = again.finish()
        assert code == 0, err
        assert results(disk / "sweep") == reference
        assert_each_node_once(disk / "sweep")
        left_behind = [p for p in (disk / "sweep").rglob(".*") if p.is_file()]
        assert [p.name for p in left_behind if p.name != ".lock"] == []


@pytest.mark.parametrize("left", [0, 20_000])
def test_of_the_array_cache(place, space, reference, tmp_path, left):
    with small_disk(tmp_path / "disk", 50) as disk:
        filling = fill(disk, left)
        cli = Cli(disk / "cache")
        code, _, err = cli.start(space, tmp_path / "sweep", "--workers", "2").finish()
        if code:
            says_why(code, err)
        filling.unlink()
        code, _, err = cli.start(space, tmp_path / "sweep", "--workers", "2").finish()
        assert code == 0, err
        assert results(tmp_path / "sweep") == reference
        assert not cli.end()


def test_of_mlflow_s_database(cli, place, space, reference, tmp_path):
    """What tracks must not harm the sweep; with room again MLflow is brought up to date."""
    from mlflow.tracking import MlflowClient

    with small_disk(tmp_path / "disk", 50) as disk:
        uri = f"sqlite:///{disk}/mlflow.db"
        filling = fill(disk, 40_000)
        driver = cli.start(space, tmp_path / "sweep", "--workers", "2", tracking_uri=uri)
        _, _, err = driver.finish()
        assert "Traceback" not in err
        assert results(tmp_path / "sweep") == reference
        filling.unlink()
        driver = cli.start(space, tmp_path / "sweep", "--workers", "2", tracking_uri=uri)
        code, _, err = driver.finish()
        assert code == 0, err
        client = MlflowClient(uri)
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        keys = [r.data.tags["fatefront.key"] for r in runs if "fatefront.key" in r.data.tags]
        assert sorted(keys) == sorted(reference)
        assert {r.info.status for r in runs} == {"FINISHED"}
