"""A machine room on one machine: a real Ray cluster of several nodes and a sweep on it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml
from on_prem import SPACE

LIMIT = 400.0
"""Seconds for anything that is waited for."""


def write_space(place: Path) -> Path:
    """Eleven trials, two deep, of some seconds each: there is always one to lose."""
    recipe = SPACE["training"] | {"epochs": 3}
    space = SPACE | {"name": "losses", "seeds": [0], "training": recipe, "finetune": recipe}
    path = place / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    return path


class Room:
    """A head and workers, by their CPUs, and `fatefront run` on them."""

    def __init__(
        self,
        place: Path,
        folder: Path,
        store: Path,
        head: int = 1,
        workers: tuple[int, ...] = (1, 1),
    ) -> None:
        from ray.cluster_utils import Cluster

        self.place, self.folder = place, folder
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": head, "object_store_memory": 100 << 20},
        )
        for cpus in workers:
            self.cluster.add_node(num_cpus=cpus, object_store_memory=100 << 20)
        self.options = [
            str(place / "space.yaml"), "--out", str(folder), "--store", str(store),
            "--workers", "3", "--tracking-uri", "none", "--address", self.cluster.address,
        ]  # fmt: skip

    def drive(self) -> subprocess.Popen[bytes]:
        """Start the driver."""
        log = (self.place / f"{self.folder.parent.name}.log").open("wb")
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "run", *self.options], stdout=log, stderr=log
        )

    def busy(self) -> tuple[Any, str]:
        """A worker node that has just begun its one trial, and Ray's id of it."""
        end = time.monotonic() + LIMIT
        before = set(self.cluster.worker_nodes)
        while time.monotonic() < end:
            now = {node for node in self.cluster.worker_nodes if running_trials(node)}
            for node in now - before:
                return node, node.node_id
            before = now
            time.sleep(0.02)
        raise RuntimeError("no worker node begins a trial")


def running_trials(node: Any) -> list[psutil.Process]:
    """Worker processes of a node that are in the middle of a trial."""
    found = []
    for info in node.all_processes["raylet"]:
        for process in psutil.Process(info.process.pid).children(recursive=True):
            try:
                if process.cmdline()[:1] == ["ray::Worker.run"]:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
    return found


@contextlib.contextmanager
def metadata_of_aws(seconds: float) -> Iterator[None]:
    """What a spot machine's metadata say once it is to go in so many seconds."""
    when = datetime.now(UTC) + timedelta(seconds=seconds)
    said = json.dumps({"action": "terminate", "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")})

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer("token")

        def do_GET(self) -> None:
            self._answer(said)

        def _answer(self, text: str) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    yield
    server.shutdown()


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Events of a kind so far."""
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_for_done(folder: Path, number: int) -> None:
    """Until so many trials are done."""
    end = time.monotonic() + LIMIT
    while len(events(folder, "done")) < number:
        if time.monotonic() > end:
            raise RuntimeError(f"fewer than {number} trials done in {folder}")
        time.sleep(0.05)


def results(folder: Path) -> dict[str, Any]:
    """Key -> what is promised to be the same everywhere."""
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {record["key"]: record["result"] for record in map(json.loads, lines)}


def seen(folder: Path, code: int) -> dict[str, Any]:
    """What the tests look at."""
    done = [event["key"] for event in events(folder, "done")]
    return {
        "code": code,
        "results": results(folder),
        "num_done": len(done),
        "num_twice": len(done) - len(set(done)),
        "resumed": [
            event["execution"]["checkpoint"]["resumed_from"]
            for event in events(folder, "done")
            if "resumed_from" in event.get("execution", {}).get("checkpoint", {})
        ],
        "num_scheduled": len(events(folder, "scheduled")),
        "retries": [event["error"] for event in events(folder, "retry")],
        "failed": [event["error"] for event in events(folder, "failed")],
    }


class Watch(threading.Thread):
    """How much less memory the machine has since, at most, and the largest worker, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = psutil.virtual_memory().available
        self.most = self.worker = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Look ten times a second."""
        while not self.over.wait(0.1):
            self.most = max(self.most, self.before - psutil.virtual_memory().available)
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                if (process.info["cmdline"] or [""])[0].startswith("ray::Worker"):
                    self.worker = max(self.worker, process.info["memory_info"].rss)
