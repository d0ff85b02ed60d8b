"""The plan is the tree, counted: the numbers are those of a brute-force walk and of a real run."""

from types import SimpleNamespace

import pytest
from fake_sweep import FakeSweep, fake_spec

from orchestrator.ledger.records import load_records
from orchestrator.plan import duration, plan_space
from search_spaces.words import choice, integer, number, one_of
from trainables.errors import UserError

SPACES = {
    "plain": {},
    "seeds": {"seeds": (0, 1, 2), "iterations": 3},
    "no controls": {"controls": ()},
    "two arms": {"prune": one_of({"name": "snnl", "ratio": choice(0.1, 0.2)}, "random")},
    "two roots": {"baseline": {"name": "vanilla", "training": {"epochs": integer(1, 2)}}},
}


@pytest.mark.parametrize("changes", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_plan_of_a_grid_is_what_is_run(tmp_path, changes, workers):
    spec = fake_spec(**changes)
    plan = plan_space(spec, "cpu")
    fake = FakeSweep(tmp_path / "sweep")
    fake.run(spec, workers=workers)
    fake.ledger.close()
    records = load_records(fake.folder).values()
    assert plan["exact"] is True
    assert plan["num_trials"] == plan["num_nodes"] == len(records)
    for name, role in (
        ("num_baselines", "baseline"), ("num_treatments", "treatment"),
        ("num_controls", "control"),
    ):  # fmt: skip
        assert plan[name] == sum(r["trial"]["role"] == role for r in records)
    treated = {r["trial"]["configuration"] for r in records if r["trial"]["role"] == "treatment"}
    assert plan["num_configurations"] == len(treated)
    depths = [r["trial"]["n"] + 1 for r in records]  # without sharing: the whole chain each
    assert plan["num_steps_without_sharing"] == sum(depths)


def test_numbers_by_hand():
    """3 seeds, 2 ratios, 3 iterations: a root, `none` once, `snnl` and `random` at each ratio."""
    plan = plan_space(fake_spec(seeds=(0, 1, 2), iterations=3), "cpu")
    assert plan["num_trials"] == 3 * (1 + 3 * (1 + 2 + 2)) == 48
    assert plan["num_configurations"] == 6
    # each of 5 arms a seed: 2 + 3 + 4 steps of its own, and a root
    assert plan["num_steps_without_sharing"] == 3 * (1 + 5 * 9)
    assert plan["num_seeds"] == 3


def test_seconds_count_what_is_shared_once():
    """All nodes cost alike here but for scoring: the ratio of seconds is near that of steps."""
    plan = plan_space(fake_spec(training={"epochs": 10}, finetune={"epochs": 10}), "cpu")
    steps = plan["num_steps_without_sharing"] / plan["num_nodes"]
    assert plan["sharing"] == pytest.approx(steps, rel=0.05)
    assert plan["seconds_without_sharing"] > plan["seconds"]


def test_a_sampler_with_a_budget_is_an_upper_bound():
    assert plan_space(fake_spec("tpe"), "cpu")["exact"] is False
    assert plan_space(fake_spec("tpe"), "cpu")["num_trials"] == 11


def test_a_sweep_that_finds_no_room_is_told_before(monkeypatch):
    """1,001 models of 45 MB; a VGG-11 takes half a GB."""
    spec = fake_spec(seeds=tuple(range(91)))
    bytes_needed = plan_space(spec, "cpu")["bytes"]
    for free, is_told in ((bytes_needed, False), (bytes_needed - 1, True)):
        usage = SimpleNamespace(total=10**12, used=0, free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        told = [note for note in plan_space(spec, "cpu")["notes"] if "GB are free here" in note]
        assert bool(told) == is_told
    assert "only 44.8 GB are free here: `run --max-disk`" in told[0]


def test_no_plan_for_an_endless_space():
    spec = fake_spec("tpe", prune={"criterion": "snnl", "ratio": number(0.1, 0.5)})
    with pytest.raises(UserError, match="fake: the space has real-valued words"):
        plan_space(spec, "cpu")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (3.4, "3 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
