"""A server that lives as long as Ray's head; any process of a known name stands for the head."""

import shutil
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.cluster.beside_ray import has_ended


@pytest.fixture
def head(tmp_path):
    """A process whose name no other process has."""
    binary = tmp_path / "a_head_here"
    shutil.copy(shutil.which("sleep"), binary)
    process = subprocess.Popen([binary, "60"])
    yield process
    process.kill()
    process.wait(10)


def start(pid_file, *command):
    code = (
        "import sys; from pathlib import Path; from orchestrator.cluster.beside_ray import *; "
        "sys.exit(run_beside(Path(sys.argv[1]), sys.argv[2:], 'a_head_here'))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(pid_file), *command])


def child_of(pid, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := psutil.Process(pid).children():
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no child")


def test_the_server_ends_with_the_head_and_with_all_it_started(head, tmp_path):
    beside = start(tmp_path / "server.pid", "sh", "-c", "sleep 50 & wait")
    server = child_of(beside.pid)
    below = child_of(server.pid)
    head.kill()
    head.wait(10)
    assert beside.wait(20) == 0
    assert has_ended(server)
    assert has_ended(below)
    assert not (tmp_path / "server.pid").exists()


def test_a_second_start_ends_the_first(head, tmp_path):
    first = start(tmp_path / "server.pid", "sleep", "50")
    server = child_of(first.pid)
    second = start(tmp_path / "server.pid", "sleep", "50")
    assert first.wait(30) != 0
    assert has_ended(server)
    assert child_of(second.pid).is_running()
    head.kill()
    assert second.wait(20) == 0


def test_a_server_that_ends_by_itself_says_how(head, tmp_path):
    assert start(tmp_path / "server.pid", "sh", "-c", "exit 7").wait(20) == 7
