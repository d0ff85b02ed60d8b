"""A sweep on S3 is watched by its URI while it runs; the doctor asks the real servers."""

import json
import subprocess
import sys

import pytest
from servers import free_port, running, wait_for
from sweep_runs import write_space

from orchestrator.doctor.tracking import check_tracking

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "orchestrator"]


def test_watched_by_its_uri(cli, place):
    space = write_space(
        place / "tiny.yaml", iterations=1, controls=[],
        prune={"criterion": "snnl", "ratio": 0.3, "site": "conv"},
    )  # fmt: skip
    driver = cli.start(space, place / "watched", "--store", "s3://bucket/st", "--workers", "1")
    driver.wait_for("scheduled", 1)
    uri = "s3://bucket/st/sweeps/watched"

    def ask(*arguments):
        return subprocess.run(
            [*COMMAND, *arguments], env=cli.environment, capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip

    watched = ask("watch", uri)
    first, *_, last = watched.stderr.splitlines()
    assert watched.returncode == 0, watched.stderr
    assert first.startswith("tiny  ")
    assert "running" in first
    assert last.startswith("tiny  2 of 2 done  finished")
    code, _, err = driver.finish()
    assert code == 0, err
    assert json.loads(ask("watch", uri, "--json").stdout)["state"] == "finished"
    assert "s3://bucket/st/sweeps: watched" in ask("watch", "s3://bucket/st").stderr
    found = json.loads(ask("doctor", "--store", "s3://nobucket/st", "--json").stdout)
    (store,) = [f for f in found["findings"] if f["check"] == "store"]
    assert store["status"] == "fail"
    assert "bucket does not exist" in store["message"]


def test_the_doctor_knows_a_real_mlflow_server(tmp_path):
    port = free_port()
    command = [*COMMAND, "server", "--folder", str(tmp_path / "server"), "--port", str(port)]
    uri = f"http://127.0.0.1:{port}"
    with running(command, tmp_path / "log", port) as process:
        wait_for(lambda: check_tracking(uri).status == "ok", process)
        assert "MLflow 3." in check_tracking(uri).message
