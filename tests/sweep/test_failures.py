"""What fails on real workers: a loss that is not a number, a worker that is killed, too many
failures; and all of it run again.
"""

import signal
import time
from collections import Counter

import psutil
import pytest
from sweep_runs import RECIPE, alive, assert_each_node_once, results, write_space

from orchestrator.ledger.records import load_records, read_events

HEALTHY = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}


def broken_arm(rate, ratio=0.5):
    """Fine-tuning that blows up; its controls share its recipe, so they fail, too."""
    finetune = RECIPE | {"learning_rate": rate}
    return {"criterion": "snnl", "ratio": ratio, "site": "conv", "finetune": finetune}


@pytest.fixture(scope="module")
def spaces(place):
    """3 of 10 trials fail, more than 20 % but fewer than five; with another such arm, six fail."""
    one = {"one_of": [HEALTHY, broken_arm(1e30)]}
    two = {"one_of": [HEALTHY, broken_arm(1e30), broken_arm(1e29)]}
    return (
        write_space(place / "one.yaml", prune=one),
        write_space(place / "two.yaml", prune=two, iterations=1),
    )


def busy_worker(driver, seconds=120):
    """The process of a child actor that is in the middle of a trial."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for process in alive(driver.look()):
            try:
                if process.cmdline()[:1] == ["ray::Worker.run"]:
                    return process
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    raise AssertionError("no worker runs a trial")


@pytest.fixture(scope="module")
def failed(cli, place, spaces):
    """A sweep with a failing arm, one of whose workers is killed in the middle of a trial."""
    folder = place / "failed"
    driver = cli.start(spaces[0], folder, "--workers", "2")
    driver.wait_for("done", 1)
    victim = busy_worker(driver)
    victim.send_signal(signal.SIGKILL)
    code, out, err = driver.finish()
    return folder, victim.pid, (code, out, err)


def by_arm(folder):
    """(status, criterion, learning rate of fine-tuning, n) -> number of records."""
    found = Counter()
    for record in load_records(folder).values():
        trial = record["trial"]
        rate = (trial["prune"] or {}).get("finetune", {}).get("learning_rate")
        found[(record["status"], trial["criterion"], rate, trial["n"])] += 1
    return found


def test_a_failing_arm_does_not_stop_the_others(failed):
    folder, _, (code, _, _) = failed
    assert code == 0
    found = by_arm(folder)
    for criterion in ("none", "random", "snnl"):
        for n in (1, 2):
            assert found.pop(("done", criterion, None, n)) == 1
        assert found.pop(("failed", criterion, 1e30, 1)) == 1  # those with n = 2 never ran
    assert found == {("done", None, None, 0): 1}


def test_a_failure_is_a_record_with_its_reason(failed):
    folder, _, (_, out, err) = failed
    errors = [r["error"] for r in load_records(folder).values() if r["status"] == "failed"]
    assert len(errors) == 3
    for error in errors:
        assert error["type"] == "TrainingError"
        assert "nan" in error["reason"] or "inf" in error["reason"] or "finite" in error["reason"]
        assert error["place"].startswith("training.py:")
        assert error["infrastructure"] is False
    assert "3 failed, 3 cannot run because a trial before them failed" in " ".join(out.split())
    assert err.count("FAILED TrainingError") == 3
    assert not [e for e in read_events(folder) if e["event"] == "retry" and
                e["error"]["type"] == "TrainingError"]  # fmt: skip


def test_a_killed_worker_is_one_retry(failed):
    folder, pid, _ = failed
    retries = [e for e in read_events(folder) if e["event"] == "retry"]
    assert retries
    for event in retries:
        assert event["error"]["infrastructure"] is True
    records = load_records(folder)
    key = retries[0]["key"]
    attempts = [e["attempt"] for e in read_events(folder)
                if e["event"] == "scheduled" and e["key"] == key]  # fmt: skip
    assert len(attempts) == len(set(attempts))
    if records[key]["execution"]["attempt"] == "found":  # killed after its commit
        assert len(attempts) == 1
    elif records[key]["status"] == "done":
        assert len(attempts) >= 2
        assert records[key]["execution"]["attempt"] == attempts[-1]
        assert records[key]["execution"]["pid"] != pid
    else:  # the one killed was about to fail by itself
        assert records[key]["error"]["type"] == "TrainingError"
    assert_each_node_once(folder)


@pytest.mark.slow
def test_retry_failed_and_too_many_failures(cli, here, failed, spaces):
    """The failed run again and fail again, a second failing arm besides: the sweep stops, exit 1;
    without `--retry-failed` what failed is left alone.
    """
    folder = failed[0]
    before = results(folder)
    starts = len([e for e in read_events(folder) if e["event"] == "scheduled"])
    code, document = here(spaces[0], folder, "--workers", "2")
    assert (code, document["num_computed_now"], document["num_failed"]) == (0, 0, 3)
    assert len([e for e in read_events(folder) if e["event"] == "scheduled"]) == starts
    code, document, _ = cli.run(spaces[1], folder, "--workers", "2", "--retry-failed")
    assert code == 1
    assert document["stopped"] == "too many failures"
    assert 5 <= document["num_failed"] <= 6
    again = Counter(e["key"] for e in read_events(folder) if e["event"] == "failed")
    assert sorted(again.values())[-2:] == [2, 2]
    done = {k: r for k, r in results(folder).items() if r is not None}
    assert done == {k: r for k, r in before.items() if r is not None}
