"""What the doctor finds, and that each fault comes with its remedy."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from packaging.version import Version

from orchestrator.doctor.gpus import busy, check_gpus
from orchestrator.doctor.machine import (
    check_open_files,
    check_ports,
    check_shared_memory,
)
from orchestrator.doctor.packages import check_packages, check_python
from orchestrator.doctor.places import check_disk, check_folders, check_store, try_folder
from orchestrator.doctor.ray_start import is_loopback, read_answer
from orchestrator.doctor.space import look_at_space
from orchestrator.doctor.tracking import check_tracking
from trainables.data.synthetic import Synthetic, write

ROOT = Path(__file__).resolve().parents[2]


def statuses(findings):
    found = list(findings)
    for finding in found:
        assert (finding.fix is None) is (finding.status == "ok"), finding
        assert "\n" not in finding.message + (finding.fix or "")
    return [finding.status for finding in found]


def test_python():
    assert check_python((3, 10)).status == "fail"
    assert check_python((3, 11)).status == "ok"
    assert check_python((3, 99)).status == "warn"


def test_packages_are_held_against_ranges_and_pins(tmp_path):
    assert statuses(check_packages(["numpy>=1"], tmp_path / "none")) == ["ok"]
    (finding,) = check_packages(["numpy>=999"], tmp_path / "none")
    assert finding.status == "fail"
    assert finding.fix == "pip install 'numpy>=999'"
    (finding,) = check_packages(["no-such-package-anywhere>=1"], tmp_path / "none")
    assert "is not installed" in finding.message
    import numpy

    other = f"{Version(numpy.__version__).major + 1}.0"
    (tmp_path / "pins.txt").write_text(f"numpy=={other}\n")
    (finding,) = check_packages(["numpy>=1"], tmp_path / "pins.txt")
    assert finding.status == "warn"
    assert f"tested: {other}" in finding.message
    assert statuses(check_packages(["numpy>=999; extra == 's3'"], tmp_path / "none")) == ["ok"]


def test_this_environment_is_in_its_own_ranges():
    assert "fail" not in statuses(check_packages())


def test_gpus_that_are_in_use_or_exclusive():
    rows = [["0", "H100", "70000", "80000", "Default"], ["1", "H100", "0", "80000", "Default"],
            ["2", "H100", "0", "80000", "Exclusive_Process"],
            ["3", "H100", "[N/A]", "1", "x"]]  # fmt: skip
    found = list(busy(rows))
    assert statuses(found) == ["warn", "warn"]
    assert "70 of 80 GB" in found[0].message
    assert "nvidia-smi -i 2 -c DEFAULT" in found[1].fix


def test_the_gpus_of_this_machine_or_their_absence():
    assert "fail" not in statuses(check_gpus())


@pytest.mark.parametrize(
    ("place", "inside"),
    [("127.0.0.1:5", True), ("::1:5", True), ("0.0.0.0:5", False), ("10.0.0.3:5", False),
     (":::5", False)],
)  # fmt: skip
def test_loopback(place, inside):
    assert is_loopback(place) is inside


def test_what_ray_s_probe_may_say():
    def said(*listening):
        return json.dumps({"listening": listening, "seconds": 3.0})

    (finding,) = read_answer(0, said("127.0.0.1:1"), "")
    assert finding.status == "ok"
    (finding,) = read_answer(0, said("127.0.0.1:1", "0.0.0.0:2"), "")
    assert (finding.status, "0.0.0.0:2" in finding.message) == ("warn", True)
    (finding,) = read_answer(1, "", "Traceback\nOSError: AF_UNIX path too long")
    assert (finding.status, "AF_UNIX" in finding.message) == ("fail", True)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (finding,) = check_ports({port: "`fatefront server`"})
        assert (finding.status, str(port) in finding.message) == ("warn", True)
    assert statuses(check_ports({port: "x"})) == ["ok"]


def test_shared_memory(tmp_path):
    assert check_shared_memory(1000, tmp_path).status == "ok"
    small = check_shared_memory(10**15, tmp_path)
    assert (small.status, "--shm-size" in small.fix) == ("warn", True)
    assert check_shared_memory(None, tmp_path / "none").status == "warn"


@pytest.mark.parametrize(
    ("soft", "status"), [(512, "fail"), (1024, "warn"), (65536, "ok"), (-1, "ok")]
)
def test_open_files(soft, status):
    assert check_open_files((soft, 65536)).status == status


def test_folders(tmp_path):
    assert try_folder(tmp_path / "not" / "yet") is None
    (tmp_path / "file").write_text("")
    assert "is not a folder" in try_folder(tmp_path / "file" / "inside")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert statuses(check_folders(tmp_path / "file" / "x", tmp_path)) == ["fail", "ok", "ok"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written" in try_folder(tmp_path)
    tmp_path.chmod(0o700)


def test_a_folder_that_nobody_can_write():
    assert "/proc cannot be written" in try_folder(Path("/proc/fatefront"))


def test_disk(tmp_path):
    assert check_disk(tmp_path, 10, 1).status in ("ok", "fail")
    much = check_disk(tmp_path, 10**17, 1)
    assert much.status in ("warn", "fail")
    assert "--max-disk" in much.fix or much.status == "fail"
    assert check_disk(tmp_path, 10**17, 10**16).status == "fail"


def test_stores(tmp_path):
    assert check_store(str(tmp_path / "store")).status == "ok"
    (tmp_path / "file").write_text("")
    assert check_store(str(tmp_path / "file" / "store")).status == "fail"
    assert check_store("nothing://x").status == "fail"


class Server(BaseHTTPRequestHandler):
    """Answers as the first part of its path says."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("code", "words"),
    [(401, "MLFLOW_TRACKING_USERNAME"), (403, "--allowed-hosts"), (404, "path"), (200, "path")],
)
def test_servers_that_do_not_answer_as_mlflow(server, code, words):
    finding = check_tracking(f"{server}/{code}")
    assert finding.status == "fail"
    assert words in finding.fix


def test_a_server_that_is_not_there():
    finding = check_tracking("http://127.0.0.1:9")
    assert (finding.status, "fatefront server" in finding.fix) == ("fail", True)


def test_a_password_is_not_shown():
    finding = check_tracking("http://me:secret@127.0.0.1:9")
    assert finding.status == "fail"
    assert "secret" not in finding.message + finding.fix
    finding = check_tracking("postgresql://me:secret@127.0.0.1:9/x")
    assert "secret" not in finding.message + finding.fix


def test_files_of_mlflow(tmp_path):
    assert check_tracking(None).status == check_tracking("none").status == "ok"
    path = tmp_path / "mlflow.db"
    assert check_tracking(f"sqlite:///{path}").status == "ok"
    assert not path.exists()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    assert check_tracking(f"sqlite:///{path}").status == "ok"
    path.write_bytes(b"no database" * 1000)
    assert "damaged" in check_tracking(f"sqlite:///{path}").message
    assert check_tracking("mlruns").status == "fail"


def test_a_space_its_images_and_its_needs(tmp_path):
    write(Synthetic.Config(num_images=30, image_size=16), tmp_path / "set")
    text = (ROOT / "docs/start.md").read_text()
    assert "fatefront doctor" in text
    space = tmp_path / "mine.yaml"
    space.write_text(
        f"name: mine\ndata: {{name: table, path: {tmp_path}/set/metadata.csv, image: path, "
        "attribute: sex, image_size: 16}\nbackbone: resnet18\nsearch: {sampler: grid}\n"
    )
    found, needs = look_at_space(str(space))
    assert statuses(found) == ["ok", "ok"]
    assert needs.image_bytes == 30 * 16 * 16 * 3
    assert needs.plan_bytes > 44e6
    image = next((tmp_path / "set/images").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    next(p for p in (tmp_path / "set/images").iterdir() if p != image).unlink()
    found, _ = look_at_space(str(space))
    assert statuses(found) == ["ok", "fail", "fail"]
    found, _ = look_at_space("quickstrat")
    assert (statuses(found), "quickstart" in found[0].message) == (["fail"], True)


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """The real command; Ray really starts."""
    place = tmp_path_factory.mktemp("doctor")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATEFRONT_CACHE": str(place / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "doctor", "--out", str(place / "runs"), "--json",
         "--tracking-uri", "http://127.0.0.1:9"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return place, done


def test_the_command_says_all_and_ends_with_1(examined):
    place, done = examined
    document = json.loads(done.stdout)
    schema = json.loads((ROOT / "orchestrator/schemas/doctor.json").read_text())
    Draft202012Validator(schema).validate(document)
    found = {f["check"]: f["status"] for f in document["findings"]}
    assert {"python", "packages", "gpu", "ray", "ports", "shared memory", "memory", "open files",
            "permissions", "disk", "tracking"} == set(found)  # fmt: skip
    assert found["ray"] == "ok", document["findings"]
    assert found["tracking"] == "fail"
    assert (done.returncode, document["exit_code"], document["num_fail"]) == (1, 1, 1)
    assert list(place.iterdir()) == []  # nothing is left behind
