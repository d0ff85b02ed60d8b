"""A real sweep in a terminal of its own, watched by others; its end is told to a server."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from jsonschema import Draft202012Validator
from sweep_runs import REPOSITORY, write_space

from orchestrator.ledger.records import read_events

pytestmark = pytest.mark.slow

SECRET = "T0-secret"
NUM_TRIALS = 3
LINE = re.compile(rb"\r\x1b\[2Ktiny  (\d) of 3 done  \d running  0 cached  0 failed  ")


class Hook(BaseHTTPRequestHandler):
    told: ClassVar[list[tuple[str, dict]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append((self.path, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def webhook():
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{SECRET}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, webhook):
    """(folder, bytes of the run's terminal, its stdout, outputs of the watchers by name)."""
    place = tmp_path_factory.mktemp("watched")
    space = write_space(
        place / "tiny.yaml", iterations=2, controls=[],
        prune={"criterion": "snnl", "ratio": 0.3, "site": "conv"},
    )  # fmt: skip
    environment = os.environ | {
        "FATEFRONT_CACHE": str(place / "cache"), "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": "120",
    }  # fmt: skip
    command = [sys.executable, "-m", "orchestrator"]
    folder, terminal = place / "sweep", bytearray()
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [*command, "run", str(space), "--out", str(folder), "--store", str(place / "store"),
         "--tracking-uri", "none", "--workers", "1", "--notify", webhook],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    reader = threading.Thread(target=_read, args=(ours, terminal))
    reader.start()
    outputs = {}
    try:
        _wait_for_a_trial(folder, run)
        watchers = {
            name: subprocess.Popen(
                [*command, "watch", where, *options], env=environment, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for name, where, *options in (
                ("folder", str(folder)),
                ("store", f"file://{place}/store/sweeps/sweep"),
                ("json", str(folder), "--log-format", "json"),
            )
        }  # fmt: skip
        outputs = {name: (w, *w.communicate(timeout=240)) for name, w in watchers.items()}
        out, _ = run.communicate(timeout=240)
    finally:
        run.kill()
        run.wait()
    reader.join(20)
    return folder, bytes(terminal), out.decode(), outputs


def _wait_for_a_trial(folder, run):
    deadline = time.monotonic() + 240
    while not any(e["event"] == "done" for e in read_events(folder)):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _read(file: int, into: bytearray) -> None:
    while True:
        try:
            text = os.read(file, 65536)
        except OSError:  # the other side is closed
            break
        if not text:
            break
        into += text
    os.close(file)


def test_the_line_is_drawn_in_its_place(watched):
    _, terminal, _, _ = watched
    # the cursor is hidden and comes back, for the bar of the images and for the line
    assert terminal.count(b"\x1b[?25l") == terminal.count(b"\x1b[?25h") == 2
    drawn = LINE.findall(terminal)
    assert set(drawn) >= {b"0", b"1", b"2"}
    assert len(drawn) > 3
    assert b" left" in terminal
    assert b" left as planned" in terminal
    # a line of its own for each trial, with the status line below it
    for trial in (b"vanilla (seed 0): f1", b"x 1 (seed 0): f1", b"x 2 (seed 0): f1"):
        assert terminal.count(trial) == 1
    trial = terminal.index(b"x 1 (seed 0): f1")
    assert re.match(rb"[^\r]*\r\ntiny  \d of 3 done", terminal[trial:])
    assert terminal.endswith(b"\x1b[?25h\r\x1b[1A\x1b[2K")  # it is gone at the end


def test_stdout_is_the_result_alone(watched):
    _, _, out, _ = watched
    assert "\x1b" not in out
    assert "3 trials done" in out
    assert " left" not in out


@pytest.mark.parametrize("name", ["folder", "store"])
def test_watchers_see_each_trial_and_the_end(watched, name):
    _, _, _, outputs = watched
    watcher, out, err = outputs[name]
    assert (watcher.returncode, out) == (0, "")
    assert "\x1b" not in err
    assert "\r" not in err
    first, *lines, last = err.splitlines()
    assert re.match(r"tiny  [12] of 3 done  [01] running  0 cached  0 failed  .* left", first)
    assert [line for line in lines if "x 2 (seed 0): f1" in line]
    assert re.match(r"tiny  3 of 3 done  finished  0 cached  0 failed  hypervolume", last)


def test_a_watcher_s_json_lines_fit_their_schema(watched):
    _, _, _, outputs = watched
    watcher, out, err = outputs["json"]
    assert (watcher.returncode, out) == (0, "")
    schema = json.loads((REPOSITORY / "orchestrator/schemas/log.json").read_text())
    events = [json.loads(line) for line in err.splitlines()]
    for event in events:
        Draft202012Validator(schema).validate(event)
    assert events[0]["event"] == "standing"
    assert events[0]["state"] == "running"
    assert events[-2]["state"] == "finished"
    assert events[-1] == {"time": events[-1]["time"], "event": "ended", "exit_code": 0}
    assert [e["status"] for e in events if e["event"] == "trial"][-1] == "done"


def test_the_webhook_is_told_once_and_its_secret_is_nowhere(watched):
    folder, terminal, out, outputs = watched
    ((path, told),) = Hook.told
    assert path == f"/{SECRET}"
    schema = json.loads((REPOSITORY / "orchestrator/schemas/notification.json").read_text())
    Draft202012Validator(schema).validate(told)
    assert (told["event"], told["num_done"], told["exit_code"]) == ("finished", NUM_TRIALS, 0)
    secret = SECRET.encode()
    said = [terminal, out.encode(), *(err.encode() for _, _, err in outputs.values())]
    assert [text for text in said if secret in text] == []
    kept = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert {"events.jsonl", "manifest.json", "sweep.yaml"} <= {path.name for path in kept}
    assert [path for path in kept if secret in path.read_bytes()] == []


def test_a_hook_that_fails_leaves_result_and_exit_code_as_they_are(watched):
    """The same command again, which has nothing to run; its log is JSON lines."""
    folder, _, _, _ = watched
    place = folder.parent
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", str(place / "tiny.yaml"), "--out",
         str(folder), "--store", str(place / "store"), "--tracking-uri", "none", "--workers", "1",
         "--log-format", "json", "--json", "--notify", f"exit 3 # {SECRET}"],
        env=os.environ | {"FATEFRONT_CACHE": str(place / "cache"), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_computed_now"] == 0
    schema = json.loads((REPOSITORY / "orchestrator/schemas/log.json").read_text())
    events = [json.loads(line) for line in done.stderr.splitlines()]
    for event in events:
        Draft202012Validator(schema).validate(event)
    texts = [event["text"] for event in events if event["event"] == "message"]
    assert "note: --notify: the command ended with 3" in texts
    assert SECRET not in done.stdout + done.stderr
    assert events[-1]["event"] == "ended"
