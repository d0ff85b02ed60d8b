"""A sweep gives the same results with one worker or two, killed, interrupted and resumed, or from
a shared store; nothing finished is run again, nothing is lost, nothing is left running.
"""

import contextlib
import json
import os
import platform
import signal
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from sweep_runs import alive, assert_each_node_once, results, wait_gone, write_space

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger, is_running, load_records, read_events
from orchestrator.running.leftovers import started
from orchestrator.search.tree import full_tree
from orchestrator.spaces import load_space
from trainables.trial_spec import DataIdentity

NUM_TRIALS = 14
"""Two roots, so that both workers start at once; each with three arms of two iterations."""


@dataclass
class Run:
    folder: Path
    code: int
    document: dict
    stderr: str = ""


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
    return write_space(place / "tiny.yaml", prune=prune, seeds=[0, 1])


@pytest.fixture(scope="module")
def reference(cli, place, space):
    """Two workers, from an empty store to the end."""
    folder = place / "reference"
    return Run(folder, *cli.run(space, folder, "--workers", "2"))


@pytest.fixture(scope="module")
def broken(cli, place, space):
    """Killed at a random moment, started again at once, interrupted, finished by one worker."""
    folder = place / "broken"
    delay = np.random.default_rng(int(time.time())).uniform(0, 1.5)
    print(f"killed {delay:.2f} s after the second trial")
    killed = cli.start(space, folder, "--workers", "2")
    killed.wait_for("done", 2)
    time.sleep(delay)
    killed.signal(signal.SIGKILL)
    noted = [json.loads(path.read_text()) for path in (folder / ".workers").glob("*.json")]
    assert noted
    old = [process for process in killed.seen.values() if process.pid in {n["pid"] for n in noted}]
    again = cli.start(space, folder, "--workers", "2")
    again.wait_for("started", 2)
    assert not alive(old)  # fenced before anything is scheduled
    again.wait_for("done", 5)
    interrupted = again.signal(signal.SIGINT)
    last = [event["event"] for event in read_events(folder)][-1]
    wait_gone(again.look(), 30)
    run = Run(folder, *cli.run(space, folder, "--workers", "1"))
    wait_gone([*killed.seen.values()], 60)
    return run, interrupted, last


def test_a_whole_sweep(reference):
    assert reference.code == 0
    assert reference.document["num_done"] == reference.document["num_computed_now"] == NUM_TRIALS
    assert [reference.document[f"num_{s}"] for s in ("failed", "blocked", "cached")] == [0, 0, 0]
    assert_each_node_once(reference.folder)
    for name in reference.document["files"].values():
        assert Path(name).exists()
    lines = (reference.folder / "records.jsonl").read_text().splitlines()
    written = {record["key"]: record for record in map(json.loads, lines)}
    assert written == load_records(reference.folder)


def test_the_plan_is_what_was_run(reference, space):
    """Numbers of `plan`, and the keys of the tree, counted again from the records."""
    from orchestrator.plan import plan_space

    spec = load_space(str(space))
    planned = plan_space(spec, "cpu")
    records = load_records(reference.folder)
    assert planned["exact"] is True
    assert planned["num_trials"] == planned["num_nodes"] == len(records)
    roles = [record["trial"]["role"] for record in records.values()]
    for number, role in (
        ("num_baselines", "baseline"), ("num_treatments", "treatment"),
        ("num_controls", "control"),
    ):  # fmt: skip
        assert planned[number] == roles.count(role)
    data = read_manifest(reference.folder)["data"]
    identity = DataIdentity(data["fingerprint"], data["group_digest"])
    assert set(full_tree(spec, identity, "cpu").nodes) == set(records)


def test_two_trials_run_at_once_in_two_processes(reference):
    """Execution intervals of two processes overlap; no third process was ever started."""
    spans = {}
    for record in load_records(reference.folder).values():
        execution = record["execution"]
        end = execution["started"] + sum(execution["seconds"].values())
        spans.setdefault(execution["pid"], []).append((execution["started"], end))
    assert len(spans) == 2
    first, second = spans.values()
    assert any(a < d and c < b for a, b in first for c, d in second)
    for own in spans.values():  # and one process does one trial at a time
        own.sort()
        assert all(end <= start + 0.05 for (_, end), (start, _) in pairwise(own))


def test_killed_interrupted_and_resumed_gives_the_same_bits(reference, broken):
    run, _, _ = broken
    assert run.code == 0
    assert results(run.folder) == results(reference.folder)
    assert len(results(run.folder)) == NUM_TRIALS
    assert_each_node_once(run.folder)
    assert run.document["num_computed_now"] <= NUM_TRIALS - 5
    fates = [{k: r["fate"] for k, r in load_records(f).items()} for f in
             (run.folder, reference.folder)]  # fmt: skip
    assert fates[0] == fates[1]


def test_one_worker_is_one_process(broken, reference):
    """The last start had one worker: all that it ran, ran in one process."""
    folder = broken[0].folder
    start = max(e["seq"] for e in read_events(folder) if e["event"] == "started")
    pids = {
        e["execution"]["pid"]
        for e in read_events(folder)
        if e["event"] == "done" and e["seq"] > start and e["execution"]["attempt"] != "found"
    }
    assert len(pids) == 1


def test_ctrl_c_says_how_to_go_on(broken):
    _, (code, _, err), last = broken
    assert code == 130
    assert last == "interrupted"
    message = err.strip().splitlines()[-1]
    assert message.startswith("interrupted; all that was finished is kept; go on with: ")
    assert "run" in message
    assert "--out" in message
    assert "Traceback" not in err


def test_a_shared_store_answers_every_trial(here, place, space, reference):
    folder = place / "second"
    code, document = here(space, folder, "--store", str(reference.folder / "store"))
    assert code == 0
    assert document["num_computed_now"] == 0
    assert document["num_cached"] == NUM_TRIALS
    assert results(folder) == results(reference.folder)
    assert all(r["execution"]["cached"] for r in load_records(folder).values())
    assert not [e for e in read_events(folder) if e["event"] == "scheduled"]


def test_the_same_command_does_nothing_more(here, space, reference):
    before = results(reference.folder)
    code, document = here(space, reference.folder, "--workers", "2")
    assert code == 0
    assert document["num_computed_now"] == 0
    assert document["num_done"] == NUM_TRIALS
    assert results(reference.folder) == before
    assert_each_node_once(reference.folder)


def test_two_drivers_in_one_folder_are_refused(here, space, reference):
    ledger = Ledger(reference.folder).open()
    try:
        assert is_running(reference.folder)
        code, document = here(space, reference.folder)
    finally:
        ledger.close()
    assert code == 2
    assert f"(host {platform.node()}, pid {os.getpid()}) is at work in" in document["error"]
    assert len(document["error"].splitlines()) == 1
    assert not is_running(reference.folder)


def test_no_worker_is_left(cli, broken, reference):
    """Of all drivers of this module, also of the killed one."""
    for driver in cli.drivers:
        assert not alive(list(driver.seen.values()))
    for path in (broken[0].folder / ".workers").glob("*.json"):
        note = json.loads(path.read_text())
        with contextlib.suppress(psutil.NoSuchProcess):  # the number may be another's by now
            process = psutil.Process(note["pid"])
            if started(process) == note["created"]:
                wait_gone([process], 10)
    assert os.getpid() not in {p.pid for driver in cli.drivers for p in driver.seen.values()}


@pytest.mark.slow
def test_one_worker_from_the_start_gives_the_same_bits(cli, place, space, reference):
    folder = place / "single"
    code, document, _ = cli.run(space, folder, "--workers", "1")
    assert code == 0
    assert results(folder) == results(reference.folder)
    assert len({r["execution"]["pid"] for r in load_records(folder).values()}) == 1
    assert document["num_computed_now"] == NUM_TRIALS


@pytest.mark.slow
def test_killed_five_times_at_random_moments(cli, place, space, reference):
    """The driver alone, at moments from its start-up to the middle of a trial."""
    folder = place / "often"
    rng = np.random.default_rng(int(time.time()))
    for number_of_kill in range(5):
        driver = cli.start(space, folder, "--workers", "2")
        driver.wait_for("started", number_of_kill + 1)
        delay = rng.uniform(0, 25)
        print(f"kill {number_of_kill + 1} after {delay:.2f} s")
        end = time.monotonic() + delay
        while time.monotonic() < end and driver.process.poll() is None:
            driver.look()
            time.sleep(0.1)
        driver.signal(signal.SIGKILL)
    code, document, _ = cli.run(space, folder, "--workers", "2")
    assert code == 0
    assert document["num_done"] == NUM_TRIALS
    assert results(folder) == results(reference.folder)
    assert_each_node_once(folder)
    wait_gone([p for driver in cli.drivers for p in driver.seen.values()], 60)
