"""MLflow's server is killed in the middle of a sweep, and comes back during it or after it: in
the end it has every run, once, as if it had never been away.
"""

import http.server
import shutil
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter

import pytest
from mlflow import MlflowClient
from servers import end, free_port, mlflow_server
from sweep_runs import SPACE, Cli, write_space

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import load_records

pytestmark = pytest.mark.slow
SEEDS, TRIALS_A_SEED = 5, 7
NUM_TRIALS = SEEDS * TRIALS_A_SEED
DATA = SPACE["data"] | {"num_images": 120}
LONGER = SPACE["training"] | {"epochs": 4}
"""Enough for a front, so that configurations have runs."""


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


def tiny(path, seeds, **changes):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(path, prune=prune, seeds=seeds, **changes)


@pytest.fixture(scope="module")
def space(place):
    return tiny(place / "tiny.yaml", list(range(SEEDS)))


def runs_of(uri, folder):
    """The runs of trials and of the sweep; those of configurations are counted alone."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tiny")
    sweep_id = read_manifest(folder)["sweep_id"]
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`fatefront.sweep_id` = '{sweep_id}'", max_results=500
    )
    single = [run for run in found if run.data.tags["level"] != "configuration"]
    named = {run.data.tags.get("fatefront.key", "sweep"): run for run in single}
    return named, len(single), len(found) - len(single)


def assert_everything_is_there(uri, folder, num_seeds=SEEDS):
    records = load_records(folder)
    assert len(records) == num_seeds * TRIALS_A_SEED
    runs, num_found, num_configurations = runs_of(uri, folder)
    assert num_found == len(records) + 1  # no run twice
    # one of a configuration, where its figures are defined (these nets are hardly trained)
    assert num_configurations == len((folder / "front.csv").read_text().splitlines()) - 1
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


class Deaf(http.server.BaseHTTPRequestHandler):
    """A proxy that hangs up before the answer, once for every path and body that makes a run: the
    server has carried the request out, and the client does not know.
    """

    server_uri, lost = "", Counter()
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        request = urllib.request.Request(
            self.server_uri + self.path, body or None, kept, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, told, content = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, told, content = error.code, error.headers, error.read()
        if self.path.endswith("runs/create"):
            self.lost[body] += 1
            if self.lost[body] == 1:
                self.close_connection = True
                return
        self.send_response(status)
        self.send_header("Content-Type", told.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def log_message(self, *_):
        pass


def test_runs_whose_answers_are_lost_are_there_once(place, cli):
    """MLflow's client asks again by itself, so the server makes two: one of them stays."""
    folder, port = place / "deaf", free_port()
    folder.mkdir()
    with mlflow_server(folder, port):
        Deaf.server_uri = f"http://127.0.0.1:{port}"
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            uri = f"http://127.0.0.1:{proxy.server_port}"
            space = tiny(folder / "tiny.yaml", [0], data=DATA, training=LONGER)
            code, document, err = cli.run(
                space, folder / "tiny", "--workers", "2", "--tracking-uri", uri
            )
        finally:
            proxy.shutdown()
        assert code == 0, err
        assert document["tracking"] == "done"
        num_configurations = len((folder / "tiny" / "front.csv").read_text().splitlines()) - 1
        assert num_configurations >= 1
        assert len(Deaf.lost) == TRIALS_A_SEED + num_configurations + 1
        assert set(Deaf.lost.values()) == {2}  # asked for twice each
        assert_everything_is_there(Deaf.server_uri, folder / "tiny", num_seeds=1)
