"""Trials that run out of memory: which rounds there are, and what a trial asks for in them."""

from collections import Counter

import pytest
import ray
import torch
from fake_sweep import FakeSweep, fake_spec, wide_spec

from orchestrator.ledger.records import load_records
from orchestrator.running.worker import describe, describe_loss
from orchestrator.search.memory_retries import Packing, half
from orchestrator.search.schedule import FINISHED, MAX_AHEAD, Attempt, Budget

NO_ROOM = {"type": "OutOfMemory", "reason": "out of memory: 12 GiB", "infrastructure": False}


@pytest.fixture
def sweep(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    yield fake
    fake.ledger.close()


class Memory:
    """A machine on which some trials do not fit while others run beside them."""

    def __init__(self, sweep, needs_room, never=lambda trial: False):
        self.sweep = sweep
        self.needs_room, self.never = needs_room, never
        self.rounds = []

    def run(self, workers=2, budget=None, spec=None):
        """As ``_drive`` does: rounds until none is needed. ``rounds``: (half, labels)."""
        schedule = self.sweep.start(spec or fake_spec(), budget)
        begin = schedule.next()
        while begin is not None:
            is_half = schedule.memory.is_half
            labels = []

            def fails(attempt, is_half=is_half, labels=labels):
                label = attempt.node.trial.label()
                labels.append(label)
                no_room = self.needs_room(attempt.node.trial) and not is_half
                return NO_ROOM if no_room or self.never(attempt.node.trial) else None

            error = fails(begin)
            if error is None:
                self.sweep.finish(schedule, begin)
            else:
                schedule.failed(begin.node.key, error)
            self.sweep.drive(schedule, 1 if is_half else workers, fails=fails)
            self.rounds.append((is_half, labels))
            begin = schedule.next_round()
        return schedule


def is_snnl(trial):
    return bool(trial.prune) and trial.prune.criterion.name == "snnl"


def treated_30(trial):
    return is_snnl(trial) and trial.prune.ratio == 0.3


def test_what_does_not_fit_runs_after_all_else_with_half_the_packing(sweep):
    memory = Memory(sweep, lambda trial: treated_30(trial) and trial.n == 1)
    schedule = memory.run()
    (first, full), (second, halved), (third, rest) = memory.rounds
    assert (first, second, third) == (False, True, False)
    assert len(full) == 10  # all but the child of the one that ran out
    assert halved == ["vanilla > snnl 30 % x 1 (seed 0)"]
    assert len(rest) == 1
    assert Counter(r["status"] for r in load_records(sweep.folder).values()) == {"done": 11}
    assert [e["error"] for e in sweep.events("retry")] == [NO_ROOM]
    assert schedule.next() == FINISHED


def test_each_trial_of_a_chain_has_a_retry_of_its_own(sweep):
    memory = Memory(sweep, treated_30)
    memory.run()
    assert [is_half for is_half, _ in memory.rounds] == [False, True, False, True]
    assert Counter(r["status"] for r in load_records(sweep.folder).values()) == {"done": 11}
    keys = [e["key"] for e in sweep.events("retry")]
    assert len(keys) == len(set(keys)) == 2


def test_a_second_time_is_a_failure(sweep):
    memory = Memory(sweep, treated_30, never=lambda trial: treated_30(trial) and trial.n == 1)
    schedule = memory.run()
    records = load_records(sweep.folder)
    assert [r["error"] for r in records.values() if r["status"] == "failed"] == [NO_ROOM]
    assert len(sweep.events("retry")) == 1
    assert len(schedule.cut_off) == 1
    assert Counter(r["status"] for r in records.values()) == {"done": 9, "failed": 1}


def test_when_nothing_fits_at_first_the_root_is_tried_again(sweep):
    memory = Memory(sweep, lambda trial: trial.n == 0)
    memory.run()
    assert memory.rounds[0][1] == memory.rounds[1][1]
    assert memory.rounds[1][0]
    assert len(load_records(sweep.folder)) == 11


def test_a_search_goes_on_without_what_waits(sweep):
    """Its configurations are observed in the end; the budget counts them."""
    memory = Memory(sweep, lambda trial: is_snnl(trial) and trial.n == 1)
    memory.run(budget=Budget(configurations=6), spec=wide_spec("random"))
    assert [is_half for is_half, _ in memory.rounds][:2] == [False, True]
    proposals = [e for e in sweep.events("proposal") if e["origin"] == "proposal"]
    assert sum(e["chosen_by"] != "repeat" for e in proposals) == 6
    records = load_records(sweep.folder)
    assert set(Counter(r["status"] for r in records.values())) == {"done"}


def test_no_sampler_runs_ahead_of_a_root_that_waits(sweep):
    """Nothing runs, and all that could be proposed needs the root."""
    schedule = sweep.start(wide_spec("random"), Budget(hours=1))
    attempt = schedule.next()
    schedule.failed(attempt.node.key, NO_ROOM)
    before = len(sweep.events("proposal"))
    while isinstance(other := schedule.next(), Attempt):
        schedule.failed(other.node.key, NO_ROOM)
    assert other == FINISHED
    assert len(sweep.events("proposal")) - before <= 6 * MAX_AHEAD
    assert schedule.next_round().node.key == attempt.node.key


def test_no_round_after_the_hours(sweep):
    schedule = sweep.start(fake_spec(), Budget(hours=1))
    attempt = schedule.next()
    schedule.failed(attempt.node.key, NO_ROOM)
    assert schedule.next() == FINISHED
    sweep.now = 4000
    assert schedule.next() == FINISHED
    assert schedule.next_round() is None
    again = sweep.start(fake_spec()).next()
    assert isinstance(again, Attempt)
    assert again.node.key == attempt.node.key


ONE_GPU = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0}]


@pytest.mark.parametrize(
    ("packing", "nodes", "expected"),
    [
        (Packing(8, 1, 0.125), ONE_GPU, Packing(4, 2, 0.25)),
        (Packing(2, 1, 0.6), ONE_GPU, Packing(1, 2, 1.0)),
        (Packing(3, 4, 1.0), ONE_GPU, Packing(1, 4, 1.0)),  # no machine has 8 CPUs and a GPU
        (Packing(6, 1, 1 / 3), ONE_GPU, Packing(2, 2, 2 / 3)),  # one of 2/3 fits on each of two
        (Packing(8, 2, 0.0), ONE_GPU, Packing(4, 4, 0.0)),
        (Packing(1, 1, 0.0), [{"CPU": 1.0}], Packing(1, 1, 0.0)),
        (Packing(4, 2, 0.0), [{"CPU": 3.0}], Packing(2, 3.0, 0.0)),
        (Packing(4, 2, 0.5), [{"memory": 1.0}], Packing(2, 2, 1.0)),  # no worker is up just now
    ],
)
def test_half_the_packing_is_what_some_machine_has(packing, nodes, expected):
    assert half(packing, nodes) == expected


def test_every_way_to_run_out_of_memory_has_one_name():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)  # not a MemoryError
    found = [
        describe(error)
        for error in (MemoryError(), torch.cuda.OutOfMemoryError("12 GiB"), caught.value)
    ]
    for sign in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when"):
        found.append(describe(RuntimeError(sign)))  # a new process on a GPU that is full
    found.append(describe_loss(ray.exceptions.OutOfMemoryError("Task was killed due to ...")))
    assert {error["type"] for error in found} == {"OutOfMemory"}
    assert {error["infrastructure"] for error in found} == {False}
    assert all("out of memory" in error["reason"] for error in found)
    assert describe(RuntimeError("mat1 and mat2 shapes"))["type"] == "RuntimeError"
    assert describe_loss(ray.exceptions.WorkerCrashedError())["infrastructure"]
