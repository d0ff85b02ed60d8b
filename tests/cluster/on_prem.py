"""Three machines, `ray up clusters/on-prem.yaml`, a sweep over all, two losses, `ray down`.

    unshare --net --mount --pid --ipc --fork --mount-proc --kill-child python on_prem.py PLACE

Writes what it saw into PLACE/found.json, the outputs of all commands beside it. Needs root,
openssh-server, rsync and iproute2. Bounded: no step waits longer than its limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hosts import SHARED, Host, Site, build_wheel, make_environment
from tiny_space import TINY

ROOT = Path(__file__).resolve().parents[2]
SPACE = TINY | {
    "name": "three-machines", "data": TINY["data"] | {"num_images": 96}, "seeds": [0, 1],
}  # fmt: skip
"""22 trials: two roots, and below each the control arms and two ratios, two deep."""


class Laptop:
    """Where `ray up` is called: the top level of the project, with the token and the key."""

    def __init__(self, place: Path) -> None:
        self.place, self.home = place, place / "laptop"
        self.bin = Path(sys.executable).parent
        self.config = place / "on-prem.yaml"
        (self.home / ".ray").mkdir(parents=True)
        token = self.home / ".ray" / "auth_token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = os.environ | {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "OMP_NUM_THREADS": "1",
        }

    def adapt(self, site: Site) -> None:
        """What a user changes in clusters/on-prem.yaml, and nothing else."""
        head, *workers = site.hosts.values()
        text = (ROOT / "clusters/on-prem.yaml").read_text()
        for old, new in {
            "head_ip: 192.168.1.10": f"head_ip: {head.address}",
            "[192.168.1.11, 192.168.1.12]": f"[{', '.join(w.address for w in workers)}]",
            "ssh_user: you": "ssh_user: root",
            "~/.ssh/id_ed25519": str(site.place / "key"),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)

    def call(self, name: str, *command: str, seconds: float = 300.0) -> tuple[int, str]:
        """Run a command to its end; its output goes to ``NAME.log``, too."""
        with (self.place / f"{name}.log").open("w") as log:
            ended = subprocess.run(
                command, cwd=self.place, env=self.environment, timeout=seconds,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return ended.returncode, (self.place / f"{name}.log").read_text()

    def ray(self, name: str, verb: str, *more: str, seconds: float = 300.0) -> tuple[int, str]:
        """A command of Ray's launcher on the adapted file."""
        command = [str(self.bin / "ray"), verb, str(self.config), *more]
        return self.call(name, *command, seconds=seconds)

    def fatefront(self, name: str, *arguments: str, seconds: float = 600.0) -> tuple[int, str]:
        """The project's own command line, on the laptop."""
        command = [sys.executable, "-m", "orchestrator", *arguments]
        return self.call(name, *command, seconds=seconds)


def main(place: Path) -> None:
    """The whole story; what is asserted is in test_on_prem.py."""
    begun = time.monotonic()
    found: dict[str, Any] = {"seconds": {}}

    def took(step: str) -> None:
        found["seconds"][step] = round(time.monotonic() - begun, 1)
        (place / "found.json").write_text(json.dumps(found, indent=1))
        print(f"{found['seconds'][step]:7.1f} s  {step}", flush=True)

    laptop = Laptop(place)
    build_wheel(ROOT, place)
    site = Site(place)
    head, *workers = (site.add(f"h{n}", 10 + n) for n in range(3))
    for host in (head, *workers):
        (host.home / "fatefront").mkdir()
        make_environment(host.home / "fatefront" / "venv", place / "packages")
    laptop.adapt(site)
    space = place / "shared" / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    took("three machines")

    found["check"] = laptop.fatefront("check", "cluster", "check", str(laptop.config))[0]
    found["alone"] = laptop.fatefront(
        "alone", "run", str(space), "--out", str(place / "alone"), "--tracking-uri", "none"
    )[0]
    took("the same sweep on one machine")
    found["up"] = laptop.ray("up", "up", "-y", "--no-config-cache")[0]
    took("ray up")
    found["num_nodes"] = _wait_for_nodes(laptop, 3)
    found["listening"] = {h.name: _listening(h) for h in (head, *workers)}
    took("three nodes")

    found["sweep"] = _sweep(laptop, site, found, took)
    took("the sweep over three machines")
    found["records_equal"] = _results(place / "alone") == _results(head.home / "runs/three")
    found["num_trials"] = len(_results(place / "alone"))
    found["hosts"] = _hosts_of(head.home / "runs/three")
    found["twice"] = _done_twice(head.home / "runs/three")
    found["tracked"] = _tracked(head)
    found["down"] = laptop.ray("down", "down", "-y")[0]
    found["left"] = _wait_for_none((head, *workers), 120)
    took("ray down")


def _sweep(laptop: Laptop, site: Site, found: dict[str, Any], took: Callable[[str], None]) -> int:
    """`fatefront run --address auto` on the head; in the middle a cable and a process go."""
    head, first, second = site.hosts.values()
    folder = head.home / "runs" / "three"
    command = f"fatefront run {SHARED}/space.yaml --address auto --out ~/runs/three --workers 3"
    with (laptop.place / "sweep.log").open("w") as log:
        driver = subprocess.Popen(
            [str(laptop.bin / "ray"), "exec", str(laptop.config), command], cwd=laptop.place,
            env=laptop.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    _wait_for_done(folder, 4, driver, 180)
    found["hosts_before"] = _hosts_of(folder)
    _wait_for_workers((first, second), driver, 180)
    first.cut_off()
    took("cable of h1 out")
    killed = [line for line in second.processes() if "ray::Worker" in line]
    for line in killed:
        second.inside("kill", "-9", line.split()[0])
    found["killed"] = len(killed)
    took("workers on h2 killed")
    _wait_for_done(folder, 10, driver, 300)
    first.plug_in()
    took("cable of h1 in")
    try:
        return driver.wait(420)
    except subprocess.TimeoutExpired:
        driver.kill()
        return -1


def _wait_for_done(
    folder: Path, number: int, driver: subprocess.Popen[bytes], seconds: float
) -> None:
    end = time.monotonic() + seconds
    while len(_events(folder, "done")) < number:
        if driver.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"fewer than {number} trials done, see sweep.log")
        time.sleep(0.2)


def _wait_for_workers(
    hosts: tuple[Host, ...], driver: subprocess.Popen[bytes], seconds: float
) -> None:
    """Until there is something to lose on each of them."""
    end = time.monotonic() + seconds
    while not all(any("ray::Worker" in line for line in host.processes()) for host in hosts):
        if driver.poll() is not None or time.monotonic() > end:
            raise RuntimeError("no worker on some host, see sweep.log")
        time.sleep(0.2)


def _tracked(head: Host) -> dict[str, int]:
    """Runs in the database of the head's MLflow server, by what they are of and their end."""
    ask = (
        "SELECT tags.value || ' ' || runs.status, COUNT(*) FROM runs JOIN tags USING (run_uuid) "
        "WHERE tags.key = 'level' AND runs.lifecycle_stage = 'active' GROUP BY 1"
    )
    with contextlib.closing(sqlite3.connect(head.home / "mlflow" / "mlflow.db")) as database:
        return dict(database.execute(ask))


def _events(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def _results(folder: Path) -> dict[str, Any]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {record["key"]: record["result"] for record in map(json.loads, lines)}


def _hosts_of(folder: Path) -> dict[str, int]:
    hosts: dict[str, int] = {}
    for event in _events(folder, "done"):
        host = event.get("execution", {}).get("host", "?")
        hosts[host] = hosts.get(host, 0) + 1
    return hosts


def _done_twice(folder: Path) -> int:
    keys = [event["key"] for event in _events(folder, "done")]
    return len(keys) - len(set(keys))


def _wait_for_nodes(laptop: Laptop, number: int) -> int:
    """`ray status` on the head until it has so many active nodes."""
    active = 0
    for attempt in range(20):
        _, text = laptop.ray(f"status{attempt}", "exec", "ray status")
        listed = text.partition("Active:")[2].partition("Pending:")[0]
        active = sum(map(int, re.findall(r"^ *(\d+) local\.cluster\.node", listed, re.MULTILINE)))
        if active >= number:
            break
        time.sleep(3)
    return active


def _listening(host: Host) -> list[str]:
    """Addresses and ports that answer on a machine."""
    lines = host.inside("ss", "-Hltn").stdout.splitlines()
    return sorted({line.split()[3] for line in lines})


def _wait_for_none(hosts: tuple[Host, ...], seconds: float) -> dict[str, list[str]]:
    """What runs beside ssh servers, once there is nothing or the time is over."""
    end = time.monotonic() + seconds
    while True:
        left = {
            host.name: [
                line
                for line in host.processes()
                if "sshd" not in line and not line.endswith("ps -e -o pid=,args=")
            ]
            for host in hosts
        }
        if not any(left.values()) or time.monotonic() > end:
            return left
        time.sleep(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
