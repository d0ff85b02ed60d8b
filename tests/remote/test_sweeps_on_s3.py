"""Whole sweeps with `--store s3://...`: killed and resumed on an empty folder, two drivers at
once, the storage away for a while; the results are those of a local store.
"""

import os
import shutil
import signal
import time

import psutil
import pytest
from sweep_runs import results, wait_gone, write_space

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import load_records, read_events
from trainables.store import Store

pytestmark = pytest.mark.slow
NUM_TRIALS = 7
"""A root, and none, random and snnl, each two deep."""


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(place / "tiny.yaml", prune=prune)


@pytest.fixture(scope="module")
def reference(cli, place, space):
    """The same sweep with everything in its folder."""
    code, document, _ = cli.run(space, place / "reference", "--workers", "2")
    assert code == 0
    assert document["num_done"] == NUM_TRIALS
    return results(place / "reference")


def head(place, name):
    """The folder of one sweep on one machine: the same name, another place."""
    folder = place / name / "tiny"
    folder.parent.mkdir()
    return folder


def test_killed_and_resumed_on_an_empty_folder(cli, place, space, reference):
    """SIGKILL of the driver, the folder is gone with its machine, the same command on another."""
    options = ("--store", "s3://bucket/killed", "--workers", "2")
    first = head(place, "first")
    killed = cli.start(space, first, *options)
    killed.wait_for("done", 3)
    killed.signal(signal.SIGKILL)
    sweep_id = read_manifest(first)["sweep_id"]
    known = {e["key"] for e in read_events(first) if e["event"] == "done"}
    shutil.rmtree(first.parent)  # out of reach, with the note of which workers to end
    second = head(place, "second")
    code, document, err = cli.run(space, second, *options)
    wait_gone([*killed.seen.values()], 120)
    assert code == 0, err
    assert read_manifest(second)["sweep_id"] == sweep_id
    assert results(second) == reference
    done = [e for e in read_events(second) if e["event"] == "done"]
    assert sorted(e["key"] for e in done) == sorted(reference)  # each once
    assert document["num_computed_now"] <= NUM_TRIALS - len(known)
    assert document["num_cached"] == 0  # what was found is this sweep's own
    started = [e["event"] for e in read_events(second)].count("started")
    assert started == 2
    store = Store("s3://bucket/killed")
    for key in reference:
        node = store.node(key)
        assert all(store.is_whole(key, name) for name in node["files"])
    assert not store.storage.exists(f"{store.root}/sweeps/tiny/driver.json")
    assert store.storage.exists(f"{store.root}/sweeps/tiny/records.jsonl")
    assert list(store.storage.sizes(f"{store.root}/probes")) == []


def test_two_drivers_at_once(cli, place, space, reference):
    """The second is refused in one line while the first goes on, and what it takes over after."""
    options = ("--store", "s3://bucket/two", "--workers", "1")
    first = cli.start(space, head(place, "one"), *options)
    first.wait_for("done", 1)
    code, document, _ = cli.run(space, head(place, "two"), *options)
    assert code == 2
    assert "another `fatefront run`" in document["error"]
    assert "is at work on s3://bucket/two" in document["error"]
    assert first.finish()[0] == 0
    assert results(first.folder) == reference
    code, document, _ = cli.run(space, place / "two" / "tiny", *options)
    assert (code, document["num_computed_now"]) == (0, 0)
    assert results(place / "two" / "tiny") == reference


def test_a_driver_that_was_cut_off_is_refused_when_it_comes_back(cli, place, space, reference):
    """The first stands still for longer than its lease; a second takes over and ends the sweep."""
    options = ("--store", "s3://bucket/fenced", "--workers", "1")
    first = cli.start(space, head(place, "still"), *options)
    first.wait_for("done", 1)
    held = first.look()
    for process in held:  # with its workers, as a machine that is cut off
        os.kill(process.pid, signal.SIGSTOP)
    code, _, err = cli.run(space, head(place, "other"), *options)
    assert code == 0, err
    for process in reversed(held):
        os.kill(process.pid, signal.SIGCONT)
    code, _, err = first.finish(120)
    assert code == 2, err
    assert "another driver is at work, or has been since" in err
    assert results(place / "other" / "tiny") == reference


def test_the_storage_away_for_a_while_costs_no_trial(cli, place, space, reference):
    """The S3 server stands still in the middle and answers nobody for 40 s."""
    options = ("--store", "s3://bucket/away", "--workers", "2")
    (server,) = [
        p for p in psutil.process_iter(["cmdline"])
        if "moto.server:create_backend_app('s3')" in (p.info["cmdline"] or []) and p.parent()
        and p.parent().pid == os.getpid()
    ]  # fmt: skip
    driver = cli.start(space, head(place, "away"), *options)
    driver.wait_for("done", 2)
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    time.sleep(40)
    during = len(driver.events("done"))
    for process in family:
        process.resume()
    code, _, err = driver.finish()
    assert code == 0, err
    assert during < NUM_TRIALS
    assert results(driver.folder) == reference
    assert {r["status"] for r in load_records(driver.folder).values()} == {"done"}
