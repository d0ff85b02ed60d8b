"""A worker and a driver that are killed in the middle of a long training: what follows goes on
from its checkpoint.
"""

import json
import os
import shutil
import signal
import time

import psutil
import pytest
from sweep_runs import RECIPE, Cli, alive, results, wait_gone, write_space

from orchestrator.ledger.records import load_records

pytestmark = pytest.mark.slow
OFTEN = ("--workers", "1", "--checkpoint-every", "0.01")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cli(place):
    client = Cli(place / "cache")
    yield client
    left = client.end()
    assert not left, f"processes outlived their sweep: {left}"


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "random", "ratio": 0.3, "site": "conv"}
    return write_space(
        place / "long.yaml", training=RECIPE | {"epochs": 60}, prune=prune, controls=["none"],
        iterations=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(cli, place, space):
    """Of a sweep that nobody touches; its trainings are shorter than a minute each."""
    code, _, err = cli.run(space, place / "reference", "--workers", "1")
    assert code == 0, err
    assert not (place / "reference" / "store" / "checkpoints").exists()
    return results(place / "reference")


def begun(cli, space, folder):
    """A sweep whose root has a checkpoint, and that file."""
    driver = cli.start(space, folder, *OFTEN)
    end = time.monotonic() + 240
    while not (found := list((folder / "store" / "checkpoints").glob("[!.]*"))):
        assert driver.process.poll() is None, driver.finish()
        assert time.monotonic() < end
        time.sleep(0.05)
    driver.look()
    return driver, found[0]


def ends_well(folder, expected):
    assert results(folder) == expected
    assert not list((folder / "store" / "checkpoints").glob("*"))
    (root,) = [r for r in load_records(folder).values() if r["trial"]["n"] == 0]
    return root["execution"]["checkpoint"]


def test_a_worker_is_killed(cli, place, space, expected):
    folder = place / "worker"
    driver, _ = begun(cli, space, folder)
    notes = [json.loads(p.read_text()) for p in (folder / ".workers").glob("*.json")]
    (worker,) = alive([psutil.Process(note["pid"]) for note in notes])
    worker.kill()
    code, _, err = driver.finish()
    assert code == 0, err
    assert len(driver.events("retry")) == 1
    assert ends_well(folder, expected)["resumed_from"] >= 1


@pytest.mark.parametrize("damaged", [False, True])
def test_the_driver_is_killed(cli, place, space, expected, damaged):
    folder = place / f"driver-{damaged}"
    driver, path = begun(cli, space, folder)
    os.killpg(driver.process.pid, signal.SIGKILL)
    wait_gone(driver.look())
    if damaged:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again = cli.start(space, folder, *OFTEN)
    code, _, err = again.finish()
    assert code == 0, err
    found = ends_well(folder, expected)
    ignored = again.events("checkpoint_ignored")
    if damaged:
        assert found["ignored"].startswith("damaged")
        assert [e["reason"] for e in ignored] == [found["ignored"]]
        assert "resumed_from" not in found
    else:
        assert found["resumed_from"] >= 1
        assert ignored == []
