"""MLflow's server is killed in the middle of a sweep, and comes back during it or after it: in
the end it has every run, once, as if it had never been away.
"""

import shutil
import signal

import pytest
from mlflow import MlflowClient
from servers import end, free_port, mlflow_server
from sweep_runs import Cli, write_space

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import load_records

pytestmark = pytest.mark.slow
SEEDS, TRIALS_A_SEED = 5, 7
NUM_TRIALS = SEEDS * TRIALS_A_SEED


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outage")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cli(place):
    client = Cli(place / "cache")
    yield client
    left = client.end()
    assert not left, f"processes outlived their sweep: {left}"


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(place / "tiny.yaml", prune=prune, seeds=list(range(SEEDS)))


def runs_of(uri, folder):
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tiny")
    sweep_id = read_manifest(folder)["sweep_id"]
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`fatefront.sweep_id` = '{sweep_id}'", max_results=500
    )
    return {run.data.tags.get("fatefront.key", "sweep"): run for run in found}, len(found)


def assert_everything_is_there(uri, folder):
    records = load_records(folder)
    assert len(records) == NUM_TRIALS
    runs, num_found = runs_of(uri, folder)
    assert num_found == NUM_TRIALS + 1  # no run twice
    assert runs.pop("sweep").info.status == "FINISHED"
    assert set(runs) == set(records)
    for key, run in runs.items():
        figures = records[key]["result"]["metrics"]["validation"]
        logged = {name.rpartition("/")[2]: value for name, value in run.data.metrics.items()}
        assert run.info.status == "FINISHED"
        assert run.data.tags["fatefront.synced"] == "1"
        assert logged["f1"] == pytest.approx(figures["f1"])


def test_killed_in_the_middle_and_started_again(place, cli, space):
    folder, port = place / "during", free_port()
    folder.mkdir()
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(folder, port) as server:
        driver = cli.start(space, folder / "tiny", "--workers", "1", "--tracking-uri", uri)
        driver.wait_for("done", 2)
        end(server, signal.SIGKILL)
    driver.wait_for("done", 4)  # the sweep goes on without it
    with mlflow_server(folder, port):
        assert driver.process.poll() is None  # it is back before the sweep ends
        code, _, err = driver.finish(500)
        assert code == 0, err
        assert_everything_is_there(uri, folder / "tiny")
    assert "Traceback" not in (folder / "tiny" / "tracking.log").read_text()


def test_away_when_the_sweep_ends_and_back_later(place, cli, space):
    """The sweep ends all the same and says what is missing; the same command delivers it."""
    folder, port = place / "after", free_port()
    folder.mkdir()
    uri = f"http://127.0.0.1:{port}"
    options = ("--workers", "2", "--tracking-uri", uri)
    with mlflow_server(folder, port) as server:
        driver = cli.start(space, folder / "tiny", "--json", *options)
        driver.wait_for("done", 2)
        end(server, signal.SIGKILL)
    code, _, err = driver.finish()
    assert code == 0, err
    with mlflow_server(folder, port):
        assert runs_of(uri, folder / "tiny")[1] < NUM_TRIALS + 1  # it does lack some
        code, document, err = cli.run(space, folder / "tiny", *options)
        assert code == 0, err
        assert (document["num_computed_now"], document["tracking"]) == (0, "done")
        assert_everything_is_there(uri, folder / "tiny")
