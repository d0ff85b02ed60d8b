"""What is lost in the middle of a sweep, and that its result is the same; minutes each."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hosts import OUTER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
NUM_TRIALS = 11


def start(place, case):
    """One machine room in namespaces of its own; its output is in PLACE/CASE.out."""
    with (place / f"{case}.out").open("w") as log:
        return subprocess.Popen(
            [*OUTER, sys.executable, str(HERE / "losses.py"), str(place), case],
            stdout=log, stderr=log,
        )  # fmt: skip


def finished(place, case, room=None):
    room = room or start(place, case)
    try:
        code = room.wait(600)
    finally:
        room.kill()
    assert code == 0, (place / f"{case}.out").read_text()[-3000:]
    return json.loads((place / f"{case}.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    if subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("needs root and namespaces")
    place = tmp_path_factory.mktemp("losses")
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def undisturbed(place):
    found = finished(place, "undisturbed")
    assert (found["code"], found["num_done"]) == (0, NUM_TRIALS)
    return found


def assert_same(found, undisturbed):
    assert (found["code"], found["failed"], found["num_twice"]) == (0, [], 0)
    assert found["results"] == undisturbed["results"]


def test_a_node_that_dies_costs_what_it_was_running(place, undisturbed):
    """It never comes back: three trials at once were planned, two nodes are left."""
    found = finished(place, "node")
    assert_same(found, undisturbed)
    assert 1 <= found["num_scheduled"] - NUM_TRIALS == len(found["retries"]) <= 2


def test_a_spot_notice_costs_the_epoch_that_was_running(place, undisturbed):
    """These trials take seconds: without a notice none of them would leave a checkpoint."""
    found = finished(place, "notice")
    assert_same(found, undisturbed)
    assert found["told"]
    assert found["num_lost"] == 1
    assert [epochs for epochs in found["resumed"] if epochs >= 1] == found["resumed"] != []
    assert undisturbed["resumed"] == []
    # Tune itself starts it again after a notice: to the ledger it is the same attempt
    assert found["num_scheduled"] - NUM_TRIALS == len(found["retries"]) <= 1


def test_a_new_head_with_an_empty_folder_goes_on(place, undisturbed):
    """The power is cut; the second head has nothing but the store."""
    room = start(place, "first_head")
    events = place / "first_head" / "sweep" / "events.jsonl"
    end = time.monotonic() + 300
    while not events.exists() or events.read_text().count('"event":"done"') < 4:
        assert room.poll() is None, (place / "first_head.out").read_text()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)
    room.send_signal(signal.SIGKILL)
    room.wait(60)
    before = {e["key"] for e in map(json.loads, events.read_text().splitlines()[:-1])
              if e["event"] == "done"}  # fmt: skip
    found = finished(place, "second_head")
    assert_same(found, undisturbed)
    assert len(before) >= 3
    assert found["num_done"] == NUM_TRIALS  # the first head's are in the ledger it found
    assert found["num_scheduled"] <= NUM_TRIALS + 3


def test_images_that_the_object_store_loses_are_put_again(place, undisturbed):
    found = finished(place, "array")
    assert_same(found, undisturbed)
    assert found["num_puts"] == 2
    assert "DataLost" in {error["type"] for error in found["retries"]}


def test_trials_without_room_are_run_again_one_at_a_time(place):
    """What other programs take meanwhile can make a trial run out of memory twice: a failure."""
    found = finished(place, "memory")
    assert "ran out of memory: again, 1 at once" in found["log"]
    assert "OutOfMemory" in {error["type"] for error in found["retries"]}
    assert {error["type"] for error in found["failed"]} <= {"OutOfMemory"}
    assert found["results"]
    assert found["num_twice"] == 0
    done = {key: result for key, result in found["results"].items() if result is not None}
    assert all(found["alone"][key] == result for key, result in done.items())
