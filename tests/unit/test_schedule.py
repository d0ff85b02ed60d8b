"""Order, budgets, failures and recovery of the schedule: no Ray, results handed in by hand."""

from collections import Counter

import pytest
from fake_sweep import (
    DATA,
    NAN_LOSS,
    WORKER_LOST,
    FakeSweep,
    equal_groups,
    fake_spec,
    node_document,
    wide_spec,
)

from orchestrator.ledger.records import load_records
from orchestrator.search.schedule import FINISHED, MAX_AHEAD, Attempt, Budget, result_of
from orchestrator.search.tree import full_tree
from search_spaces.words import choice, number
from trainables.errors import UserError


@pytest.fixture
def sweep(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    yield fake
    if fake.ledger is not None:
        fake.ledger.close()


def assert_each_node_once(sweep):
    """No key is done twice, none is handed out after it was done, none is lost."""
    done_at = {}
    for event in sweep.events("scheduled", "done", "failed"):
        if event["event"] == "scheduled":
            assert event["key"] not in done_at
        elif event["event"] == "done":
            assert event["key"] not in done_at
            done_at[event["key"]] = event["seq"]
    return set(done_at)


# -- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_the_grid_is_run_once_each_and_parents_first(sweep, workers, shuffle):
    spec = fake_spec(seeds=(0, 1))
    schedule = sweep.run(spec, workers=workers, shuffle=shuffle)
    assert assert_each_node_once(sweep) == set(full_tree(spec, DATA, "cpu").nodes)
    # 2 seeds x (root + none, and snnl and random at 2 ratios, each 2 deep)
    assert len(schedule.tree.nodes) == 2 * (1 + 5 * 2)
    finished = {event["key"]: event["seq"] for event in sweep.events("done")}
    for event in sweep.events("scheduled"):
        assert all(finished[parent] < event["seq"] for parent in event["parents"])


def test_the_longest_remaining_path_goes_first(sweep):
    """With one worker: the height of what runs next is the largest of all that is ready."""
    schedule = sweep.start(fake_spec(iterations=3))
    while isinstance(attempt := schedule.next(), Attempt):
        done = {key for key, status in schedule.settled.items() if status == "done"}
        ready = [
            node
            for node in schedule.tree.nodes.values()
            if node.key not in done and set(node.parents) <= done
        ]
        assert attempt.node.height == max(node.height for node in ready)
        sweep.finish(schedule, attempt)


def test_of_equal_paths_the_one_whose_parent_lies_where_a_worker_became_idle(sweep):
    """Two machines, one worker each: a child goes where its parent is, unless none is there."""
    schedule = sweep.start(fake_spec(iterations=3, seeds=(0, 1)))
    running, near = {}, []
    for host in ("a", "b"):
        running[host] = schedule.next()
    turn = 0
    while running:
        host = sorted(running)[turn % len(running)]
        turn += 1
        finished = running.pop(host)
        node = node_document(finished.node.key)
        result = result_of(node, sweep.measure(finished.node.key))
        schedule.succeeded(finished.node.key, result, node["execution"] | {"host": host})
        ready = [
            other
            for other in schedule.unsettled().values()
            if other.key not in schedule.running
            and all(schedule.settled.get(parent) == "done" for parent in other.parents)
        ]
        highest = max((other.height for other in ready), default=-1)
        hosts = {
            schedule.records[other.parents[0]]["execution"]["host"]
            for other in ready
            if other.height == highest
        }
        attempt = schedule.next()
        if not isinstance(attempt, Attempt):
            continue
        running[host] = attempt
        if hosts == {"a", "b"}:  # there is a choice
            parent = schedule.records[attempt.node.parents[0]]
            near.append(parent["execution"]["host"] == host)
    assert len(near) >= 8
    assert all(near)


def test_heights_count_the_steps_to_the_deepest_leaf():
    tree = full_tree(fake_spec(iterations=3), DATA, "cpu")
    assert {node.trial.n: node.height for node in tree.nodes.values()} == {0: 3, 1: 2, 2: 1, 3: 0}


def test_a_node_is_handed_out_once_while_it_runs(sweep):
    schedule = sweep.start(fake_spec(seeds=(0, 1)))
    first, second = schedule.next(), schedule.next()
    assert first.node.key != second.node.key  # the two roots
    assert schedule.next() is None  # all else waits for them
    sweep.finish(schedule, first)
    third = schedule.next()
    assert third.node.parents == (first.node.key,)


def test_few_configurations_are_opened_while_all_wait_for_the_root(sweep):
    """One root and idle workers: a sampler must not propose its whole budget blindly."""
    schedule = sweep.start(wide_spec("tpe"), Budget(configurations=40))
    root = schedule.next()
    for _ in range(50):
        assert schedule.next() is None
    proposed = [e for e in sweep.events("proposal") if e["origin"] == "proposal"]
    assert len(proposed) <= 1 + MAX_AHEAD * 2  # repeats among them
    sweep.finish(schedule, root)
    assert isinstance(schedule.next(), Attempt)


def test_an_endless_space_with_only_hours_waits_for_its_root(sweep):
    space = {"criterion": "snnl", "ratio": number(0.1, 0.5), "site": "conv"}
    schedule = sweep.start(fake_spec("random", prune=space), Budget(hours=1))
    root = schedule.next()
    assert schedule.next() is None
    sweep.finish(schedule, root)
    assert isinstance(schedule.next(), Attempt)
    sweep.now = 3601
    assert schedule.next() is None  # one is running
    assert schedule.stopping == "hours"


def test_a_root_that_fails_early_ends_the_sweep(sweep):
    """The limit on opening ahead holds only while something runs; then the rest is opened, too."""
    ratios = choice(*(round(0.05 * k, 2) for k in range(1, 11)))
    prune = {"criterion": "snnl", "ratio": ratios, "site": "conv"}
    schedule = sweep.start(fake_spec(prune=prune))
    root = schedule.next()
    assert schedule.next() is None
    assert len(sweep.events("proposal")) == 1 + MAX_AHEAD
    schedule.failed(root.node.key, NAN_LOSS)
    assert schedule.next() == FINISHED
    assert len(sweep.events("proposal")) == 20
    assert all(schedule.blocked(key) for key in schedule.tree.nodes.keys() - {root.node.key})


# -- budget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["grid", "tpe", "random", "nsga2"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("trials", [7, 14, 25])
def test_trials_are_never_exceeded_and_the_same_command_does_nothing_more(
    sweep, sampler, workers, trials
):
    spec = wide_spec(sampler)
    first = sweep.run(spec, Budget(trials=trials), workers=workers)
    assert 0 < first.num_computed <= trials
    done = set(first.settled)
    for _ in range(3):
        again = sweep.start(spec, Budget(trials=trials))
        assert again.next() == FINISHED
        assert set(again.settled) == done
    larger = sweep.run(spec, Budget(trials=trials + 8), workers=workers)
    assert done < set(larger.settled)
    assert trials < larger.num_computed <= trials + 8
    assert_each_node_once(sweep)


def test_a_held_proposal_comes_next_when_the_budget_grows(sweep):
    """What did not fit is not asked anew: another answer might fit, and N would not be final."""
    spec = wide_spec("tpe")
    sweep.run(spec, Budget(trials=20), workers=2)
    held = sweep.events("held")
    assert held
    number_of_proposals = len(sweep.events("proposal"))
    sweep.run(spec, Budget(trials=20), workers=2)
    assert sweep.events("held") == held  # written once
    sweep.run(spec, Budget(trials=40), workers=2)
    then = sweep.events("proposal")[number_of_proposals:]
    assert [e["configuration"] for e in then[: len(held)]] == [e["configuration"] for e in held]


def test_more_seeds_than_the_budget_has_room_for_stop_at_the_budget(sweep):
    sweep.run(fake_spec(), Budget(trials=11))  # the whole grid
    schedule = sweep.run(fake_spec(seeds=(0, 1, 2)), Budget(trials=15))
    assert schedule.num_computed == 15
    schedule = sweep.run(fake_spec(seeds=(0, 1, 2)), Budget(trials=33))
    assert schedule.num_computed == 33
    assert_each_node_once(sweep)


def test_more_seeds_ratios_and_iterations_extend_and_old_nodes_stay(sweep):
    known = set(sweep.run(fake_spec()).settled)
    ratios = {"criterion": "snnl", "ratio": choice(0.1, 0.3, 0.5), "site": "conv"}
    for wider in (
        fake_spec(seeds=(0, 1)),
        fake_spec(seeds=(0, 1), prune=ratios),
        fake_spec(seeds=(0, 1), prune=ratios, iterations=3),
    ):
        schedule = sweep.run(wider, workers=2)
        assert known < set(schedule.settled)
        assert set(schedule.tree.nodes) == set(full_tree(wider, DATA, "cpu").nodes)
        known = set(schedule.settled)
    assert_each_node_once(sweep)
    narrow = sweep.start(fake_spec())  # what lies outside stays, and nothing is run
    assert narrow.next() == FINISHED
    assert set(narrow.settled) == known


def test_too_few_trials_for_one_configuration(sweep):
    # one chain, its two controls, the root: 1 + 3 x 1 at n = 1
    with pytest.raises(UserError, match=r"--trials 3 is too few: the first configuration needs 4"):
        sweep.start(fake_spec(), Budget(trials=3)).next()
    assert isinstance(sweep.start(fake_spec(), Budget(trials=4)).next(), Attempt)


def test_the_number_of_configurations_is_of_proposals_not_of_ancestors(sweep):
    spec = wide_spec("random")
    sweep.run(spec, Budget(configurations=6), workers=2)
    counts = Counter(e["origin"] for e in sweep.events("proposal") if e["chosen_by"] != "repeat")
    assert counts["proposal"] == 6
    assert counts["ancestor"] > 0
    assert sweep.start(spec, Budget(configurations=6)).next() == FINISHED
    sweep.run(spec, Budget(configurations=8))
    assert sum(e["origin"] == "proposal" for e in sweep.events("proposal")) in (8, 9, 10, 11, 12)


def test_cached_nodes_cost_no_trials(tmp_path):
    first = FakeSweep(tmp_path / "a", store=tmp_path / "store")
    first.run(fake_spec())
    second = FakeSweep(tmp_path / "b", store=tmp_path / "store")
    schedule = second.start(fake_spec(seeds=(0, 1)), Budget(trials=11))
    assert second.drive(schedule, 2) == 11
    records = load_records(second.folder)
    cached = {r["trial"]["seed"]: r["execution"]["cached"] for r in records.values()}
    assert cached == {0: True, 1: False}
    assert schedule.num_computed == 11
    for fake in (first, second):
        fake.ledger.close()


def test_hours_stop_handing_out_and_keep_what_runs(sweep):
    schedule = sweep.start(fake_spec(seeds=(0, 1)), Budget(hours=0.5))
    first = schedule.next()
    sweep.now = 1800
    second = schedule.next()
    assert isinstance(second, Attempt)  # at the limit, not beyond it
    sweep.now = 1801
    assert schedule.next() is None
    sweep.finish(schedule, first)
    sweep.finish(schedule, second)
    assert schedule.next() == FINISHED
    assert schedule.stopping == "hours"
    assert Counter(schedule.settled.values()) == {"done": 2}
    sweep.now = 5000
    assert sweep.drive(sweep.start(fake_spec(seeds=(0, 1)), Budget(hours=0.5))) == 20


# -- failures ---------------------------------------------------------------------------------


def snnl_30(attempt):
    prune = attempt.node.trial.prune
    treated = prune is not None and prune.criterion.name == "snnl" and prune.ratio == 0.3
    return NAN_LOSS if treated and attempt.node.trial.n == 1 else None


def test_a_failed_trial_blocks_its_descendants_and_the_rest_goes_on(sweep):
    schedule = sweep.run(fake_spec(), workers=2, fails=snnl_30)
    records = load_records(sweep.folder)
    failed = [r for r in records.values() if r["status"] == "failed"]
    assert [(r["trial"]["label"], r["error"]) for r in failed] == [
        ("vanilla > snnl 30 % x 1", NAN_LOSS)
    ]
    blocked = [node for key, node in schedule.tree.nodes.items() if schedule.blocked(key)]
    assert [node.trial.label() for node in blocked] == ["vanilla > snnl 30 % x 2 (seed 0)"]
    assert blocked[0].key not in records
    assert Counter(r["status"] for r in records.values()) == {"done": 9, "failed": 1}
    assert schedule.stopping is None
    assert schedule.num_open == 0
    assert schedule.num_computed == 10  # a failure is computed, too


def test_retry_failed_runs_what_failed_and_what_it_blocked(sweep):
    sweep.run(fake_spec(), fails=snnl_30)
    assert sweep.start(fake_spec()).next() == FINISHED  # not without the option
    schedule = sweep.start(fake_spec(), retry_failed=True)
    assert sweep.drive(schedule) == 2
    records = load_records(sweep.folder)
    assert {r["status"] for r in records.values()} == {"done"}
    assert len(records) == 11


def test_failures_of_the_machine_are_retried_twice(sweep):
    schedule = sweep.start(fake_spec())
    for attempt_number in range(3):
        attempt = schedule.next()
        assert attempt.node.trial.n == 0
        if attempt_number < 2:
            schedule.failed(attempt.node.key, WORKER_LOST)
    sweep.finish(schedule, attempt)
    assert len({e["attempt"] for e in sweep.events("scheduled")}) == 3
    assert [e["error"] for e in sweep.events("retry")] == [WORKER_LOST] * 2
    other = schedule.next()
    for _ in range(3):
        schedule.failed(other.node.key, WORKER_LOST)
        step = schedule.next()
        if step.node.key != other.node.key:
            break
    assert schedule.settled[other.node.key] == "failed"
    assert len(sweep.events("retry")) == 4


def test_a_worker_that_dies_after_its_commit_has_finished(sweep):
    schedule = sweep.start(fake_spec())
    attempt = schedule.next()
    sweep.commit(attempt.node.key)
    schedule.failed(attempt.node.key, WORKER_LOST)
    assert isinstance(schedule.next(), Attempt)
    record = schedule.records[attempt.node.key]
    assert record["status"] == "done"
    assert record["execution"]["cached"] is False  # this sweep computed it


@pytest.mark.parametrize(("num_failed", "stops"), [(4, False), (5, True)])
def test_too_many_failures_stop_the_sweep(sweep, num_failed, stops):
    """More than 20 % and at least 5: the ratios of each of 5 or 4 treated arms fail."""
    ratios = choice(*(round(0.1 * k, 1) for k in range(1, num_failed + 1)))
    arms = {"criterion": "snnl", "ratio": ratios, "site": "conv"}
    spec = fake_spec(prune=arms, iterations=1, controls=())

    def fails(attempt):
        return NAN_LOSS if attempt.node.role == "treatment" else None

    schedule = sweep.run(spec, fails=fails)
    assert Counter(schedule.settled.values()) == {"done": 1, "failed": num_failed}
    assert schedule.stopping == ("too many failures" if stops else None)


def test_five_failures_of_many_do_not_stop(sweep):
    """5 of 26 is below 20 %."""
    ratios = choice(*(round(0.02 * k, 2) for k in range(1, 26)))
    arms = {"criterion": "snnl", "ratio": ratios, "site": "conv"}
    spec = fake_spec(prune=arms, iterations=1, controls=())

    def fails(attempt):
        prune = attempt.node.trial.prune
        return NAN_LOSS if prune and prune.ratio > 0.41 else None

    schedule = sweep.run(spec, fails=fails)
    assert Counter(schedule.settled.values()) == {"done": 21, "failed": 5}
    assert schedule.stopping is None


def test_an_undefined_objective_leaves_the_record_done(sweep):
    """A reference whose gap is zero: FATE is undefined, with its reason; the trial is not lost."""
    sweep.measure = equal_groups
    schedule = sweep.run(wide_spec("tpe"), Budget(configurations=5))
    assert set(schedule.settled.values()) == {"done"}
    fates = [r["fate"] for r in load_records(sweep.folder).values()]
    assert {f["fate_eodd_hardt"] for f in fates} == {None}
    assert {f["undefined"]["fate_eodd_hardt"] for f in fates} == {"reference gap is 0"}


# -- recovery ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [(1,), (4, 3), (1, 2, 1, 5), (9, 1)])
def test_killed_anywhere_nothing_is_lost_and_nothing_done_twice(tmp_path, kills):
    spec = fake_spec()
    whole = FakeSweep(tmp_path / "whole")
    whole.run(spec)
    killed = FakeSweep(tmp_path / "killed")
    for number_of_kill, after in enumerate(kills):
        killed.drive(killed.start(spec), workers=2, stop_after=after, shuffle=number_of_kill)
    killed.run(spec, workers=2)
    ours, theirs = load_records(killed.folder), load_records(whole.folder)
    assert {k: (r["result"], r["fate"]) for k, r in ours.items()} == {
        k: (r["result"], r["fate"]) for k, r in theirs.items()
    }
    assert_each_node_once(killed)
    for fake in (whole, killed):
        fake.ledger.close()


def test_a_node_committed_but_not_in_the_ledger_is_found(sweep):
    """The driver died between the worker's commit and its own `done`."""
    schedule = sweep.start(fake_spec())
    attempt = schedule.next()
    sweep.commit(attempt.node.key)
    schedule = sweep.start(fake_spec())
    record = schedule.records[attempt.node.key]
    assert record["status"] == "done"
    assert record["execution"]["attempt"] == "found"
    assert record["execution"]["cached"] is False
    assert schedule.num_computed == 1
    assert sweep.drive(schedule) == 10
    assert_each_node_once(sweep)


def test_a_node_of_another_sweep_is_cached(sweep):
    key = next(iter(full_tree(fake_spec(), DATA, "cpu").nodes))
    sweep.commit(key)
    schedule = sweep.run(fake_spec())
    assert schedule.records[key]["execution"]["cached"] is True
    assert schedule.num_computed == 10
    assert key not in {e["key"] for e in sweep.events("scheduled")}


def test_a_record_stays_when_its_node_is_gone(tmp_path):
    """Weights may be dropped: what is done in the ledger is not run again."""
    fake = FakeSweep(tmp_path / "sweep")
    fake.run(fake_spec())
    fake.store = FakeSweep(tmp_path / "other").store
    assert fake.start(fake_spec()).next() == FINISHED
    fake.ledger.close()


def test_what_the_ledger_says_of_the_running_is_run_again(sweep):
    schedule = sweep.start(fake_spec(seeds=(0, 1)))
    lost = {schedule.next().node.key, schedule.next().node.key}
    assert {r["status"] for r in load_records(sweep.folder).values()} == {"running"}
    schedule = sweep.start(fake_spec(seeds=(0, 1)))
    assert {schedule.next().node.key, schedule.next().node.key} == lost


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_the_set_of_nodes_does_not_depend_on_the_workers(tmp_path, sampler):
    sets = []
    for workers in (1, 2, 4):
        fake = FakeSweep(tmp_path / str(workers))
        schedule = fake.run(
            wide_spec(sampler), Budget(trials=30), workers=workers, shuffle=workers
        )
        sets.append(set(schedule.settled))
        fake.ledger.close()
    assert sets[0] == sets[1] == sets[2]
    assert len(sets[0]) > 20


def test_one_node_shared_by_two_ways_to_write_it(sweep):
    """Ratios 0.1 and 0.1 of two arms lead to one key: run once, both configurations get it."""
    spec = fake_spec(
        prune={
            "criterion": "snnl",
            "site": choice("auto", "block"),
            "ratio": 0.1,
        },
        iterations=1,
        controls=(),
    )
    schedule = sweep.run(spec)
    assert len(schedule.tree.nodes) == 2  # `auto` is `block` for a residual net
    assert len(sweep.events("proposal")) == 2
