"""`fatefront server` as it is used: on loopback, with a password, ended by Ctrl-C with all that it
started; and on PostgreSQL with eight sweeps writing at once.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter

import psutil
import pytest
from mlflow import MlflowClient
from servers import POSTGRES, ROOT, free_port, mlflow_server, postgresql, s3_server
from sweep_runs import Cli, alive, write_space
from tiny_sweep import run_tiny

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger, load_records
from orchestrator.tracking.client import quiet

pytestmark = pytest.mark.slow
NUM_SWEEPS, NUM_TRIALS = 8, 4


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def listening(process: psutil.Process) -> set[str]:
    """Addresses that a process and all below it listen on."""
    return {
        connection.laddr.ip
        for one in [process, *process.children(recursive=True)]
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_here_alone_and_ends_with_all_it_started(tmp_path, number):
    port = free_port()
    with mlflow_server(tmp_path, port) as process:
        address = f"http://127.0.0.1:{port}"
        text = (tmp_path / "verb.log").read_text()
        assert f"MLflow:    {address}\n" in text
        assert f"--tracking-uri {address}" in text
        assert status_of(f"{address}/api/2.0/mlflow/experiments/search?max_results=1") == 200
        server = psutil.Process(process.pid)
        below = server.children(recursive=True)
        assert len(below) > 2
        assert listening(server) == {"127.0.0.1"}
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(40) == 0
        assert time.monotonic() - begun < 30
        assert alive(below) == []


def test_a_worker_of_a_busy_machine_is_left_in_peace(tmp_path):
    """Silent for ten seconds, it is not replaced by another that would be as slow."""
    with mlflow_server(tmp_path, free_port()) as process:
        before = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in before if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        for worker in workers:
            worker.suspend()
        time.sleep(10)
        for worker in workers:
            worker.resume()
        time.sleep(3)
        assert alive(workers) == workers
    assert "died" not in (tmp_path / "server" / "server.log").read_text()


def test_who_has_no_password_sees_nothing(tmp_path, monkeypatch):
    """On all addresses: a user of its own, none of whose runs anybody else may see."""
    port = free_port()
    secret = {"MLFLOW_AUTH_ADMIN_PASSWORD": "a long password"}
    with mlflow_server(tmp_path, port, "--host", "0.0.0.0", environment=secret):
        address = f"http://127.0.0.1:{port}"
        search = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
        assert status_of(search) == 401
        for user, password in (("admin", "wrong password"), ("admin", "")):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            with pytest.raises(Exception, match=r"401|not authenticated|Unauthorized"):
                MlflowClient(address).create_experiment("mine")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a long password")
        assert MlflowClient(address).create_experiment("mine")
    assert "a long password" not in (tmp_path / "server" / "server.log").read_text()


def test_artifacts_on_s3_and_sweeps_through_it(tmp_path):
    """A sweep with its store on S3 and MLflow's artifacts on S3: nothing in a folder matters."""
    import boto3

    with s3_server(tmp_path) as settings:
        port, uri = free_port(), ""
        with mlflow_server(
            tmp_path, port, "--artifacts", "s3://bucket/mlflow", environment=settings
        ):
            uri = f"http://127.0.0.1:{port}"
            cli = Cli(tmp_path / "cache")
            cli.environment |= settings
            space = tiny(tmp_path / "tiny.yaml", "tiny")
            options = ("--store", "s3://bucket/store", "--tracking-uri", uri)
            code, document, err = cli.run(space, tmp_path / "tiny", *options)
            assert code == 0, err
            assert document["tracking"] == "done"
            assert cli.end() == []
        client = boto3.client(
            "s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        listed = client.list_objects_v2(Bucket="bucket", Prefix="mlflow/", MaxKeys=1000)
        names = [entry["Key"] for entry in listed["Contents"]]
        assert sum(name.endswith("counts.json") for name in names) == 7
        assert any(name.endswith("sweep.yaml") for name in names)


def tiny(path, name, **changes):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(path, name=name, prune=prune, **changes)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Eight sweeps with results of their own, trained one after another, which no MLflow has seen:
    all is still to be written when the eight begin.
    """
    place = tmp_path_factory.mktemp("eight")
    folders = [place / f"tiny{number}" for number in range(NUM_SWEEPS)]
    for number, folder in enumerate(folders):
        run_tiny(folder, place / "cache", name=folder.name, seeds=(number,))
        ledger = Ledger(folder).open()
        ledger.append("finished", stopped=None)
        ledger.close()
    yield folders
    shutil.rmtree(place)


@pytest.mark.timeout(2400)
@pytest.mark.skipif(not POSTGRES, reason="needs PostgreSQL: apt-get install postgresql")
@pytest.mark.parametrize("through", ["server", "database"])
def test_eight_sweeps_write_into_postgresql_at_once(tmp_path, sweeps, through):
    """Eight tracking processes at the same time, as eight drivers have them; every run is there
    once and complete.
    """
    with postgresql(tmp_path) as database:
        port = free_port()
        if through == "database":
            write_all(database, sweeps)
            assert_all_there(database, sweeps)
            return
        with mlflow_server(tmp_path, port, "--backend-store-uri", database):
            uri = f"http://127.0.0.1:{port}"
            write_all(uri, sweeps)
            assert_all_there(uri, sweeps)


def write_all(uri, sweeps):
    if uri.startswith("postgresql"):  # its tables are made once, before eight could make them
        subprocess.run(
            [sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True
        )
    command = [sys.executable, "-m", "orchestrator.tracking"]
    begun = time.monotonic()
    passes = [
        subprocess.Popen(
            [*command, str(folder), "--uri", uri], env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for folder in sweeps
    ]  # fmt: skip
    ends = [(one.communicate(timeout=500), one.returncode) for one in passes]
    print(f"{uri.partition(':')[0]}: eight passes in {time.monotonic() - begun:.0f} s")
    for (out, err), code in ends:
        assert code == 0, (out, err)
        assert f'"created": {NUM_TRIALS}' in out


def assert_all_there(uri, sweeps):
    with quiet():  # MLflow's own use of SQLAlchemy warns
        _assert_all_there(uri, sweeps)


def _assert_all_there(uri, sweeps):
    client = MlflowClient(tracking_uri=uri)
    for folder in sweeps:
        records, manifest = load_records(folder), read_manifest(folder)
        experiment = client.get_experiment_by_name(manifest["sweep"])
        runs = client.search_runs([experiment.experiment_id], max_results=500)
        counts = Counter(
            (run.data.tags["level"], run.data.tags.get("fatefront.configuration_key"))
            for run in runs
        )
        assert set(counts.values()) == {1}  # one seed each: a trial is all of its configuration
        levels = Counter(level for level, _ in counts)
        assert (levels["sweep"], levels["trial"]) == (1, NUM_TRIALS)
        assert levels["configuration"] <= NUM_TRIALS  # where their figures are defined
        by_key = {run.data.tags.get("fatefront.key"): run for run in runs}
        for key, record in records.items():
            logged = by_key[key].data.metrics
            figures = record["result"]["metrics"]["validation"]
            named = {name.rpartition("/")[2]: value for name, value in logged.items()}
            assert by_key[key].data.tags["fatefront.synced"] == "1"
            assert named["f1"] == pytest.approx(figures["f1"])
