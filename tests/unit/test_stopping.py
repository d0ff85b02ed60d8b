"""Chains that are not continued: real ledger, tree, metrics and draws; predictions are made up."""

import pytest
from fake_sweep import NAN_LOSS, fake_spec
from predicted_sweep import Predicted

from orchestrator.fronts.front import build_front
from orchestrator.ledger.records import Ledger
from orchestrator.search.schedule import FINISHED, Budget
from orchestrator.search.tree import full_tree
from search_spaces.sweep_spec import Search
from search_spaces.words import choice

OBJECTIVES = ("fate_eodd_hardt", "f1")
LADDER = {0.1: (0.90, 0.84), 0.2: (0.88, 0.76), 0.3: (0.70, 0.50), 0.4: (0.62, 0.40)}


def strengths(trial):
    """By ratio, from a chain that is fairest and best to one that is worst in everything."""
    if trial.prune is None or not trial.prune.cuts:
        return 0.90, 0.70
    if trial.prune.criterion.name == "random":
        return 0.80, 0.60
    return LADDER[trial.prune.ratio]


def spec(sampler="grid", stop_at=0.9, **changes):
    search = Search(sampler=sampler, stop_at=stop_at, max_f1_loss=None)
    prune = {"criterion": "snnl", "ratio": choice(*LADDER), "site": "conv"}
    fields = {"prune": prune, "iterations": 3, "seeds": (0, 1, 2), "search": search}
    return fake_spec(**(fields | changes))


@pytest.fixture
def sweep(tmp_path):
    fake = Predicted(tmp_path / "sweep", strengths)
    yield fake
    if fake.ledger is not None:
        fake.ledger.close()


def depths(schedule):
    """Ratio of a treated chain -> iterations that were run."""
    found = {}
    for key, status in schedule.settled.items():
        node = schedule.tree.nodes[key]
        if node.role == "treatment" and status == "done":
            found.setdefault(node.trial.prune.ratio, set()).add(node.trial.n)
    return found


def test_the_hopeless_are_stopped_and_the_best_go_on(sweep):
    schedule = sweep.run(spec())
    assert depths(schedule) == {0.1: {1, 2, 3}, 0.2: {1, 2, 3}, 0.3: {1}, 0.4: {1}} or depths(
        schedule
    ) == {0.1: {1, 2, 3}, 0.2: {1}, 0.3: {1}, 0.4: {1}}
    events = {event["configuration"]: event for event in sweep.events("stopped")}
    for event in events.values():
        assert event["dominated"] >= 0.9
        assert 0 < event["mostly_by_share"] <= event["dominated"]
        node = schedule.tree.example(event["configuration"])
        assert node.trial.n == event["n"] == 1
        assert schedule.tree.example(event["mostly_by"]).trial.n <= 1
    ratios = {schedule.tree.example(name).trial.prune.ratio for name in events}
    assert {0.3, 0.4} <= ratios
    assert schedule.num_stopped == 6 * len(events)
    assert schedule.num_open == 0


def test_stopped_chains_keep_their_points_and_controls_run_to_the_end(sweep):
    schedule = sweep.run(spec())
    stopped = {event["configuration"] for event in sweep.events("stopped")}
    front = build_front(schedule.records, OBJECTIVES)
    shown = {m.aggregate.configuration for m in (*front.members, *front.dominated)}
    assert stopped <= shown
    for node in schedule.tree.nodes.values():
        if node.role != "treatment":
            assert schedule.settled[node.key] == "done"


def test_off_by_default(sweep):
    plain = spec(stop_at=None)
    schedule = sweep.run(plain)
    assert sweep.events("stopped") == []
    assert set(schedule.settled) == set(full_tree(plain, schedule.tree.data, "cpu").nodes)


def outcome(sweep, schedule):
    told = [
        {k: v for k, v in event.items() if k not in ("seq", "time", "elapsed")}
        for event in sweep.events("stopped")
    ]
    return sorted(told, key=str), {k: r["result"] for k, r in schedule.records.items()}


def test_who_is_stopped_does_not_depend_on_workers_or_their_speed(tmp_path):
    found = []
    for workers, shuffle in ((1, None), (2, 0), (5, 1), (16, 2)):
        fake = Predicted(tmp_path / f"{workers}", strengths)
        found.append(outcome(fake, fake.run(spec(), workers=workers, shuffle=shuffle)))
        fake.ledger.close()
    assert found[0][0]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("stop_after", [1, 9, 20, 31])
def test_a_killed_sweep_stops_the_same_chains(tmp_path, stop_after):
    whole, broken = (Predicted(tmp_path / name, strengths) for name in ("whole", "broken"))
    expected = outcome(whole, whole.run(spec()))
    for _ in range(80):
        schedule = broken.start(spec())
        broken.drive(schedule, workers=3, shuffle=0, stop_after=stop_after)
        if schedule.next() == FINISHED and not schedule.running:
            break
    assert outcome(broken, schedule) == expected
    whole.ledger.close()
    broken.ledger.close()


def test_a_chain_that_was_continued_stays_so(sweep):
    """Its first step done with the stop off; on again, what was begun is finished."""
    schedule = sweep.start(spec(stop_at=None))
    sweep.drive(schedule, workers=4, shuffle=0, stop_after=40)
    begun = {
        schedule.tree.nodes[event["key"]].configuration for event in sweep.events("scheduled")
    }
    schedule = sweep.run(spec())
    for node in schedule.tree.nodes.values():
        if node.configuration in begun:
            assert schedule.settled[node.key] == "done"


def test_a_sampler_is_told_that_the_deeper_ones_failed(sweep):
    schedule = sweep.run(spec("tpe"), Budget(configurations=8))
    stopped = [schedule.tree.example(e["configuration"]) for e in sweep.events("stopped")]
    assert stopped
    study = schedule.proposer.study
    told = {
        (trial.params["prune.ratio"], trial.params["n"]): trial.state.name
        for trial in study.trials
        if trial.state.is_finished()
    }
    for node in stopped:
        for n in range(2, 4):
            assert told.get((node.trial.prune.ratio, n), "FAIL") == "FAIL"
        assert told[node.trial.prune.ratio, 1] == "COMPLETE"


def test_a_chain_with_a_failed_seed_waits_for_nobody(sweep):
    schedule = sweep.start(spec())
    sweep.drive(
        schedule,
        workers=2,
        fails=lambda attempt: (
            NAN_LOSS
            if attempt.node.role == "treatment"
            and attempt.node.trial.seed == 1
            and attempt.node.trial.prune.ratio == 0.2
            else None
        ),
    )
    assert depths(schedule)[0.2] >= {1}
    assert schedule.num_open == 0


def test_the_ledger_is_what_a_restart_goes_by(sweep):
    """A chain that the ledger calls stopped stays so, whatever is known by then."""
    sweep.run(spec())
    stopped = {event["configuration"] for event in sweep.events("stopped")}
    sweep.ledger.close()
    reader = Ledger(sweep.folder).open()
    reader.close()
    schedule = sweep.run(spec(stop_at=1.0))
    assert {e["configuration"] for e in sweep.events("stopped")} == stopped
    assert schedule.num_stopped == 6 * len(stopped)
