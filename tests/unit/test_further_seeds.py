"""Racing and confirmation in the schedule: real ledger, tree, metrics and draws; only the training
is left out, its predictions are made up for each arm's strength.
"""

from dataclasses import replace

import numpy as np
import pytest
from fake_sweep import fake_spec
from predicted_sweep import IMAGES, Predicted

from orchestrator.fronts.files import document, render
from orchestrator.fronts.front import build_front, sweep_front
from orchestrator.fronts.headline import headline, is_refuted
from orchestrator.judging.evidence import Evidence
from orchestrator.search.schedule import FINISHED, Budget
from orchestrator.search.tree import full_tree
from search_spaces.sweep_spec import CONFIRMATION, Search
from search_spaces.words import choice
from trainables.store import StoreError
from trainables.trial_spec import configuration_label

OBJECTIVES = ("fate_eodd_hardt", "f1")


def racing_spec(**changes):
    search = Search(sampler="grid", racing=True, max_f1_loss=None, **changes.pop("search", {}))
    return fake_spec(seeds=(0, 1, 2), search=search, iterations=1, **changes)


@pytest.fixture
def sweep(tmp_path):
    fake = Predicted(tmp_path / "sweep")
    yield fake
    if fake.ledger is not None:
        fake.ledger.close()


def seeds_of(schedule):
    """Label of an arm -> its seeds that are done."""
    found = {}
    for key, status in schedule.settled.items():
        trial = schedule.tree.nodes[key].trial
        if status == "done":
            found.setdefault(configuration_label(trial), set()).add(trial.seed)
    return found


def test_seeds_go_where_the_front_is_in_doubt(sweep):
    schedule = sweep.run(racing_spec(search={"max_seeds": 7}))
    found = {
        name: {s for s in seeds if s < CONFIRMATION} for name, seeds in seeds_of(schedule).items()
    }
    numbers = {name: len(seeds) for name, seeds in found.items()}
    assert max(numbers.values()) <= 7
    for seeds in found.values():  # the smallest numbers, none left out
        assert seeds == set(range(len(seeds)))
    random = [n for name, n in numbers.items() if "random" in name]
    assert max(numbers.values()) > 3
    treated = [n for name, n in numbers.items() if "snnl" in name]
    assert max(treated) >= max(random)
    rounds = [event["round"] for event in sweep.events("raced")]
    assert rounds == sorted(rounds)
    assert rounds[0] == 1


def test_a_treated_arms_seed_brings_its_controls_and_the_reference(sweep):
    schedule = sweep.run(racing_spec())
    for key in schedule.settled:
        node = schedule.tree.nodes[key]
        named = {"reference", "own"}
        named |= {"none", "random"} if node.role == "treatment" else set()
        assert named <= set(node.compares_with)
        for other in node.compares_with.values():
            assert schedule.settled[other] == "done"
            assert schedule.tree.nodes[other].trial.seed == node.trial.seed


def test_members_are_confirmed_by_fresh_seeds_alone(sweep):
    schedule = sweep.run(racing_spec(search={"confirm_seeds": 4}))
    selection = build_front(schedule.records, OBJECTIVES, raced_from=(0, 1, 2), confirmed=False)
    front = build_front(schedule.records, OBJECTIVES, raced_from=(0, 1, 2))
    fresh = tuple(range(CONFIRMATION, CONFIRMATION + 4))
    assert {m.aggregate.configuration for m in front.members} == {
        m.aggregate.configuration for m in selection.members
    }
    for member in front.members:
        point = member.aggregate
        assert point.seeds == fresh
        values = [
            schedule.records[key]["result"]["metrics"]["validation"]["f1"] for key in point.keys
        ]
        assert point.figures["f1"] == pytest.approx(np.mean(values), abs=1e-12)
        assert min(front.selected[point.configuration].aggregate.seeds) == 0
    for member in (*selection.members, *selection.dominated):
        assert max(member.aggregate.seeds) < CONFIRMATION
    assert any("fresh seeds" in note for note in front.notes)


def test_fresh_seeds_choose_nothing(sweep):
    """Whatever the fresh seeds show, the members stay those of the selection."""
    schedule = sweep.run(racing_spec())
    worse = {
        key: record
        | (
            {}
            if record["trial"]["seed"] < CONFIRMATION or record["trial"]["role"] != "treatment"
            else {"result": record["result"] | {"metrics": terrible(record)}}
        )
        for key, record in schedule.records.items()
    }
    before = build_front(schedule.records, OBJECTIVES, raced_from=(0, 1, 2), confirmed=False)
    after = build_front(worse, OBJECTIVES, raced_from=(0, 1, 2))
    assert set(after.selected) == {m.aggregate.configuration for m in before.members}
    treated = [m for m in after.members if m.aggregate.trial["role"] == "treatment"]
    assert treated
    assert all(m.aggregate.figures["f1"] == 0.1 for m in treated)


def with_less_f1(records, spared=()):
    """The fresh seeds of all but the reference and the spared arms with a tenth of the F1."""
    found = {}
    for key, record in records.items():
        trial, metrics = record["trial"], record["result"]["metrics"]
        reference = record["compares_with"].get("reference", key) == key
        if trial["seed"] >= CONFIRMATION and not reference and trial["label"] not in spared:
            own = metrics["validation"]
            groups = {n: g | {"f1": g["f1"] / 10} for n, g in own["groups"].items()}
            metrics = metrics | {"validation": own | {"groups": groups}}
        found[key] = record | {"result": record["result"] | {"metrics": metrics}}
    return found


def test_the_headline_says_that_fresh_seeds_refute_the_front(sweep):
    schedule = sweep.run(racing_spec())
    limits = {"raced_from": (0, 1, 2), "max_f1_loss": 0.5}
    before = build_front(schedule.records, OBJECTIVES, **limits)
    treated = [m.aggregate.trial["label"] for m in before.members]
    assert " on the front" in headline(before)
    assert before.hypervolume > 0
    assert not before.violating
    after = build_front(with_less_f1(schedule.records), OBJECTIVES, **limits)
    everyone = len(after.violating) == len(after.members)
    assert is_refuted(after) == everyone
    told = headline(after)
    if everyone:
        assert told.startswith("No front is confirmed: on 5 fresh seeds ")
        assert after.hypervolume == 0
    else:
        num = len(after.members)
        assert told.startswith(f"{num - len(after.violating)} of {num} members are confirmed")
    assert f"was {after.selection_hypervolume:.4f}" in told
    assert after.selection_hypervolume > 0
    assert told in str(render(after).title)
    assert document(after)["headline"] == told
    bad = {m.aggregate.configuration for m in after.violating}
    assert bad
    for line in document(after)["members"]:
        assert line["feasible"] == (line["configuration_key"] not in bad)
    assert all(m.aggregate.tag == "levelling down" for m in after.violating), treated


def test_a_front_of_which_nothing_is_left_has_no_hypervolume(sweep):
    """With a limit that nobody keeps."""
    schedule = sweep.run(racing_spec())
    front = build_front(schedule.records, OBJECTIVES, raced_from=(0, 1, 2))
    front = replace(front, max_f1_loss=-10.0)
    assert is_refuted(front)
    assert "members lose" in headline(front) or "only member loses" in headline(front)


def terrible(record):
    found = record["result"]["metrics"]
    return found | {"validation": found["validation"] | {"f1": 0.1}}


def test_without_racing_members_can_be_confirmed_too(sweep):
    search = Search(sampler="grid", confirm_seeds=3, max_f1_loss=None)
    schedule = sweep.run(fake_spec(seeds=(0, 1, 2), iterations=1, search=search))
    assert sweep.events("raced") == []
    front = build_front(schedule.records, OBJECTIVES)
    assert {m.aggregate.seeds for m in front.members} == {
        (CONFIRMATION, CONFIRMATION + 1, CONFIRMATION + 2)
    }


def test_a_plain_sweep_adds_nothing(sweep):
    spec = fake_spec(seeds=(0, 1, 2), iterations=1)
    schedule = sweep.run(spec)
    assert sweep.events("raced", "confirmed") == []
    assert set(schedule.tree.nodes) == set(full_tree(spec, schedule.tree.data, "cpu").nodes)


def outcome(sweep, schedule):
    decided = [
        {k: v for k, v in event.items() if k not in ("seq", "time", "elapsed")}
        for event in sweep.events("raced", "confirmed")
    ]
    return decided, {key: record["result"] for key, record in schedule.records.items()}


def test_a_killed_race_goes_on_as_if_nothing_had_happened(tmp_path):
    spec = racing_spec(search={"max_seeds": 6, "confirm_seeds": 2})
    whole = Predicted(tmp_path / "whole")
    schedule = whole.run(spec)
    expected = outcome(whole, schedule)
    num = len(schedule.settled)
    assert len(expected[0]) > 2
    for stop_after in (1, num // 3, num // 2, num - 8, num - 3):
        broken = Predicted(tmp_path / f"broken-{stop_after}")
        for _ in range(50):
            schedule = broken.start(spec)
            broken.drive(schedule, workers=2, shuffle=stop_after, stop_after=stop_after)
            if schedule.next() == FINISHED and not schedule.running:
                break
        assert outcome(broken, schedule) == expected
        broken.ledger.close()
    whole.ledger.close()


@pytest.mark.parametrize("trials", [25, 40, 60])
def test_the_budget_holds_and_leaves_room_for_confirmation(sweep, trials):
    spec = racing_spec(
        prune={"criterion": "snnl", "ratio": choice(0.1, 0.15, 0.2, 0.3), "site": "conv"},
        search={"reserve": 0.5},
    )
    schedule = sweep.run(spec, Budget(trials=trials))
    assert schedule.num_computed <= trials
    searched = [
        key
        for key in schedule.settled
        if schedule.tree.nodes[key].trial.seed < 3 and schedule.settled[key] == "done"
    ]
    assert len(searched) <= trials // 2 or trials == 25
    front = build_front(schedule.records, OBJECTIVES, raced_from=(0, 1, 2))
    if trials >= 40:
        assert front.selected, "nothing was confirmed"


def test_hours_leave_time_for_confirmation(sweep):
    spec = racing_spec(search={"reserve": 0.4, "confirm_seeds": 2})
    schedule = sweep.start(spec, Budget(hours=1))
    step = schedule.next()
    sweep.finish(schedule, step)
    sweep.now = 3600 * 0.85  # search and race are over
    sweep.drive(schedule)
    assert sweep.events("raced") == []
    assert sweep.events("confirmed")


def test_a_failed_seed_is_not_given_twice(sweep):
    schedule = sweep.start(racing_spec(search={"max_seeds": 6, "confirm_seeds": 0}))
    error = {"type": "TrainingError", "reason": "train_loss is nan", "infrastructure": False}
    sweep.drive(
        schedule,
        fails=lambda attempt: (
            error
            if attempt.node.trial.seed == 3 and attempt.node.role == "treatment"
            else None
        ),
    )
    given = [pair for event in sweep.events("raced") for pair in event["seeds"].items()]
    assert len(given) == len(set(given))


def test_what_another_sweep_has_done_is_not_computed_again(tmp_path):
    spec = racing_spec(search={"max_seeds": 5, "confirm_seeds": 2})
    first = Predicted(tmp_path / "first")
    done = first.run(spec)
    second = Predicted(tmp_path / "second")
    second.store = first.store
    schedule = second.run(spec)
    assert schedule.num_computed == 0
    assert set(schedule.settled) == set(done.settled)
    first.ledger.close()
    second.ledger.close()


def test_a_store_without_predictions_ends_the_race_not_the_sweep(sweep):
    schedule = sweep.start(racing_spec())
    schedule._further.standings._open = lambda: Gone(sweep.store, IMAGES, {})
    sweep.drive(schedule)
    assert sweep.events("raced") == []
    assert sweep.events("confirmed")


class Gone(Evidence):
    def prediction_N(self, key):
        raise StoreError("gone")


def test_all_that_began_with_two_seeds_stay_in_the_race(sweep):
    """Seeds that the race gave to some do not become what all must have."""
    spec = racing_spec(search={"max_seeds": 6, "confirm_seeds": 0}).model_copy(
        update={"seeds": (0, 1)}
    )
    schedule = sweep.run(spec)
    assert sweep.events("raced")
    front = sweep_front(schedule.records, spec, confirmed=False)
    assert front.incomplete == ()
    compared = [m.aggregate for m in (*front.members, *front.dominated)]
    assert len(compared) == len({node.configuration for node in schedule.tree.nodes.values()})
    assert max(len(point.seeds) for point in compared) > 2


def barely(trial):
    """Alike, so that who violates the constraint is decided by noise."""
    return 0.90, 0.70


def test_who_violates_the_constraint_by_chance_is_raced_too(tmp_path):
    fake = Predicted(tmp_path / "sweep", barely)
    search = {"max_seeds": 6, "confirm_seeds": 0}
    spec = racing_spec(search=search)
    spec = spec.model_copy(
        update={"search": spec.search.model_copy(update={"max_f1_loss": 0.01})}
    )
    schedule = fake.start(spec)
    while not fake.events("raced"):
        fake.finish(schedule, schedule.next())
    selecting = {
        key: record
        for key, record in schedule.records.items()
        if record["status"] == "done" and record["trial"]["seed"] < 3
    }
    front = sweep_front(selecting, spec, confirmed=False)
    violating = {
        m.aggregate.configuration for m in front.dominated if not front.is_feasible(m.aggregate)
    }
    assert violating
    fake.drive(schedule)
    raced = {name for event in fake.events("raced") for name in event["seeds"]}
    assert raced & violating
    for event in fake.events("raced"):
        assert event["lost"].keys() == event["seeds"].keys()
        assert all(0 <= share <= 1 for share in event["lost"].values())
    fake.ledger.close()


def test_what_was_not_confirmed_says_so(sweep):
    spec = racing_spec(search={"reserve": 0.0, "confirm_seeds": 4})
    trials = len(full_tree(spec, sweep.start(spec).tree.data, "cpu").nodes)
    schedule = sweep.run(spec, Budget(trials=trials))
    front = sweep_front(schedule.records, spec)
    assert not front.selected
    assert any(note.startswith("not confirmed: no fresh seed was trained") for note in front.notes)
    assert schedule.notes == [
        note for note in schedule.notes if note.startswith("racing ended with the budget")
    ]
    assert schedule.notes


def test_a_member_that_violates_the_constraint_on_fresh_seeds_is_named(sweep):
    spec = racing_spec(search={"confirm_seeds": 3})
    schedule = sweep.run(spec)
    front = sweep_front(schedule.records, spec)
    worst = max(m.aggregate.figures["f1_loss"] for m in front.members)
    limit = spec.search.model_copy(update={"max_f1_loss": max(0.0, worst - 1e-9)})
    found = sweep_front(schedule.records, spec.model_copy(update={"search": limit}))
    losing = [m for m in found.members if not found.is_feasible(m.aggregate)]
    told = any("on the fresh seeds" in note and "lose more" in note for note in found.notes)
    assert bool(losing) == told
    if front.knee is not None:
        point = front.members[front.knee].values
        assert not any(
            other.values != point and np.all(np.array(other.values) >= point)
            for other in front.members
        )


def test_stored_chains_are_not_stopped(tmp_path):
    """A store that has the whole grid: nothing is to be saved, and members get their seeds."""
    first = Predicted(tmp_path / "first")
    spec = racing_spec(search={"confirm_seeds": 0}).model_copy(update={"iterations": 2})
    first.run(spec)
    second = Predicted(tmp_path / "second")
    second.store = first.store
    search = spec.search.model_copy(update={"stop_at": 0.55, "confirm_seeds": 3})
    stopping = spec.model_copy(update={"search": search})
    schedule = second.run(stopping)
    assert second.events("stopped") == []
    front = sweep_front(schedule.records, stopping)
    assert front.selected
    assert schedule.num_open == 0
    first.ledger.close()
    second.ledger.close()
