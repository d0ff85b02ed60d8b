"""Single writes on a full disk: all of it or nothing, an error that says where, and the sweep's
end.
"""

import errno
import os

import pytest
import typer
from fake_sweep import FakeSweep, fake_spec
from small_disk import fill, small_disk

from orchestrator.console import exit_codes
from orchestrator.ledger.records import Ledger, read_events
from orchestrator.running.worker import describe
from orchestrator.search.schedule import FINISHED
from trainables.errors import DiskFull, room_missing
from trainables.store import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount needs root")
NO_ROOM = {"type": "DiskFull", "reason": "No space left on device", "infrastructure": True}


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 0.25) as place:
        yield place


@needs_root
def test_an_event_that_does_not_fit_is_not_in_the_ledger(disk):
    ledger = Ledger(disk / "sweep").open()
    ledger.append("started", note="first")
    filling = fill(disk, 0)

    def write_on():
        for number in range(20):  # the page that the file has takes some
            ledger.append("note", text="x" * 600, number=number)

    with pytest.raises(OSError, match="No space left") as caught:
        write_on()
    assert caught.value.filename == str(ledger.path)
    whole = list(read_events(disk / "sweep"))
    assert whole == ledger.events
    assert ledger.path.read_bytes().endswith(b"}\n")
    filling.unlink()
    ledger.append("finished")
    ledger.close()
    found = list(read_events(disk / "sweep"))
    assert [event["seq"] for event in found] == list(range(len(whole) + 1))
    assert found[-1]["event"] == "finished"


@needs_root
def test_half_a_node_is_none(disk):
    """Room for the files, not for ``node.json``; for some of the files; for none."""
    store = Store(str(disk / "store"))
    files, document = {"a": b"a" * 20_000, "b": b"b" * 8_000}, {"n": "n" * 70_000}
    for left in (0, 4096, 24_000, 40_000):
        filling = fill(disk, left)
        with pytest.raises(OSError, match="No space left") as caught:
            store.commit("ab" + "0" * 30, files, document)
        assert str(disk / "store") in str(caught.value.filename)
        assert [p for p in (disk / "store").rglob("*") if p.is_file()] == []
        filling.unlink()


def test_a_node_without_room_is_tried_twice_and_is_no_failure(tmp_path):
    sweep = FakeSweep(tmp_path / "sweep")
    schedule = sweep.start(fake_spec())
    with pytest.raises(DiskFull, match="No space left on device"):
        sweep.drive(schedule, fails=lambda attempt: NO_ROOM)
    assert len(sweep.events("retry")) == 2
    assert sweep.events("failed") == []
    again = sweep.start(fake_spec())
    sweep.drive(again)
    assert again.next() == FINISHED
    assert set(again.settled.values()) == {"done"}
    sweep.ledger.close()


def test_what_a_worker_says_of_it():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/weights")
        except OSError as error:
            raise RuntimeError("while serialising") from error
    except RuntimeError as error:
        said = describe(error)
    assert (said["type"], said["reason"]) == ("DiskFull", "No space left on device: /data/weights")
    assert said["infrastructure"]
    quota = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert room_missing(quota) == "Disk quota exceeded"
    assert room_missing(OSError(errno.EIO, "Input/output error")) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "/data"), DiskFull("no room")]
)
def test_the_command_ends_with_one_line(capsys, error):
    with pytest.raises(typer.Exit) as left, exit_codes(resumes=True):
        raise error
    assert left.value.exit_code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: disk full: ")
    assert said.count("\n") == 1
    assert "the same command" in said
