"""A worker that hangs: the watchdog goes by progress, ends it, and the trial is run again."""

import os
import signal
import time

import psutil
import pytest
from sweep_runs import RECIPE, alive, assert_each_node_once, write_space

from orchestrator.ledger.records import load_records, read_events


@pytest.fixture(scope="module")
def space(place):
    """Three trials, the root long enough to be stopped in the middle."""
    root = RECIPE | {"epochs": 30}
    return write_space(
        place / "hang.yaml", training=root, prune={"criterion": "snnl", "ratio": 0.3},
        iterations=1, controls=["none"],
    )  # fmt: skip


def stop_a_busy_worker(driver, seconds=120):
    """SIGSTOP to a child in the middle of a trial: it is there, and does nothing any more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for process in alive(driver.look()):
            try:
                if process.cmdline()[:1] == ["ray::Worker.run"] and process.cpu_times().user > 3:
                    os.kill(process.pid, signal.SIGSTOP)
                    return process
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    raise AssertionError("no worker runs a trial")


@pytest.mark.slow
def test_a_hanging_worker_is_ended_and_its_trial_run_again(cli, place, space):
    folder = place / "hang"
    driver = cli.start(space, folder, "--workers", "1", "--stalled-after", "0.4")
    stopped = stop_a_busy_worker(driver)
    code, _, err = driver.finish()
    assert code == 0, err
    (retry,) = [e for e in read_events(folder) if e["event"] == "retry"]
    assert retry["error"]["type"] == "Stalled"
    assert retry["error"]["infrastructure"] is True
    assert "no progress for 0.4 minutes" in retry["error"]["reason"]
    assert f"process {stopped.pid}" in retry["error"]["reason"]
    records = load_records(folder)
    assert [r["status"] for r in records.values()] == ["done"] * 3
    assert records[retry["key"]]["execution"]["pid"] != stopped.pid
    assert_each_node_once(folder)
    assert not alive([stopped])
