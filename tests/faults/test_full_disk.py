"""A disk that is full, at every place where a sweep writes: a small tmpfs, filled to the end.

The command ends by itself with one line that says so; with room again the same command finishes,
and its results are those of a sweep that never lacked any. Needs root (mount).
"""

import os

import pytest
from small_disk import MEGABYTE, fill, small_disk
from sweep_runs import Cli, assert_each_node_once, results, write_space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount needs root"),
]
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
    assert code == 1, err
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: disk full: No space left on device"), err


@pytest.mark.parametrize("left", [0, 4_096, 60_000, 3 * MEGABYTE, 60 * MEGABYTE, 150 * MEGABYTE])
def test_of_the_sweep(cli, place, space, reference, tmp_path, left):
    """Ledger, manifest and store: from no byte to room for some trials."""
    with small_disk(tmp_path / "disk", 700) as disk:
        filling = fill(disk, left)

        def run():
            driver = cli.start(space, disk / "sweep", "--workers", "2", said_in=tmp_path)
            return driver.finish()

        code, _, err = run()
        if code:
            says_why(code, err)
        else:  # models that nobody needs were dropped
            assert left >= 150 * MEGABYTE
        filling.unlink()
        code, _, err = run()
        assert code == 0, err
        assert results(disk / "sweep") == reference
        assert_each_node_once(disk / "sweep")
        left_behind = [p for p in (disk / "sweep").rglob(".*") if p.is_file()]
        assert [p.name for p in left_behind if p.name != ".lock"] == []


def says_why_of_the_cache(code: int, err: str) -> None:
    """It is refused before anything is decoded, where the free bytes tell; else as all others."""
    if code == 2:
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert "GB free (set FATEFRONT_CACHE" in line
        assert "Traceback" not in err
    else:
        says_why(code, err)


@pytest.mark.parametrize("left", [0, 20_000])
def test_of_the_array_cache(place, space, reference, tmp_path, left):
    with small_disk(tmp_path / "disk", 50) as disk:
        filling = fill(disk, left)
        cli = Cli(disk / "cache")
        code, _, err = cli.start(space, tmp_path / "sweep", "--workers", "2").finish()
        if code:
            says_why_of_the_cache(code, err)
        filling.unlink()
        code, _, err = cli.start(space, tmp_path / "sweep", "--workers", "2").finish()
        assert code == 0, err
        assert results(tmp_path / "sweep") == reference
        assert not cli.end()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own
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
