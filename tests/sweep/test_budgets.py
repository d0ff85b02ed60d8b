"""Budgets and refusals of the command: what is never exceeded, what extends, what is exit 2."""

import json
import signal
import time
from collections import Counter

import numpy as np
import pytest
from sweep_runs import SPACE, assert_each_node_once, results, wait_gone, write_space

from orchestrator.ledger.records import load_records, read_events

PRUNE = {
    "criterion": {"name": "snnl", "temperature": {"choice": [0.1, 1.0]}},
    "ratio": {"choice": [0.1, 0.3]},
    "site": "conv",
}


def sampled(place, sampler, **changes):
    """8 configurations: 2 ratios, 2 temperatures, up to two iterations; one control."""
    fields = {"prune": PRUNE, "controls": ["none"], "search": {"sampler": sampler}}
    return write_space(place / f"{sampler}.yaml", **(fields | changes))


def computed(folder):
    records = load_records(folder).values()
    return sum(r["status"] in ("done", "failed") for r in records)


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("tpe", [], "sampler tpe needs a budget: --trials, --configurations or --hours"),
        ("tpe", ["--trials", "2"], "--trials 2 is too few: the first configuration needs"),
        ("grid", ["--trials", "2"], "--trials 2 is too few: the first configuration needs 3"),
        ("grid", ["--workers", "0"], "--workers must be at least 1 and at most 1024 but got 0"),
        ("grid", ["--set", "sedes=[1]"], "unknown field 'sedes', did you mean 'seeds'?"),
    ],
)
def test_the_users_mistakes_are_exit_2_in_one_line(here, place, sampler, options, message):
    code, document = here(sampled(place, sampler), place / "refused", *options)
    assert code == 2
    assert document["exit_code"] == 2
    assert message in document["error"]
    assert len(document["error"].splitlines()) == 1
    events = place / "refused" / "events.jsonl"
    assert not events.exists() or not [
        e for e in read_events(events.parent) if e["event"] == "scheduled"
    ]


def test_other_data_in_the_same_folder_is_exit_2(here, place):
    folder = place / "hours"
    space = sampled(place, "grid")
    code, document = here(space, folder, "--hours", "1e-9")
    assert (code, document["stopped"]) == (0, "hours")  # nothing was started, all is well
    assert document["num_done"] == 0
    for change, what in (("attribute=sex", "groups"), ("num_images=65", "data")):
        code, document = here(space, folder, "--set", f"data.{change}")
        assert code == 2
        assert f"holds a sweep of other {what}" in document["error"]
        assert "choose another --out" in document["error"]


@pytest.fixture(scope="module")
def tpe(cli, place):
    space = sampled(place, "tpe")
    folder = place / "tpe"
    return space, folder, cli.run(space, folder, "--trials", "6", "--workers", "2")


@pytest.mark.slow
def test_a_sampler_stays_below_its_trials(here, tpe):
    """6 computed trials at most; the same command adds none."""
    space, folder, (code, document, _) = tpe
    assert code == 0
    assert 3 <= document["num_done"] == computed(folder) <= 6
    first = results(folder)
    code, document = here(space, folder, "--trials", "6", "--workers", "2")
    assert (code, document["num_computed_now"]) == (0, 0)
    assert results(folder) == first
    assert_each_node_once(folder)


@pytest.mark.slow
def test_more_trials_extend_a_search_to_the_end_of_its_space(cli, tpe):
    space, folder, _ = tpe
    first = results(folder)
    # root, `none` and 4 arms, each two deep: 11, far below 100: the space ends
    code, document, _ = cli.run(space, folder, "--trials", "100", "--workers", "2")
    assert code == 0
    assert document["num_done"] == computed(folder) == 11
    assert first.items() <= results(folder).items()
    assert_each_node_once(folder)
    proposals = [e for e in read_events(folder) if e["event"] == "proposal"]
    opened = [json.dumps(e["configuration"]) for e in proposals if e["chosen_by"] != "repeat"]
    assert len(opened) == len(set(opened)) == 8
    for event in proposals:
        if event["origin"] == "ancestor":
            assert event["chosen_by"] == "ancestor"
            assert event["configuration"]["n"] == 1


@pytest.mark.slow
def test_more_seeds_ratios_and_iterations_extend(cli, place):
    folder = place / "wider"
    prune = SPACE["prune"] | {"ratio": {"choice": [0.3]}}
    small = write_space(place / "small.yaml", prune=prune, iterations=1)
    code, document, _ = cli.run(small, folder, "--workers", "2")
    assert (code, document["num_done"]) == (0, 4)
    first = results(folder)
    wide = write_space(place / "wide.yaml", seeds=[0, 1])
    code, document, _ = cli.run(wide, folder, "--workers", "2", "--trials", "9")
    # the other seed of what was opened: 4; the next configuration would need 6 for both seeds
    assert (code, document["num_done"]) == (0, 8)
    code, document, _ = cli.run(wide, folder, "--workers", "2")
    assert (code, document["num_done"]) == (0, 22)
    assert first.items() <= results(folder).items()
    assert_each_node_once(folder)


@pytest.mark.slow
def test_hours_finish_what_runs_and_stop(cli, place):
    folder = place / "seconds"
    space = write_space(place / "seconds.yaml", seeds=[0, 1])
    code, document, _ = cli.run(space, folder, "--hours", "0.003", "--workers", "2")
    assert (code, document["stopped"]) == (0, "hours")
    assert document["num_failed"] == 0
    assert 0 < document["num_done"] < 22
    assert "running" not in {r["status"] for r in load_records(folder).values()}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_killed_search_goes_on(cli, place, sampler):
    """Killed at a random moment: nothing lost, nothing twice, the budget kept."""
    folder = place / f"killed-{sampler}"
    space = sampled(place, sampler)
    options = ["--configurations", "40", "--workers", "2"]
    driver = cli.start(space, folder, *options)
    driver.wait_for("done", 2)
    delay = np.random.default_rng(int(time.time())).uniform(0, 3)
    print(f"killed {delay:.2f} s after the second trial")
    time.sleep(delay)
    driver.signal(signal.SIGKILL)
    code, document, _ = cli.run(space, folder, *options)
    assert code == 0
    assert document["num_failed"] == 0
    assert_each_node_once(folder)
    proposals = [e for e in read_events(folder) if e["event"] == "proposal"]
    assert [e["number"] for e in proposals] == list(range(len(proposals)))
    opened = [json.dumps(e["configuration"]) for e in proposals if e["chosen_by"] != "repeat"]
    assert len(opened) == len(set(opened)) == 8  # the whole space in 40 proposals
    assert document["num_done"] == 11
    counts = Counter(e["origin"] for e in proposals)
    assert counts["proposal"] <= 40 + 5
    wait_gone(list(driver.seen.values()))


@pytest.mark.slow
def test_random_proposes_the_same_with_one_worker_or_two(cli, place):
    space = sampled(place, "random")
    sets = []
    for workers in ("1", "2"):
        folder = place / f"random-{workers}"
        code, _, _ = cli.run(space, folder, "--trials", "8", "--workers", workers)
        assert code == 0
        sets.append(results(folder))
    assert sets[0] == sets[1]
