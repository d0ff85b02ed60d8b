"""Sweeps on real Ray, started as users start them: a command in its own process group.

Every process that a test starts is gone at its end, or the test fails.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from orchestrator.ledger.records import load_records, read_events

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = {"epochs": 1, "batch_size": 8, "schedule": "constant", "normalise": "imagenet"}
SPACE = {
    "name": "tiny",
    "data": {
        "name": "synthetic", "num_images": 64, "image_size": 32, "classes": ["nv", "mel"],
        "minority_share": 0.5, "images_per_patient": 1.0,
    },
    "backbone": "resnet18",
    "training": RECIPE,
    "finetune": RECIPE,
    "prune": {"criterion": "snnl", "ratio": {"choice": [0.1, 0.3]}, "site": "conv"},
    "iterations": 2,
    "seeds": [0],
    "search": {"sampler": "grid"},
}  # fmt: skip
"""11 trials: the root, and none, and snnl and random at two ratios, each two deep."""


def processes_of(pid: int) -> list[psutil.Process]:
    """The process and all that it started, Ray's included."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run (a zombie does not)."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_gone(processes: list[psutil.Process], seconds: float = 60.0) -> None:
    """Wait until all are gone."""
    end = time.monotonic() + seconds
    while left := alive(processes):
        assert time.monotonic() < end, f"still there after {seconds} s: {left}"
        time.sleep(0.2)


class Driver:
    """One running `fatefront run`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.seen: dict[int, psutil.Process] = {}
        self.listening: set[tuple[str, str]] = set()

    def look(self) -> list[psutil.Process]:
        """Note what runs below the driver now."""
        for process in processes_of(self.process.pid):
            self.seen.setdefault(process.pid, process)
        return list(self.seen.values())

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Events in the folder so far."""
        return [e for e in read_events(self.folder) if e["event"] in kinds]

    def wait_for(self, kind: str, num: int, seconds: float = 240.0) -> None:
        """Wait until the ledger has ``num`` events of a kind."""
        end = time.monotonic() + seconds
        while len(self.events(kind)) < num:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, f"fewer than {num} {kind} after {seconds} s"
            time.sleep(0.05)
        self.look()

    def command_lines(self) -> set[str]:
        """Wait for the driver's end; returns the command lines of its processes until then, and
        notes the addresses on which they listened in ``listening`` (address, process).
        """
        lines = set()
        while self.process.poll() is None:
            for process in self.look():
                with contextlib.suppress(psutil.Error):
                    lines.add(" ".join(process.cmdline()))
                    self.listening |= {
                        (connection.laddr.ip, process.name())
                        for connection in process.net_connections("inet")
                        if connection.status == psutil.CONN_LISTEN
                    }
            time.sleep(0.3)
        return lines

    def signal(self, number: int) -> tuple[int, str, str]:
        """Send a signal to the driver alone; returns exit code and outputs."""
        self.look()
        self.process.send_signal(number)
        return self.finish(120)

    def finish(self, seconds: float = 300.0) -> tuple[int, str, str]:
        """Wait for the driver; returns exit code and outputs."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


class Cli:
    """Runs the command line; knows all that it started."""

    def __init__(self, cache: Path) -> None:
        self.environment = os.environ | {
            "FATEFRONT_CACHE": str(cache),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "default",
            "RAY_ADDRESS": "127.0.0.1:9",  # somebody else's cluster: not ours to join unasked
        }
        self.drivers: list[Driver] = []

    def start(
        self,
        space: Path,
        folder: Path,
        *options: str,
        tracking_uri: str = "none",
        said_in: Path | None = None,
    ) -> Driver:
        """`fatefront run SPACE --out FOLDER OPTIONS` in the background; without MLflow unless its
        address is given. What it says goes into files of `said_in`, beside FOLDER if not given.
        """
        command = [
            sys.executable, "-m", "orchestrator", "run", str(space), "--out", str(folder),
            "--tracking-uri", tracking_uri, *options,
        ]  # fmt: skip
        # no pipes: what outlives a killed driver would keep them open
        said_in = said_in or folder.parent
        outputs = [(said_in / f"{folder.name}.{name}").open("w+") for name in ("out", "err")]
        process = _Process(command, outputs, self.environment, folder.parent)
        driver = Driver(process, folder)
        self.drivers.append(driver)
        return driver

    def run(self, space: Path, folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
        """The same to its end with `--json`; returns exit code, document and stderr."""
        code, out, err = self.start(space, folder, "--json", *options).finish()
        return code, json.loads(out), err

    def end(self) -> list[psutil.Process]:
        """End what is left of all drivers; returns what had to be ended."""
        left = []
        for driver in self.drivers:
            left += alive(driver.look())
            driver.process.close()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=20)
        return left


class _Process(subprocess.Popen[str]):
    """A process whose outputs go to files that are read at its end."""

    def __init__(
        self, command: list[str], outputs: list[Any], environment: dict[str, str], place: Path
    ) -> None:
        self.outputs = outputs
        super().__init__(
            command, stdin=subprocess.DEVNULL, stdout=outputs[0], stderr=outputs[1], text=True,
            env=environment, cwd=place, start_new_session=True,
        )  # fmt: skip

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        texts = []
        for file in self.outputs:
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]

    def close(self) -> None:
        if self.poll() is None:
            self.kill()
            self.wait(20)
        for file in self.outputs:
            file.close()


def write_space(path: Path, **changes: Any) -> Path:
    """The tiny space, changed, as a YAML file."""
    path.write_text(yaml.safe_dump(SPACE | changes, sort_keys=False))
    return path


def results(folder: Path) -> dict[str, Any]:
    """Key -> what is promised to be the same wherever it is computed."""
    return {key: record["result"] for key, record in load_records(folder).items()}


def assert_each_node_once(folder: Path) -> None:
    """No key has two results, and none was handed out after it was committed."""
    done: dict[str, float] = {}
    for event in read_events(folder):
        if event["event"] == "done":
            assert event["key"] not in done
            done[event["key"]] = event["time"]
        elif event["event"] == "scheduled":
            assert event["key"] not in done
    for event in read_events(folder):
        if event["event"] == "scheduled" and event["key"] in done:
            node = folder / "store" / "nodes" / event["key"][:2] / event["key"] / "node.json"
            if node.exists():
                assert event["time"] < node.stat().st_mtime
