"""Real Ray clusters of several nodes on this machine, and what is taken from them in the middle.

    unshare --net --mount --pid --ipc --fork --mount-proc --kill-child python losses.py PLACE CASE

Each case is one machine room with a sweep in it; what it saw is in PLACE/CASE.json. Whoever kills
``unshare`` cuts the power of all of it.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from on_prem import SPACE
from rooms import (
    LIMIT,
    Room,
    Watch,
    metadata_of_aws,
    running_trials,
    seen,
    wait_for_done,
    write_space,
)

from orchestrator.cluster.spot_notice import watch

ROOT = Path(__file__).resolve().parents[2]


def undisturbed(place: Path) -> dict[str, Any]:
    """The same sweep on one machine."""
    folder = place / "undisturbed" / "sweep"
    code = subprocess.call(
        [sys.executable, "-m", "orchestrator", "run", str(place / "space.yaml"), "--out",
         str(folder), "--tracking-uri", "none", "--workers", "2"]
    )  # fmt: skip
    return seen(folder, code)


def node(place: Path) -> dict[str, Any]:
    """A worker node loses its power in the middle of a trial."""
    room = Room(place, place / "node" / "sweep", place / "node" / "store")
    driver = room.drive()
    wait_for_done(room.folder, 2)
    victim, _ = room.busy()
    room.cluster.remove_node(victim, allow_graceful=False)
    return seen(room.folder, driver.wait(LIMIT))


def notice(place: Path) -> dict[str, Any]:
    """A spot machine is told that it goes, and goes as soon as its trial has left a checkpoint."""
    room = Room(place, place / "notice" / "sweep", place / "notice" / "store")
    driver = room.drive()
    wait_for_done(room.folder, 2)
    victim, _ = room.busy()
    (raylet,) = victim.all_processes["raylet"]
    with metadata_of_aws(seconds=4):
        told = watch("aws", 0.1, psutil.Process(raylet.process.pid))
    left = place / "notice" / "store" / "checkpoints"
    end = time.monotonic() + 60
    # names with a dot are those of files that are still being written
    while not list(left.glob("[!.]*")) and time.monotonic() < end:
        time.sleep(0.02)
    num_lost = len(running_trials(victim))
    room.cluster.remove_node(victim, allow_graceful=False)
    return seen(room.folder, driver.wait(LIMIT)) | {"told": told, "num_lost": num_lost}


def first_head(place: Path) -> dict[str, Any]:
    """Until somebody cuts the power."""
    room = Room(place, place / "first_head" / "sweep", place / "outside")
    room.drive().wait(LIMIT)
    raise RuntimeError("the sweep has ended before the power was cut")


def second_head(place: Path) -> dict[str, Any]:
    """A new head and an empty folder of the same name, on the same store."""
    room = Room(place, place / "second_head" / "sweep", place / "outside")
    code = room.drive().wait(LIMIT)
    return seen(room.folder, code)


def array(place: Path) -> dict[str, Any]:
    """The images are spilled to a disk that loses them, and the one node that has a copy dies."""
    import ray

    from orchestrator.run import RunOptions, run_space
    from trainables.data.base import Dataset

    os.environ["FATEFRONT_FETCH_SECONDS"] = "20"
    room = Room(place, place / "array" / "sweep", place / "array" / "store", head=0, workers=(2,))
    ray.init(address=room.cluster.address, log_to_driver=False)
    put, put_images = ray.put, []

    def note(value: Any, **options: Any) -> Any:
        put_images.append(isinstance(value, Dataset))
        return put(value, **options)

    ray.put = note
    options = RunOptions(
        str(place / "space.yaml"), room.folder, store=str(place / "array" / "store"), workers=2,
        tracking_uri="none", address=room.cluster.address,
    )  # fmt: skip
    documents: list[dict[str, Any]] = []
    sweep = threading.Thread(target=lambda: documents.append(run_space(options)), daemon=True)
    sweep.start()
    wait_for_done(room.folder, 2)
    others = [put(np.zeros(20 << 20, np.uint8)) for _ in range(8)]  # the store has 100 MB
    spilled = list(Path("/tmp/ray").rglob("ray_spilled_objects_*/*"))
    for path in spilled:
        path.unlink()
    others.clear()
    room.cluster.remove_node(next(iter(room.cluster.worker_nodes)), allow_graceful=False)
    room.cluster.add_node(num_cpus=2)
    sweep.join(LIMIT)
    found = seen(room.folder, documents[0]["exit_code"])
    return found | {"num_puts": sum(put_images), "num_spilled": len(spilled)}


def memory(place: Path) -> dict[str, Any]:
    """A machine on which one trial has room and two have not; Ray's monitor watches over it."""
    recipe = SPACE["training"] | {"batch_size": 64}
    space = SPACE | {
        "name": "large", "training": recipe, "finetune": recipe, "iterations": 1,
        "prune": {"criterion": "snnl", "ratio": 0.3, "site": "conv"}, "controls": ["none"],
        "data": SPACE["data"] | {"image_size": 224},
    }  # fmt: skip
    path = place / "large.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))

    def run(name: str, *options: str, **environment: str) -> int:
        with (place / f"{name}.log").open("w") as log:
            return subprocess.call(
                [sys.executable, "-m", "orchestrator", "run", str(path), "--out",
                 str(place / name / "sweep"), "--tracking-uri", "none", *options],
                env=os.environ | environment, stdout=log, stderr=log, timeout=LIMIT,
            )  # fmt: skip

    watch = Watch()
    watch.start()
    alone = run("one_at_a_time", "--workers", "1")
    watch.over.set()
    watch.join()
    machine = psutil.virtual_memory()
    room = watch.most + watch.worker // 2
    limit = 1 - (machine.available - room) / machine.total
    code = run(
        "memory", "--workers", "2", RAY_memory_usage_threshold=f"{limit:.4f}",
        RAY_memory_monitor_refresh_ms="100",
    )  # fmt: skip
    found = seen(place / "memory" / "sweep", code)
    return found | {
        "alone": seen(place / "one_at_a_time" / "sweep", alone)["results"],
        "log": (place / "memory.log").read_text(),
        "bytes": [watch.most, watch.worker],
    }


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    case.__name__: case
    for case in (undisturbed, node, notice, first_head, second_head, array, memory)
}


def main(place: Path, case: str) -> None:
    """A network with loopback alone, a token, one case."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for folder in ("/dev/shm", "/tmp/ray"):
        Path(folder).mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    os.environ |= {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "FATEFRONT_CACHE": str(place / "cache"), "TMPDIR": "/tmp",
        "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3",
    }  # fmt: skip
    write_space(place)
    found = CASES[case](place)
    (place / f"{case}.json").write_text(json.dumps(found))
    os._exit(0)  # Ray's own end, here with a dead node, is the namespace's business


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
