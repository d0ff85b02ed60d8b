"""`submit`, `logs`, `jobs` and `stop` against a real head with token authentication.

    unshare --net --mount --pid --ipc --fork --mount-proc --kill-child \\
        python jobs_on_a_head.py PLACE

Writes what it saw into PLACE/found.json.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml
from tiny_space import TINY

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8265"
SPACE = TINY | {"iterations": 1, "finetune": TINY["finetune"] | {"epochs": 12}}
"""Trials of seconds: some are still to come when `status` has answered."""
"""Six trials."""


def main(place: Path) -> None:
    """A driver that is killed and comes back; a job that is stopped and submitted again."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=True)
    home = place / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    (home / ".ray" / "auth_token").chmod(0o600)
    environment = os.environ | {
        "HOME": str(home), "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "FATEFRONT_CACHE": str(place / "cache"), "RAY_AUTH_MODE": "token",
    }  # fmt: skip
    subprocess.run(
        [BIN / "ray", "start", "--head", "--node-ip-address=127.0.0.1", "--num-cpus=2",
         "--temp-dir", f"/tmp/ray-{os.getpid()}", "--dashboard-host=127.0.0.1"],
        env=environment, check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    client = Client(place, environment)
    found: dict[str, Any] = {}

    space = place / "tiny.yaml"
    space.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    folder = home / "runs" / "tiny"
    first = client.json("submit", str(space), "--workers", "1", "--tracking-uri", "none")
    found["submitted"] = first
    _wait_for_done(folder, 2, client, first["job"])
    found["status"] = client.json("status", first["job"])
    (driver,) = _drivers()
    driver.send_signal(signal.SIGKILL)
    code, text = client.call("logs", first["job"], "--follow")
    found["followed"] = {"code": code, "text": text}
    found["done"] = _num_done(folder)
    found["drivers_left"] = len(_drivers())

    further = ["--set", "seeds=[0,1]", "--workers", "1", "--tracking-uri", "none"]
    second = client.json("submit", str(space), *further, "--out", "~/runs/tiny-again")
    again = home / "runs" / "tiny-again"
    _wait_for_done(again, 1, client, second["job"])
    found["stopped"] = client.json("stop", second["job"])
    found["drivers_after_stop"] = _wait_for_no_driver()
    found["done_at_stop"] = _num_done(again)
    found["logs_of_stopped"] = client.call("logs", second["job"], "--follow")[0]
    time.sleep(1)  # jobs are named by the second
    third = client.json("submit", str(space), *further, "--out", "~/runs/tiny-again")
    found["resumed"] = client.call("logs", third["job"], "--follow")[0]
    found["done_in_the_end"] = _num_done(again)
    found["done_twice"] = _num_done(again) - len(_keys(again))
    found["jobs"] = client.json("jobs")
    options = ["--workers", "1", "--tracking-uri", "none", "--out", "~/runs/tiny"]
    found["run_there"] = client.call("run", str(space), *options)

    found["status_in_the_end"] = client.call("status", first["job"])
    found["jobs_after_asking"] = client.json("jobs")
    found["unknown_job"] = client.call("stop", "no-such-job")
    found["status_of_unknown"] = client.call("status", "no-such-job")
    token = environment.pop("RAY_AUTH_MODE")
    (home / ".ray" / "auth_token").rename(home / ".ray" / "elsewhere")
    found["without_token"] = client.call("jobs")
    environment["RAY_AUTH_MODE"] = token
    (place / "found.json").write_text(json.dumps(found, indent=1))


class Client:
    """The command line on the laptop's side."""

    def __init__(self, place: Path, environment: dict[str, str]) -> None:
        self.place, self.environment = place, environment

    def call(self, verb: str, *arguments: str) -> tuple[int, str]:
        """Exit code and both outputs."""
        ended = self._run(verb, *arguments)
        return ended.returncode, ended.stdout + ended.stderr

    def _run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", verb, *arguments, "--address", ADDRESS],
            cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=400,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def json(self, verb: str, *arguments: str) -> dict[str, Any]:
        """The document."""
        ended = self._run(verb, *arguments, "--json")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        document: dict[str, Any] = json.loads(ended.stdout)
        return document


def _drivers() -> list[psutil.Process]:
    """Running `fatefront run`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words[1:4] == ["-m", "orchestrator", "run"] and process.info["status"] != "zombie":
            found.append(process)
    return found


def _wait_for_no_driver() -> int:
    end = time.monotonic() + 60
    while _drivers() and time.monotonic() < end:
        time.sleep(0.2)
    return len(_drivers())


def _keys(folder: Path) -> set[str]:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {event["key"] for event in map(json.loads, lines) if event["event"] == "done"}


def _num_done(folder: Path) -> int:
    path = folder / "events.jsonl"
    return path.read_text().count('"event":"done"') if path.exists() else 0


def _wait_for_done(folder: Path, number: int, client: Client, job: str) -> None:
    end = time.monotonic() + 300
    while len(_keys(folder)) < number:
        if time.monotonic() > end:
            raise RuntimeError(client.call("logs", job)[1])
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
