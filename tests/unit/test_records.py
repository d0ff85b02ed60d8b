"""The ledger and its projection: whole lines, one driver, the first result holds, FATE, sizes."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from fake_sweep import NAN_LOSS, FakeSweep, equal_groups, fake_spec, measured, wide_spec

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import (
    MAX_LINE,
    Ledger,
    compact,
    is_running,
    load_records,
    project,
    read_events,
    write_records,
)
from orchestrator.search.schedule import Budget
from search_spaces.words import choice
from trainables.errors import UserError
from trainables.metrics.summary import summarise

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEDULED = {"trial": {"label": "t", "seed": 0}, "parents": [], "compares_with": {}}


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "sweep").open()
    yield opened
    opened.close()


@pytest.fixture
def finished(tmp_path):
    fake = FakeSweep(tmp_path / "finished")
    fake.run(fake_spec(seeds=(0, 1)))
    fake.ledger.close()
    return fake


# -- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", ['{"seq":3,"ti', '{"seq":3}', "{"])
def test_a_torn_last_line_is_cut_off(ledger, torn):
    """Power went while the last line was written: it never counted, and the next one is whole."""
    for number in range(3):
        ledger.append("retry", key=str(number))
    ledger.close()
    with ledger.path.open("a") as file:
        file.write(torn)
    assert [e["key"] for e in read_events(ledger.folder)] == ["0", "1", "2"]
    again = Ledger(ledger.folder).open()
    again.append("retry", key="3")
    again.close()
    assert [(e["seq"], e["key"]) for e in read_events(ledger.folder)] == [
        (n, str(n)) for n in range(4)
    ]
    assert ledger.path.read_bytes().count(b"\n") == 4


def test_a_damaged_line_inside_is_named(ledger):
    ledger.append("retry", key="0")
    ledger.close()
    with ledger.path.open("a") as file:
        file.write("not json\n")
    with pytest.raises(UserError, match=r"events\.jsonl: line 2 is not JSON"):
        list(read_events(ledger.folder))


def test_not_a_number_never_enters_the_ledger(ledger):
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.append("done", value=float("nan"))
    ledger.append("retry", key="0")
    assert [e["event"] for e in read_events(ledger.folder)] == ["retry"]


def test_no_sweep_here(tmp_path):
    with pytest.raises(UserError, match=f"no sweep in {tmp_path}"):
        load_records(tmp_path)


# -- lock -------------------------------------------------------------------------------------


OPEN = """
import pathlib, sys
from orchestrator.ledger.records import Ledger
from trainables.errors import UserError

try:
    Ledger(pathlib.Path(sys.argv[1])).open()
except UserError as error:
    print(error)
"""


def test_one_driver_at_a_time(ledger):
    """Another process is refused, and changes nothing; who comes when this one has gone may."""
    ledger.append("retry", key="0")
    before = ledger.path.read_bytes()
    said = subprocess.run(
        [sys.executable, "-c", OPEN, str(ledger.folder)], cwd=REPOSITORY, capture_output=True,
        text=True, timeout=200, check=True,
    )  # fmt: skip
    holder = f"(host {platform.node()}, pid {os.getpid()})"
    assert said.stdout.strip() == (
        f"another `fatefront run` {holder} is at work in {ledger.folder}: wait for it, or stop it"
    )
    assert ledger.path.read_bytes() == before
    ledger.close()
    Ledger(ledger.folder).open().close()


def test_whether_a_driver_runs(ledger, tmp_path):
    assert is_running(ledger.folder)
    ledger.close()
    assert not is_running(ledger.folder)
    assert not is_running(tmp_path / "nowhere")


# -- projection -------------------------------------------------------------------------------


def test_the_first_result_of_a_key_holds():
    def event(kind, **fields):
        return {"event": kind, "key": "k"} | SCHEDULED | fields

    def status(*events):
        record = project(list(events))["k"]
        return record["status"], record.get("result")

    scheduled = event("scheduled", attempt="a")
    first, second = event("done", result=1), event("done", result=2)
    failed = event("failed", error=NAN_LOSS)
    assert status(scheduled) == ("running", None)
    assert status(scheduled, first, second) == ("done", 1)
    assert status(scheduled, first, failed) == ("done", 1)
    assert status(scheduled, failed, scheduled) == ("running", None)
    assert status(scheduled, failed, scheduled, first) == ("done", 1)
    assert status(scheduled, {"event": "retry", "key": "k"}) == ("running", None)
    assert project([{"event": "started"}, {"event": "finished"}]) == {}


def fate_by_hand(ours: Mapping, theirs: Mapping, gap: str) -> float:
    """Xu et al. 2023: relative gain in F1 minus relative growth of the gap."""
    gain = (ours["f1"] - theirs["f1"]) / theirs["f1"]
    return gain - (ours[gap] - theirs[gap]) / theirs[gap]


def test_records_carry_fate_against_the_reference_of_their_seed(finished):
    records = load_records(finished.folder)
    assert len(records) == 22
    for record in records.values():
        reference = records[record["compares_with"]["reference"]]
        assert reference["trial"]["n"] == 0
        assert reference["trial"]["seed"] == record["trial"]["seed"]
        ours, theirs = (r["result"]["metrics"]["validation"] for r in (record, reference))
        for gap in ("eopp0", "eopp1", "eodd", "eodd_hardt"):
            expected = fate_by_hand(ours, theirs, gap)
            assert record["fate"][f"fate_{gap}"] == pytest.approx(expected, abs=1e-12)
    roots = [r["fate"] for r in records.values() if r["trial"]["n"] == 0]
    assert [(r["fate_eodd_hardt"], r["tag"]) for r in roots] == [(0.0, "no change")] * 2


def test_fate_waits_for_the_reference(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    fake.drive(fake.start(fake_spec()), stop_after=3)
    events = list(read_events(fake.folder))
    fake.ledger.close()
    root = next(e["key"] for e in events if e["event"] == "done")
    without = project([e for e in events if e["event"] != "done" or e["key"] != root])
    assert {r["fate"] for r in without.values()} == {None}
    assert all(r["fate"] for r in project(events).values() if r["status"] == "done")


def test_a_reference_gap_of_zero_is_undefined_with_its_reason(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    fake.measure = equal_groups
    fake.run(fake_spec())
    fake.ledger.close()
    for record in load_records(fake.folder).values():
        assert record["status"] == "done"
        assert record["fate"]["fate_eodd_hardt"] is None
        assert record["fate"]["undefined"]["fate_eodd_hardt"] == "reference gap is 0"


def test_records_jsonl_is_the_projection(finished):
    records = load_records(finished.folder)
    write_records(finished.folder, records)
    lines = (finished.folder / "records.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(records.values())
    assert not (finished.folder / ".records.jsonl").exists()


# -- size -------------------------------------------------------------------------------------


def line_lengths(folder):
    return [len(line) for line in (folder / "events.jsonl").read_bytes().splitlines(True)]


def crowded(key: str, num_groups: int = 8, num_classes: int = 8, empty: int = 0) -> dict:
    """Metrics with long names, many groups and figures of 17 digits; some groups are empty."""
    rng = np.random.default_rng(int(key[:8], 16))
    count = rng.integers(1, 97, (num_groups, num_classes, num_classes))
    count[:empty] = 0
    groups = [f"Fitzpatrick type {k}, site {k}" for k in range(num_groups)]
    classes = [f"c{k}" for k in range(num_classes)]
    summary = summarise(count, groups=groups, classes=classes)
    return measured(key) | {"metrics": {"validation": summary, "train": summary}}


@pytest.mark.parametrize("empty", [0, 4, 7, 8])
def test_a_line_stays_below_its_limit_with_8_groups(tmp_path, empty):
    """One write of less than 4096 bytes: long recipes, augmentation, 8 groups, undefined gaps."""
    fake = FakeSweep(tmp_path / "sweep")
    fake.measure = lambda key: crowded(key, empty=empty)
    augment = {
        "crop": True, "degrees": 180, "scale": [0.8, 1.2], "brightness": 0.12549019607843137,
        "saturation": 0.5,
    }  # fmt: skip
    recipe = {
        "epochs": 100, "batch_size": 64, "learning_rate": 0.0123456789, "schedule": "cosine",
        "weight_decay": 0.00012345, "augment": augment, "normalise": "imagenet",
    }  # fmt: skip
    spec = fake_spec(
        training=recipe,
        finetune=recipe,
        baseline={"name": "vanilla", "training": recipe | {"epochs": choice(10, 20)}},
    )
    fake.run(spec)
    fake.ledger.close()
    assert max(line_lengths(fake.folder)) < MAX_LINE
    records = load_records(fake.folder)
    assert {r["status"] for r in records.values()} == {"done"}


def test_proposals_of_samplers_stay_below_the_limit(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    fake.run(wide_spec("nsga2"), Budget(configurations=25))
    fake.ledger.close()
    assert max(line_lengths(fake.folder)) < MAX_LINE


def test_compact_keeps_what_fate_needs():
    """FATE and tag from the compact figures are those from the whole ones; a group's scores are
    rounded to nine decimals.
    """
    from trainables.metrics.summary import compare

    ours, theirs = measured("1" * 32), measured("2" * 32)
    whole = compare(ours["metrics"]["validation"], theirs["metrics"]["validation"])
    small = compare(*(compact(m)["metrics"]["validation"] for m in (ours, theirs)))
    rough = "group_changes"
    assert {k: small[k] for k in small if k != rough} == {k: whole[k] for k in whole if k != rough}
    for group, changes in whole[rough].items():
        assert small[rough][group] == pytest.approx(changes, abs=1e-8)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("runs/mien", "no such folder, did you mean 'runs/mine'?"),
        ("run/mine", "no such folder, did you mean 'runs/mine'?"),
        ("mine", "no such folder, did you mean 'runs/mine'?"),
        ("runs", "it has no manifest.json, did you mean 'runs/mine'?"),
        ("elsewhere", "no such folder"),
    ],
)
def test_the_sweep_that_may_have_been_meant_is_named(tmp_path, monkeypatch, asked, said):
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/manifest.json").write_text("{}")
    with pytest.raises(UserError) as error:
        read_manifest(Path(asked))
    assert str(error.value) == f"no sweep in {asked}: {said}"
