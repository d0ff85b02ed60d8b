"""clusters/on-prem.yaml on three machines made of namespaces; minutes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import OUTER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    missing = [name for name in ("sshd", "rsync", "ip", "nsenter") if not shutil.which(name)]
    if missing or subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip(f"needs root, namespaces, and {missing or 'what unshare asks for'}")
    place = tmp_path_factory.mktemp("on-prem")
    ended = subprocess.run(
        [*OUTER, sys.executable, str(HERE / "on_prem.py"), str(place)],
        capture_output=True, text=True, timeout=1700,
    )  # fmt: skip
    logs = "".join(f"== {p.name}\n{p.read_text()[-2000:]}" for p in sorted(place.glob("*.log")))
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:] + logs
    yield json.loads((place / "found.json").read_text())
    shutil.rmtree(place)


def test_it_came_up_with_three_nodes(found):
    assert (found["check"], found["up"], found["num_nodes"]) == (0, 0, 3)


def test_dashboard_and_mlflow_are_on_loopback(found):
    head = found["listening"]["h0"]
    assert "127.0.0.1:8265" in head
    assert "127.0.0.1:5000" in head
    for port in (8265, 5000):
        assert not any(a.endswith(f":{port}") and not a.startswith("127.") for a in head)


def test_all_took_part_and_two_losses_changed_nothing(found):
    assert found["sweep"] == 0
    assert found["killed"] >= 1
    assert len(found["hosts"]) == 3
    assert found["num_trials"] == 22
    assert found["records_equal"]
    assert found["twice"] == 0


def test_the_server_of_the_file_has_a_run_of_each_trial(found):
    # these nets are hardly trained: where no figure is defined no configuration has a run
    found["tracked"].pop("configuration FINISHED", None)
    assert found["tracked"] == {"sweep FINISHED": 1, "trial FINISHED": 22}


def test_down_leaves_no_process(found):
    assert found["down"] == 0
    assert found["left"] == {"h0": [], "h1": [], "h2": []}
