"""A hook may do what it likes: the sweep never waits long for it, and nobody learns its secret."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from orchestrator.command import run_command
from orchestrator.run import RunOptions
from orchestrator.watching.notify import Notifier, make_notifier, without_notify

ROOT = Path(__file__).resolve().parents[2]
TOLD = {"event": "finished", "text": "mine: finished"}


class Hook(BaseHTTPRequestHandler):
    """Answers as its path says; keeps what it was told."""

    told: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.append(json.loads(body) | {"type": self.headers["Content-Type"]})
        if self.path.startswith("/drip"):
            for _ in range(20):  # longer than the limit, each byte sooner
                try:
                    self.wfile.write(b"H")
                    self.wfile.flush()
                except OSError:
                    break
                time.sleep(0.1)
            return
        self.send_response(int(self.path.strip("/").partition("?")[0] or 200))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.daemon_threads = True
    Hook.told = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_the_document(server):
    assert Notifier(f"{server}/200?token=secret").notify(TOLD) is None
    assert Hook.told == [TOLD | {"type": "application/json"}]


@pytest.mark.parametrize(
    ("path", "words"), [("/500?token=secret", "answered 500"), ("/drip/secret", "within 0.5 s")]
)
def test_a_webhook_that_fails_or_hangs_is_one_line_without_its_secret(server, path, words):
    begun = time.monotonic()
    problem = Notifier(server + path, time_limit=0.5).notify(TOLD)
    assert time.monotonic() - begun < 5
    assert words in problem
    assert "127.0.0.1" in problem
    assert "secret" not in problem


def test_user_and_password_of_a_webhook(server):
    assert Notifier(server.replace("http://", "http://user:secret@") + "/200").notify(TOLD) is None
    assert Hook.told[0]["text"] == TOLD["text"]


def test_a_webhook_that_is_not_there():
    problem = Notifier("http://user:secret@127.0.0.1:9/secret").notify(TOLD)
    assert "cannot be reached (ConnectionError)" in problem
    assert "secret" not in problem
    assert "secret" not in repr(make_notifier("http://user:secret@127.0.0.1:9/secret"))


def test_a_command_gets_the_document(tmp_path):
    assert Notifier(f"cat > {tmp_path}/told | true").notify(TOLD) is None
    assert json.loads((tmp_path / "told").read_text()) == TOLD


def test_a_command_that_fails_or_hangs(tmp_path):
    assert Notifier("exit 3 # secret").notify(TOLD) == "--notify: the command ended with 3"
    begun = time.monotonic()
    problem = Notifier(f"sleep 60 & echo $! > {tmp_path}/pid; wait", time_limit=0.5).notify(TOLD)
    assert problem == "--notify: the command was ended after 0.5 s"
    assert time.monotonic() - begun < 5
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break  # ended; whoever inherits it has not looked yet
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists(), "what the command started goes on"


def test_the_ledger_s_command_does_not_have_it():
    options = RunOptions(space="mine.yaml", notify="https://h/secret", log_format="json", trials=3)
    assert run_command(options) == "fatefront run mine.yaml --trials 3"


@pytest.mark.parametrize(
    ("words", "left", "value"),
    [
        (["run", "x", "--notify", "a b", "--json"], ["run", "x", "--json"], "a b"),
        (["run", "--notify=u", "x"], ["run", "x"], "u"),
        (["run", "x"], ["run", "x"], None),
        (["run", "x", "--notify"], ["run", "x", "--notify"], None),
    ],
)
def test_the_option_is_taken_off_the_command_line(words, left, value):
    assert without_notify(words) == (left, value)


def test_nobody_reads_the_secret_in_the_list_of_processes(tmp_path):
    """The process goes on under its own number, with a command line that lacks the option."""
    command = [sys.executable, "-m", "orchestrator", "run", "quickstart", "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATEFRONT_CACHE": str(tmp_path / "c")}
    process = subprocess.Popen(
        [*command, str(tmp_path / "s"), "--set", "data.num_images=200000", "--notify", "secret"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        words: list[str] = []
        while (not words[1:] or "secret" in words) and time.monotonic() < deadline:
            words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
            time.sleep(0.02)
        assert process.poll() is None
        assert words[1:5] == ["-m", "orchestrator", "run", "quickstart"]
        assert "secret" not in words
    finally:
        process.kill()
        process.communicate()


def test_a_sweep_that_an_error_ends_is_told_too(tmp_path):
    """Images that are not there: found after the command line was in order."""
    (tmp_path / "t.csv").write_text("path,label,sex\n" + "".join(
        f"{i}.png,{'ab'[i % 2]},{'mf'[i // 2 % 2]}\n" for i in range(24)
    ))  # fmt: skip
    (tmp_path / "space.yaml").write_text(
        f"name: mine\ndata: {{name: table, path: {tmp_path}/t.csv, attribute: sex}}\n"
        "backbone: resnet18\nsearch: {sampler: grid}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATEFRONT_CACHE": str(tmp_path / "c")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", "space.yaml", "--log-format", "json",
         "--notify", "cat > told"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    *_, last = (json.loads(line) for line in done.stderr.splitlines())
    assert (last["event"], last["exit_code"]) == ("error", 2)
    told = json.loads((tmp_path / "told").read_text())
    assert (told["event"], told["exit_code"], told["sweep"]) == ("failed", 2, "mine")
    assert told["error"] == last["message"]
    assert "0.png" in told["error"]
