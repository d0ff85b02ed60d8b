"""Trials of two processes under real Ray, undisturbed and with the second process killed."""

import os
import signal
import time

import psutil
import pytest
from sweep_runs import RECIPE, alive, assert_each_node_once, write_space

from orchestrator.ledger.records import load_records, read_events
from trainables.store import Store


@pytest.fixture(scope="module")
def space(place):
    """Three trials of two processes, the root long enough to be disturbed in the middle."""
    root = RECIPE | {"epochs": 12}
    return write_space(
        place / "together.yaml", training=root, prune={"criterion": "snnl", "ratio": 0.3},
        iterations=1, controls=["none"], compute={"world_size": 2},
    )  # fmt: skip


def kill_one_of_two(driver, which, seconds=120):
    """SIGKILL to one of the two processes of a trial, both at work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        busy = []
        for process in alive(driver.look()):
            try:
                if process.cmdline()[:1] == ["ray::Worker.run"] and process.cpu_times().user > 3:
                    busy.append(process)
            except psutil.NoSuchProcess:
                continue
        if len(busy) == 2:
            killed = busy[which]
            os.kill(killed.pid, signal.SIGKILL)
            return killed
        time.sleep(0.05)
    raise AssertionError("no two processes run a trial")


@pytest.mark.slow
def test_a_sweep_of_trials_of_two_processes_survives_the_loss_of_either(cli, place, space):
    folders = [place / "undisturbed", place / "disturbed-0", place / "disturbed-1"]
    results = []
    for folder, which in zip(folders, (None, 0, 1), strict=True):
        driver = cli.start(space, folder, "--workers", "1")
        killed = None if which is None else kill_one_of_two(driver, which)
        code, _, err = driver.finish()
        assert code == 0, err
        retries = [e for e in read_events(folder) if e["event"] == "retry"]
        assert len(retries) == (0 if which is None else 1)
        assert all(e["error"]["infrastructure"] for e in retries)
        assert not alive([killed] if killed else [])
        records = load_records(folder)
        assert [r["status"] for r in records.values()] == ["done"] * 3
        store = Store(str(folder / "store"))
        nodes = [store.node(key) for key in records]
        assert [node["trial"]["compute"]["world_size"] for node in nodes] == [2] * 3
        assert_each_node_once(folder)
        results.append({key: record["result"] for key, record in records.items()})
    assert results[1] == results[0]
    assert results[2] == results[0]
