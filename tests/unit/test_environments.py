"""Which versions results come from: ledger, manifest, and the line that names a difference."""

import json

import pytest
from tiny_sweep import run_tiny

import trainables.trial
from orchestrator.ledger.environments import (
    Environments,
    difference_line,
    driver_environment,
    known,
    of_nodes,
    starts,
    update_manifest,
)
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger, load_records, read_events
from orchestrator.merging.merge import merge_sweeps
from orchestrator.status import sweep_status
from trainables.environment import environment, environment_id, package_versions
from trainables.store import Store

NOW = {"python": "3.11.7", "torch": "2.14.1", "numpy": "2.4.6", "cpu": "A", "device": "cpu"}
BEFORE = NOW | {"torch": "2.13.0", "cpu": "B"}


@pytest.fixture
def ledger(tmp_path):
    with_lock = Ledger(tmp_path).open()
    yield with_lock
    with_lock.close()


def start(ledger, versions):
    noted = Environments(ledger).note(versions)
    ledger.append("started", sweep="s", seeds=[0], sampler="grid", environment=noted)


def test_what_computes_a_node_is_named():
    import torch

    found = environment(torch.device("cpu"))
    assert {"python", "fatefront", "torch", "numpy", "pillow", "cpu"} <= set(found)
    assert found["torch"] == torch.__version__.split("+")[0]
    assert "gpu" not in found
    driver = driver_environment("cpu")
    assert {"optuna", "ray", "mlflow", "pandas"} <= set(driver)
    assert all(isinstance(value, str) for value in driver.values())
    assert len(json.dumps(driver)) < 2000  # an event is under 4 KB


def test_an_absent_package_is_no_error():
    assert package_versions(("no-such-package",))["no-such-package"] == "none"


def test_the_id_is_that_of_the_versions():
    assert environment_id(NOW) == environment_id(dict(reversed(NOW.items())))
    assert environment_id(NOW) != environment_id(BEFORE)


def test_versions_stand_once_before_what_names_them(ledger):
    start(ledger, NOW)
    start(ledger, NOW)
    start(ledger, BEFORE)
    kinds = [event["event"] for event in ledger.events]
    assert kinds == ["environment", "started", "started", "environment", "started"]
    assert Environments(ledger).note(NOW) == environment_id(NOW)
    assert len(ledger.events) == 5
    assert known(ledger.events) == {
        environment_id(NOW): NOW, environment_id(BEFORE): BEFORE
    }  # fmt: skip


def test_starts_are_told_where_they_differ(ledger):
    ledger.append("started", sweep="s", seeds=[0], sampler="grid")  # of an older fatefront
    for versions in (BEFORE, BEFORE, NOW, BEFORE | {"ray": "2.60"}):
        start(ledger, versions)
    found = starts(ledger.events)
    assert [entry["versions"]["torch"] for entry in found] == ["2.13.0", "2.14.1", "2.13.0"]
    assert found[0]["differs"] == {}
    assert found[1]["differs"] == {"torch": ["2.13.0", "2.14.1"], "cpu": ["B", "A"]}
    line = difference_line(ledger.events, {})
    assert line == (
        "versions differ (manifest.json): torch 2.13.0, then 2.14.1, then 2.13.0; "
        "cpu B, then A, then B"
    )


def test_nothing_is_said_where_all_are_alike(ledger):
    start(ledger, NOW)
    start(ledger, NOW)
    assert difference_line(ledger.events, {}) is None


def record(versions, cached=False, **execution):
    told = {"environment": environment_id(versions)} if versions else {}
    return {"status": "done", "execution": told | {"cached": cached} | execution}


def test_results_are_counted_by_their_versions(ledger):
    start(ledger, NOW)
    Environments(ledger).note(BEFORE)
    records = {
        "a": record(NOW),
        "b": record(BEFORE, cached=True),
        "c": record(NOW),
        "d": record(None, torch="2.12.0", cached=True),  # of an older fatefront
        "e": {"status": "failed", "execution": {}},
    }
    found = of_nodes(ledger.events, records)
    assert [(e["num_nodes"], e["num_cached"]) for e in found] == [(2, 0), (1, 1), (1, 1)]
    line = difference_line(ledger.events, records)
    assert line is not None
    assert "torch 2.14.1 (2 results), 2.13.0 (1 result, 1 from the store), 2.12.0 (1" in line
    assert "cpu A (2 results), B (1 result, 1 from the store)" in line
    assert "numpy" not in line
    assert "\n" not in line


@pytest.fixture(scope="module")
def two_sweeps(tmp_path_factory):
    """The second goes on in a folder whose first nodes were computed with an older numpy."""
    base = tmp_path_factory.mktemp("versions")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    real = trainables.trial.environment
    patch.setattr(trainables.trial, "environment", lambda device: real(device) | {"numpy": "2.1"})
    few = {"prune": {"criterion": "snnl", "ratio": 0.3, "site": "conv"}, "controls": ()}
    run_tiny(base / "sweep", base / "cache", seeds=(0,), **few)
    patch.setattr(trainables.trial, "environment", real)
    run_tiny(base / "sweep", base / "cache", seeds=(0, 1), **few)
    yield base / "sweep"
    patch.undo()


def test_a_node_says_what_computed_it(two_sweeps):
    store = Store(str(two_sweeps / "store"))
    found = {}
    for key, record in load_records(two_sweeps).items():
        node = store.node(key)
        assert record["execution"]["environment"] == environment_id(node["environment"])
        found[key] = node["environment"]["numpy"]
    old = [value for value in found.values() if value == "2.1"]
    assert 0 < len(old) < len(found)


def test_status_and_manifest_name_the_difference(two_sweeps):
    line = sweep_status(two_sweeps)["versions"]
    assert line is not None
    assert line.startswith("versions differ (manifest.json): numpy ")
    assert "2.1 (2 results)" in line
    update_manifest(two_sweeps, list(read_events(two_sweeps)), load_records(two_sweeps))
    manifest = read_manifest(two_sweeps)
    assert [entry["num_nodes"] for entry in manifest["results"]] == [2, 2]
    assert {entry["versions"]["numpy"] for entry in manifest["results"]} > {"2.1"}


def test_a_merged_folder_knows_them_too(two_sweeps, tmp_path):
    merge_sweeps([two_sweeps], tmp_path / "merged")
    assert sweep_status(tmp_path / "merged")["versions"] == sweep_status(two_sweeps)["versions"]
    assert len(read_manifest(tmp_path / "merged")["results"]) == 2
