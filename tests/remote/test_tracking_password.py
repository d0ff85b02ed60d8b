"""A sweep tracked by a real MLflow server that asks for a password: it is tracked, and the
password is in nothing that was written, printed or to be seen in the list of processes.
"""

import tempfile
from pathlib import Path

import pytest
from mlflow import MlflowClient
from servers import free_port, mlflow_server
from sweep_runs import Cli, write_space

from orchestrator.ledger.records import load_records
from orchestrator.tracking.client import quiet

pytestmark = pytest.mark.slow
PASSWORD = "marked-password-5c1d9a"


def test_the_password_stays_where_it_is(tmp_path, monkeypatch):
    port = free_port()
    ray = Path(tempfile.mkdtemp(prefix="ff", dir="/tmp"))  # sockets' names must be short
    prune = {"criterion": "random", "ratio": 0.3, "site": "conv"}
    space = write_space(tmp_path / "tiny.yaml", prune=prune, controls=["none"], iterations=1)
    secret = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with mlflow_server(tmp_path, port, "--auth", environment=secret):
        uri = f"http://127.0.0.1:{port}"
        cli = Cli(tmp_path / "cache")
        who = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        cli.environment |= who | {"RAY_TMPDIR": str(ray)}
        driver = cli.start(space, tmp_path / "sweep", "--workers", "1", tracking_uri=uri)
        lines = driver.command_lines()
        code, out, err = driver.finish()
        assert code == 0, err
        for name, value in who.items():
            monkeypatch.setenv(name, value)
        with quiet():
            client = MlflowClient(uri)
            experiments = [e.experiment_id for e in client.search_experiments()]
            runs = client.search_runs(experiments)
        keys = [r.data.tags["fatefront.key"] for r in runs if "fatefront.key" in r.data.tags]
        assert sorted(keys) == sorted(load_records(tmp_path / "sweep"))
        assert {run.info.status for run in runs} == {"FINISHED"}
    assert any("orchestrator.tracking" in line for line in lines)
    assert not [line for line in lines if PASSWORD in line]
    assert PASSWORD not in out + err
    written = [
        path
        for folder in (tmp_path / "sweep", ray, tmp_path / "server")
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    assert len(written) > 30
    holding = [path for path in written if PASSWORD.encode() in path.read_bytes()]
    # MLflow reads the administrator's password from a file that only its owner may read
    assert {p for p in holding if p.stat().st_mode & 0o077} == set()
    assert {p for p in holding if (tmp_path / "server") not in p.parents} == set()
    assert not cli.end()
