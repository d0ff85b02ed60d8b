"""A sweep whose processes are killed while it runs, and what must hold of it at its end.

The sweep is that of `tests/sweep`, tracked by a real MLflow server. One start of the command is
one attempt: a victim is killed at a drawn moment, and the same command is started again until it
ends well. What is compared is `record.result` of every trial with those of a sweep that nobody
touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from sweep_runs import Cli, Driver, alive, assert_each_node_once, processes_of, results

VICTIMS = ("driver", "worker", "raylet", "gcs_server", "tracking", "mlflow server", "group")
"""``group``: the driver with everything in its process group, at once."""
ATTEMPT_SECONDS = 300.0
"""Longer than any attempt needs: one that is still there then hangs."""

START_SECONDS = 20.0
"""Until the first trial of an attempt begins, about."""
LOCKS = (".lock", ".tracking.lock")


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class MlflowServer:
    """`mlflow server` on SQLite, which can be killed and comes back on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port",
            str(self.port), "--workers", "1", "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        end = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < end, "MLflow's server does not answer"
            time.sleep(0.2)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
            return True
        return False

    def kill(self) -> None:
        """Kill it and its workers, wherever they are."""
        if self.process is not None:
            own = processes_of(self.process.pid)
            for process in own:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(20)
            psutil.wait_procs(own, timeout=20)
            self.process = None


@dataclass
class Outcome:
    """One disturbed sweep."""

    kills: list[str] = field(default_factory=list)
    """Victims in their order; ``none``: the attempt ended before its moment."""
    problems: list[str] = field(default_factory=list)
    num_attempts: int = 0
    unused: list[str] = field(default_factory=list)
    """Victims that were left when it ended."""


def find_victims(name: str, driver: Driver) -> list[psutil.Process]:
    """The processes of a name that run now; of workers all, from which one is drawn."""
    if name == "driver":
        return processes_of(driver.process.pid)[:1]
    if name == "worker":
        notes = [json.loads(p.read_text()) for p in (driver.folder / ".workers").glob("*.json")]
        pids = {note["pid"] for note in notes}
        return [p for p in alive(driver.look()) if p.pid in pids]
    found = []
    for process in alive(driver.look()):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = process.cmdline()
            is_tracking = any("orchestrator.tracking" in word for word in line)
            is_named = bool(line) and Path(line[0]).name == name
            if is_named or (name == "tracking" and is_tracking):
                found.append(process)
    return found


def kill(name: str, driver: Driver, server: MlflowServer, rng: np.random.Generator) -> bool:
    """Kill the victim as soon as there is one; False if the attempt ended before."""
    if name == "mlflow server":
        server.kill()
        time.sleep(rng.uniform(0, 5))
        server.start()
        return driver.process.poll() is None
    if name == "group":
        driver.look()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.process.pid, signal.SIGKILL)
        return True
    while driver.process.poll() is None:
        found = find_victims(name, driver)
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[rng.integers(len(found))].kill()
            return True
        time.sleep(0.1)
    return False


def attempt(driver: Driver, seconds: float) -> int | None:
    """Wait for its end, noting its processes; None: it is still there after ``seconds``."""
    end = time.monotonic() + seconds
    while driver.process.poll() is None:
        if time.monotonic() > end:
            return None
        driver.look()
        time.sleep(0.2)
    return int(driver.process.returncode)


def num_done(folder: Path) -> int:
    """Trials that the ledger of a sweep says are done."""
    events = folder / "events.jsonl"
    return events.read_bytes().count(b'"event":"done"') if events.exists() else 0


def disturb(
    cli: Cli,
    space: Path,
    folder: Path,
    server: MlflowServer,
    victims: list[str],
    rng: np.random.Generator,
    undisturbed_seconds: float,
    num_trials: int,
) -> Outcome:
    """Run a sweep to its end, one victim an attempt, at a moment drawn from the whole length of an
    undisturbed one (later ones: of what is left of it).

    Args:
        num_trials: of the whole sweep.
    """
    outcome = Outcome()
    remaining = list(victims)
    while outcome.num_attempts < len(victims) + 6:
        outcome.num_attempts += 1
        driver = cli.start(space, folder, "--workers", "2", tracking_uri=server.uri)
        if remaining:
            name = remaining.pop(0)
            left = 1 - num_done(folder) / num_trials
            longest = START_SECONDS + (undisturbed_seconds - START_SECONDS) * left
            moment = time.monotonic() + rng.uniform(0, longest)
            while time.monotonic() < moment and driver.process.poll() is None:
                driver.look()
                time.sleep(0.1)
            ended = driver.process.poll() is not None
            killed = not ended and kill(name, driver, server, rng)
            outcome.kills.append(name if killed else "none")
        code = attempt(driver, ATTEMPT_SECONDS)
        if code is None:
            outcome.problems.append(f"hangs after {outcome.kills[-1:]}")
            driver.signal(signal.SIGKILL)
        elif code == 2:
            outcome.problems.append(f"refused: {driver.finish()[2][-300:]}")
        if code == 0:
            outcome.unused = remaining
            return outcome
    outcome.problems.append("did not end")
    return outcome


def what_is_wrong(folder: Path, expected: dict[str, object], server: MlflowServer) -> list[str]:
    """Everything in which a sweep that ended differs from one that nobody touched."""
    found = []
    own = results(folder)
    if own.keys() != expected.keys():
        found.append(f"{len(own)} of {len(expected)} trials")
    differ = [key for key in own.keys() & expected.keys() if own[key] != expected[key]]
    if differ:
        found.append(f"results differ: {differ}")
    try:
        assert_each_node_once(folder)
    except AssertionError as error:
        found.append(f"computed twice: {error}")
    found += _wrong_runs(folder, own, server)
    return [*found, *_drafts(folder), *orphan_files(folder / "store" / "nodes")]


def _wrong_runs(folder: Path, own: dict[str, object], server: MlflowServer) -> list[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server.uri)
    sweep_id = json.loads((folder / "manifest.json").read_text())["sweep_id"]
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs, token = [], None
    while True:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    runs = [r for r in runs if r.data.tags.get("fatefront.sweep_id") == sweep_id]
    kinds = Counter(r.data.tags.get("fatefront.kind", "?") for r in runs)
    keys = Counter(r.data.tags["fatefront.key"] for r in runs if "fatefront.key" in r.data.tags)
    found = []
    if set(keys) != set(own) or set(keys.values()) != {1}:
        found.append(f"MLflow has {len(keys)} trials, {sum(keys.values())} runs ({dict(kinds)})")
    running = [r.info.run_name for r in runs if r.info.status == "RUNNING"]
    if running:
        found.append(f"MLflow has runs that are RUNNING: {running}")
    return found


def _drafts(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        is_draft = path.name.startswith(".") and path.name not in LOCKS
        if path.is_file() and is_draft:
            found.append(f"draft {path.relative_to(folder)}")
    return found


def orphan_files(nodes: Path) -> list[str]:
    """Files of a store that no ``node.json`` lists, and nodes that were never committed."""
    found = []
    for node in nodes.glob("*/*"):
        document = node / "node.json"
        if not document.exists():
            found.append(f"node without a document: {node.name}")
            continue
        listed = document.read_text()
        for path in node.rglob("*"):
            # beside node.json: what was measured later
            is_content = path.is_file() and path.parent != node
            if is_content and str(path.relative_to(node)) not in listed:
                found.append(f"orphan {path.relative_to(nodes)}")
    return found
