"""Racing, stopped chains and confirmation on real workers: killed in the race and in the
confirmation, a sweep ends with the seeds and results of one that was left alone. (Objectives that
are always defined: a net of one epoch may have no gap.)
"""

import json
import signal

import pytest
from sweep_runs import assert_each_node_once, results, wait_gone, write_space

from orchestrator.ledger.records import load_records, read_events
from orchestrator.tables.tables import TableOptions, make_tables
from search_spaces.sweep_spec import CONFIRMATION

pytestmark = pytest.mark.slow

SEARCH = {
    "sampler": "grid", "racing": True, "max_seeds": 3, "confirm_seeds": 1, "stop_at": 0.6,
    "max_f1_loss": None, "objectives": ["f1", "flops"],
}  # fmt: skip


@pytest.fixture(scope="module")
def space(place):
    prune = {"criterion": "snnl", "ratio": {"choice": [0.1, 0.8]}, "site": "conv"}
    return write_space(
        place / "racing.yaml", prune=prune, seeds=[0, 1], controls=["none"], search=SEARCH
    )


@pytest.fixture(scope="module")
def whole(cli, place, space):
    folder = place / "whole"
    return folder, *cli.run(space, folder, "--workers", "2")


@pytest.fixture(scope="module")
def killed(cli, place, space):
    """Killed once in the race and once in the confirmation."""
    folder = place / "killed"
    for event in ("raced", "confirmed"):
        driver = cli.start(space, folder, "--workers", "2")
        driver.wait_for(event, 1)
        driver.signal(signal.SIGKILL)
    ended = cli.run(space, folder, "--workers", "2")
    wait_gone([p for driver in cli.drivers for p in driver.seen.values()], 60)
    return folder, *ended


def decisions(folder):
    found = [
        {k: v for k, v in event.items() if k not in ("seq", "time", "elapsed")}
        for event in read_events(folder)
        if event["event"] in ("raced", "confirmed", "stopped")
    ]
    return sorted(found, key=lambda event: json.dumps(event, sort_keys=True))


def test_members_are_reported_by_their_fresh_seeds(whole):
    folder, code, document, _ = whole
    assert code == 0
    assert {event["event"] for event in decisions(folder)} >= {"raced", "confirmed"}
    front = json.loads((folder / "front.json").read_text())
    for member in front["members"]:
        assert member["confirmed"]
        assert member["seeds"] == str(CONFIRMATION)
        assert 2 <= member["num_selection_seeds"] <= 3
    for other in front["dominated"]:
        assert max(map(int, other["seeds"].split())) < CONFIRMATION
    assert any("fresh seeds" in note for note in front["notes"])
    assert document["num_failed"] == document["num_blocked"] == 0


def test_nothing_beyond_the_rules_was_run(whole):
    folder, _, document, _ = whole
    assert_each_node_once(folder)
    records = load_records(folder).values()
    selection = {r["trial"]["seed"] for r in records if r["trial"]["seed"] < CONFIRMATION}
    assert selection <= set(range(3))
    stopped = [event for event in decisions(folder) if event["event"] == "stopped"]
    assert bool(stopped) == bool(document["num_stopped"])


def test_tables_show_one_kind_of_seeds(whole):
    folder = whole[0]
    front = json.loads((folder / "front.json").read_text())
    members = {member["configuration"] for member in front["members"]}
    fresh = make_tables(folder, TableOptions(seeds="fresh", published="none"))
    assert fresh["seeds"] == [CONFIRMATION]
    assert members <= {row["configuration"] for row in fresh["rows"]}
    plain = make_tables(folder, TableOptions(published="none"))
    assert max(plain["seeds"]) < CONFIRMATION


def test_killed_in_race_and_confirmation_it_ends_the_same(whole, killed):
    assert killed[1] == 0
    assert decisions(killed[0]) == decisions(whole[0])
    assert results(killed[0]) == results(whole[0])
    assert_each_node_once(killed[0])


def test_the_same_command_does_nothing_more(here, whole, space):
    before = decisions(whole[0])
    code, document = here(space, whole[0])
    assert code == 0
    assert document["num_computed_now"] == 0
    assert decisions(whole[0]) == before
