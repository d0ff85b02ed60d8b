"""Processes that outlived their driver are known again whatever the machine's clock did since.

Where the clock is set, the kernel's time of boot moves with it, and with that what psutil says of
when a process began.
"""

import json
import os
import subprocess
import time

import psutil
import pytest

from orchestrator.cluster.beside_ray import end_former, has_ended, note_own
from orchestrator.running.leftovers import end_leftovers, enlist

HOURS = 5 * 3600.0


@pytest.fixture
def worker():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait(10)


@pytest.fixture
def set_clock(monkeypatch):
    """Set the machine's clock, as far as processes can see it."""
    booted = psutil.boot_time()

    def set_to(hours_on: float) -> None:
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + hours_on)

    return set_to


@pytest.mark.parametrize("jump", [0.0, HOURS, -HOURS])
def test_a_worker_is_ended_after_the_clock_was_set(tmp_path, worker, set_clock, jump):
    enlist(tmp_path, worker.pid)
    set_clock(jump)
    assert end_leftovers(tmp_path) == 1
    assert has_ended(psutil.Process(worker.pid))


@pytest.mark.parametrize("jump", [0.0, HOURS])
def test_another_process_of_that_number_is_left_alone(tmp_path, worker, set_clock, jump):
    enlist(tmp_path, worker.pid)
    (path,) = (tmp_path / ".workers").glob("*.json")
    time.sleep(0.05)  # clock ticks are 10 ms
    other = subprocess.Popen(["sleep", "60"])
    try:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": other.pid}))
        set_clock(jump)
        # the two began within a second: only clock ticks tell them apart
        assert end_leftovers(tmp_path) == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


def test_a_former_server_is_ended_after_a_jump(tmp_path, worker, set_clock, monkeypatch):
    own, former = psutil.Process(), psutil.Process(worker.pid)
    monkeypatch.setattr("psutil.Process", lambda pid=None: former if pid is None else own)
    note_own(tmp_path / "server.pid")
    monkeypatch.undo()
    assert os.getpid() != worker.pid
    set_clock(HOURS)
    end_former(tmp_path / "server.pid")
    assert worker.wait(10) != 0
