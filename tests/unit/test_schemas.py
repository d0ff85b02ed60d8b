"""Every schema against what the code really writes, and the page that explains them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator
from PIL import Image
from referencing import Registry, Resource
from tiny_sweep import run_tiny, tiny_spec
from typer.testing import CliRunner

import orchestrator
from orchestrator.cli import app
from orchestrator.fronts.files import COLUMNS
from orchestrator.ledger.environments import Environments, driver_environment
from orchestrator.ledger.records import Ledger, load_records
from orchestrator.run import RunOptions, run_space
from orchestrator.search.proposals import Proposal
from orchestrator.search.proposer import OptunaProposer
from orchestrator.search.schedule import Budget, Schedule
from orchestrator.search.tree import Configuration
from search_spaces.sweep_spec import Search
from trainables.store import Store
from trainables.trial_spec import DataIdentity

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(orchestrator.__file__).parent / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
REGISTRY = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)
VERBS = (
    "run", "plan", "status", "export", "evaluate", "trial", "predict", "merge", "data_prepare",
    "data_inspect", "data_duplicates", "data_fetch", "data_synthesize", "tables", "audit",
    "report", "exits", "cluster_check", "submit", "stop", "jobs", "job_status", "watch", "init",
    "doctor",
)  # fmt: skip
OTHERS = (
    "error", "event", "record", "manifest", "node", "front", "model", "log", "notification",
)  # fmt: skip


def check(name: str, document: object) -> None:
    validator = Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    problems = [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(document)]
    assert problems == []


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer(*arguments: str, code: int = 0) -> dict:
    """What a verb prints with --json; parsing fails if anything else stands on stdout."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = tmp_path_factory.mktemp("schemas")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    # one seed: a root, a control and two treated arms
    run_tiny(base / "sweep", base / "cache", seeds=(0,))
    yield base / "sweep"
    patch.undo()


def test_every_verb_and_file_has_a_schema():
    assert set(SCHEMAS) == {*VERBS, *OTHERS}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_valid_and_say_who_they_are(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"fatefront/{name}.json"
    assert schema["title"]


@pytest.mark.parametrize(
    "name", [*VERBS, "error", "manifest", "node", "front", "model", "notification"]
)
def test_a_key_more_or_less_is_refused(name):
    """So that validating a document shows that the schema knows all its keys."""
    schema = SCHEMAS[name]
    assert schema["additionalProperties"] is False
    assert schema["required"]
    validator = Draft202012Validator(schema, registry=REGISTRY)
    assert any(
        "'strange' was unexpected" in e.message for e in validator.iter_errors({"strange": 1})
    )
    assert any("is a required property" in e.message for e in validator.iter_errors({}))


def properties(schema: object) -> set[str]:
    """Names of all properties of a schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(properties, schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties")
    names = set(own) if isinstance(own, dict) else set()
    return names.union(*map(properties, schema.values()))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_page_names_every_key(name):
    page = (ROOT / "docs/contracts.md").read_text()
    words = {
        word for code in re.findall(r"`([^`\n]+)`", page) for word in re.split(r"[\s,]+", code)
    }
    assert properties(SCHEMAS[name]) - words == set()


def test_the_page_names_every_column_and_event():
    page = (ROOT / "docs/contracts.md").read_text()
    for name in (*COLUMNS, *SCHEMAS["event"]["$defs"]):
        assert f"`{name}`" in page, name


def test_files_of_a_sweep(sweep):
    check("manifest", json.loads((sweep / "manifest.json").read_text()))
    records = lines_of(sweep / "records.jsonl")
    assert {record["trial"]["role"] for record in records} == {"baseline", "treatment", "control"}
    for record in records:
        check("record", record)
        node = Path(Store(str(sweep / "store")).folder(record["key"])) / "node.json"
        check("node", json.loads(node.read_text()))
    kinds = [event["event"] for event in lines_of(sweep / "events.jsonl")]
    assert {"proposal", "scheduled", "done"} <= set(kinds)
    for line in (sweep / "events.jsonl").read_text().splitlines():
        check("event", json.loads(line))
        assert len(line) < 4096


def test_the_other_events(tmp_path):
    """A failure, a retry, a proposal the budget cannot pay, and the life of a driver."""
    spec = tiny_spec(seeds=(0,), search=Search(sampler="random"), iterations=2)
    ledger = Ledger(tmp_path).open()
    ledger.append(
        "started", sweep=spec.name, seeds=list(spec.seeds), sampler="random", command="fatefront"
    )
    schedule = Schedule(
        spec, DataIdentity("data", "groups"), "cpu", ledger, Store(str(tmp_path / "store")),
        OptunaProposer(spec), Budget(trials=5), measure_stored=lambda key: {},
    )  # fmt: skip
    root = schedule.next()
    error = {"type": "OSError", "reason": "disk full", "place": "store.py:1"}
    schedule.failed(root.node.key, error | {"infrastructure": True})
    check("record", schedule_record(ledger, root.node.key))
    root = schedule.next()
    schedule.failed(root.node.key, error | {"infrastructure": False}, {"pid": 1, "peak_kb": 1})
    check("record", schedule_record(ledger, root.node.key))
    ledger.append("interrupted")
    ledger.append("finished", stopped=schedule.stopping)
    arm = Configuration("vanilla", {"criterion": "snnl"}, 1)
    ledger.append("held", **Proposal(9, {"n": 1}, arm, "random").event())
    compared = {"random": root.node.key}
    ledger.append("compared", key=root.node.key, compares_with=compared)
    ledger.append(
        "stopped", configuration="a", n=1, dominated=0.97, mostly_by="b", mostly_by_share=0.5
    )
    name = root.node.configuration
    ledger.append("raced", round=1, seeds={name: 3}, lost={name: 0.5})
    ledger.append("confirmed", configuration=root.node.configuration, seeds=[10_000, 10_001])
    ledger.append("test_opened", keys=[root.node.key])
    ledger.append("dropped", keys=[root.node.key])
    ledger.append("checkpoint_ignored", key=root.node.key, reason="damaged")
    ledger.append("merged", sources=["elsewhere"])
    Environments(ledger).note(driver_environment("cpu"))
    ledger.close()
    events = lines_of(tmp_path / "events.jsonl")
    for event in events:
        check("event", event)
    expected = set(SCHEMAS["event"]["$defs"]) - {"done", "elapsed"}
    assert {event["event"] for event in events} == expected


def schedule_record(ledger: Ledger, key: str) -> dict:
    return load_records(ledger.folder)[key]


def test_verbs_about_a_sweep(sweep, tmp_path):
    status = answer("status", sweep)
    check("status", status)
    check("watch", answer("watch", sweep))
    assert status["num_done"] == len(lines_of(sweep / "records.jsonl"))
    exported = answer("export", sweep, "--to", tmp_path / "out", "--no-test")
    check("export", exported)
    check("front", without_export_columns(json.loads((tmp_path / "out/front.json").read_text())))
    for model in exported["models"]:
        check("model", json.loads((Path(model["path"]) / "model.json").read_text()))
    check("report", answer("report", sweep, "--to", tmp_path / "report.html"))
    tables = answer("tables", sweep, "--published", "all")
    check("tables", tables)
    assert len(tables["rows"]) == status["num_done"]  # one seed
    merged = answer("merge", sweep, "--out", tmp_path / "merged", "--no-weights")
    check("merge", merged)
    for event in lines_of(tmp_path / "merged/events.jsonl"):
        check("event", event)
    key = lines_of(sweep / "records.jsonl")[0]["key"]
    shown = CliRunner().invoke(app, ["show", str(sweep), "--key", key])
    (tmp_path / "trial.yaml").write_text(shown.stdout)
    store = json.loads((sweep / "manifest.json").read_text())["store"]
    trial = answer("trial", tmp_path / "trial.yaml", "--store", store)
    check("trial", trial)
    assert trial["key"] == key
    check("predict", predicted(Path(exported["models"][0]["path"]), tmp_path))


def without_export_columns(front: dict) -> dict:
    kept = [{k: v for k, v in row.items() if k in COLUMNS} for row in front["members"]]
    return front | {"members": kept}


def predicted(model: Path, folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for number in range(3):
        image_HWC = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(image_HWC).save(folder / f"{number}.png")
    table = pd.DataFrame({"path": ["0.png", "1.png", "2.png", "missing.png"]})
    table.to_csv(folder / "t.csv", index=False)
    document = answer("predict", model, folder / "t.csv", "--device", "cpu", "--batch-size", 2)
    assert (document["num_predicted"], document["num_skipped"]) == (3, 1)
    return document


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["search.sampler=tpe", "search.trials=7"],
        ["search.sampler=random", "search.configurations=1", "search.hours=2"],
    ],
)
def test_plan(overrides):
    options = [part for override in overrides for part in ("--set", override)]
    document = answer("plan", "quickstart", "--set", "data.num_images=80", *options)
    check("plan", document)
    assert document["exact"] is (not overrides)


def test_data_verbs(tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    small = ["quickstart", "--set", "data.num_images=30", "--set", "data.image_size=16"]
    check("data_prepare", answer("data", "prepare", *small))
    inspected = answer("data", "inspect", *small)
    check("data_inspect", inspected)
    counts = inspected["counts"].values()
    assert sum(sum(g.values()) for split in counts for g in split.values()) == 30
    compared = answer("data", "inspect", *small, "--against", "{name: synthetic, num_images: 40}")
    check("data_inspect", compared)
    assert compared["against"]["num_shared_images"] == 30  # a set grows at its end
    found = answer("data", "duplicates", *small, "--to", tmp_path / "same.csv")
    check("data_duplicates", found)
    check("data_fetch", answer("data", "fetch", "pad_ufes_20"))
    written = answer(
        "data", "synthesize", tmp_path / "s", "--set", "num_images=24", "--set", "image_size=16"
    )
    check("data_synthesize", written)
    assert len(pd.read_csv(written["table"])) == 24
    check("init", answer("init", written["table"], "--out", tmp_path / "mine.yaml"))


@pytest.mark.parametrize("reference", [False, True])
def test_evaluate(tmp_path, reference):
    rng = np.random.default_rng(1)
    for name in ("ours", "theirs"):
        columns = {"y_true": rng.integers(0, 3, 60), "y_pred": rng.integers(0, 3, 60)}
        columns |= {"group": rng.choice(["a", "b"], 60), "person": rng.integers(0, 20, 60)}
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
    more = ["--reference", tmp_path / "theirs.csv"] if reference else []
    document = answer("evaluate", tmp_path / "ours.csv", "--patient", "person", *more)
    check("evaluate", document)
    assert (document["tag"] is not None) is reference


def test_audit():
    check("audit", answer("audit"))


@pytest.mark.parametrize("file", ["cluster.yaml", "clusters/kuberay.yaml"])
def test_cluster_check(file):
    check("cluster_check", answer("cluster", "check", ROOT / file))


def test_errors():
    document = answer("plan", "quickstrat", code=2)
    check("error", document)
    assert document["exit_code"] == 2
    check("error", answer("plan", code=2))


def test_a_real_run(tmp_path):
    """One sweep through Ray, as a user starts it: stdout is the document and nothing else."""
    space = tiny_spec(seeds=(0,), prune={"criterion": "snnl", "ratio": 0.3, "site": "conv"})
    (tmp_path / "space.yaml").write_text(space.to_yaml())
    # a process of its own: Ray's threads and sockets would trouble the tests that follow
    command = [
        sys.executable, "-m", "orchestrator", "run", "space.yaml", "--out", "sweep",
        "--tracking-uri", "none", "--workers", "1", "--json",
    ]  # fmt: skip
    environment = os.environ | {
        "FATEFRONT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    check("run", document)
    assert (document["num_done"], document["num_computed_now"]) == (3, 3)
    assert document["tracking"] == "off"
    check("front", json.loads((tmp_path / "sweep/front.json").read_text()))
    for name, kind in (("events", "event"), ("records", "record")):
        for line in lines_of(tmp_path / f"sweep/{name}.jsonl"):
            check(kind, line)
    assert yaml.safe_load((tmp_path / "sweep/sweep.yaml").read_text())["name"] == "tiny"
    # all is known by now, so this needs no worker
    again = run_again(tmp_path)
    check("run", {k: v for k, v in again.items() if not k.startswith("_")})
    assert (again["num_done"], again["num_computed_now"], again["seconds"] < 60) == (3, 0, True)
    assert again["front"] == document["front"]


def run_again(folder: Path) -> dict:
    options = RunOptions(
        space=str(folder / "space.yaml"), out=folder / "sweep", tracking_uri="none", quiet=True
    )
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("FATEFRONT_CACHE", str(folder / "cache"))
        return run_space(options)
