"""MLflow from the ledger: what is written, that nothing is written twice whatever kills the
writer, and models.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from test_front import Folder, key_of, sweep
from tiny_sweep import run_tiny, tiny_spec

from orchestrator.ledger.records import Ledger, load_records
from orchestrator.tracking.follower import Follower
from orchestrator.tracking.process import TrackingError, default_uri, main, sync
from orchestrator.tracking.runs import Times, flatten, node_content, plain_name, unique_names
from search_spaces.sweep_spec import Search
from trainables.store import Store

# MLflow, asked by the tests themselves, and its database library warn of their own ways
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

ROOT = Path(__file__).resolve().parents[2]
CURVES = [{"loss": 1.5, "learning_rate": 0.1}, {"loss": 1.25, "learning_rate": 0.1}]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/unit", "OMP_NUM_THREADS": "1"}

KILLER = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
import orchestrator.tracking.process as tracking
import orchestrator.tracking.models

folder, uri, final, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "final", int(sys.argv[4])
WRITES = ("create_experiment", "create_run", "log_batch", "log_artifact", "log_artifacts",
          "set_terminated", "set_tag", "delete_tag", "create_logged_model", "update_run",
          "create_registered_model", "create_model_version", "set_model_version_tag")

def deadly(name, count, limit, before):
    real = getattr(MlflowClient, name)
    def call(*args, **kwargs):
        count[0] += 1
        if count[0] == limit and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if count[0] == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(MlflowClient, name, call)

kills = 0
while True:
    child = os.fork()
    if child == 0:
        count = [0]
        for name in WRITES:
            deadly(name, count, step, before=kills % 3 == 2)
        tracking.sync(folder, uri, final=final)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        print(kills)
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
    assert kills < 60
"""


def client_of(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def all_runs(uri: str, name: str = "tiny") -> list:
    """Every run of the sweep's experiment, deleted ones too."""
    from mlflow.entities import ViewType

    client = client_of(uri)
    experiment = client.get_experiment_by_name(name)
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))


def configurations(uri: str) -> dict:
    """The runs of configurations by their label."""
    found = [r for r in all_runs(uri) if r.data.tags.get("fatefront.kind") == "configuration"]
    named = {run.data.tags["configuration"]: run for run in found}
    assert len(named) == len(found)
    return named


def by_key(uri: str) -> dict:
    """The runs of nodes and of the sweep."""
    return {
        run.data.tags.get("fatefront.key", "sweep"): run
        for run in all_runs(uri)
        if run.data.tags.get("fatefront.kind") != "configuration"
    }


def prepare(path: Path, folder: Folder) -> Path:
    """Make a ledger's folder a whole sweep folder; every node has curves in the store."""
    search = Search(sampler="grid", max_f1_loss=None)
    (path / "sweep.yaml").write_text(tiny_spec(name="tiny", search=search).to_yaml())
    manifest = {
        "fatefront": "0.1.0",
        "sweep": "tiny",
        "sweep_id": "abc123",
        "store": str(path / "store"),
        "device": "cpu",
        "mode": "corrected",
        "backbone": {"name": "resnet18"},
        "python": "3.11.0",
        "tracking_uri": "",
        "data": {
            "num_images": 10,
            "num_unknown_group": 0,
            "image_size": 32,
            "warnings": [],
            "fingerprint": "f" * 64,
            "group_digest": "b" * 64,
            "name": "synthetic",
            "attribute": "tone",
            "classes": ["nv", "mel"],
            "groups": ["light", "dark"],
        },
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    store = Store(str(path / "store"))
    for key, record in load_records(path).items():
        if record["status"] == "done":
            store.commit(key, {"curves.json": json.dumps(CURVES).encode()}, {})
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten done nodes and a failed one."""
    made = sweep(tmp_path)
    made.failed("vanilla > snnl d", 1)
    made.ledger.close()
    return prepare(tmp_path, made)


def append(path: Path, write) -> None:
    """Go on with a ledger as a new start of the driver does."""
    made = Folder(path)
    write(made)
    made.ledger.close()


def check_nothing_doubled(uri: str, num_nodes: int) -> None:
    """One run a node and a parent; every metric has one point a step."""
    runs = all_runs(uri)
    nodes = [run for run in runs if run.data.tags.get("fatefront.kind") != "configuration"]
    keys = Counter(run.data.tags.get("fatefront.key", "sweep") for run in nodes)
    assert len(nodes) == num_nodes + 1
    configurations(uri)
    assert set(keys.values()) == {1}
    client = client_of(uri)
    for run in runs:
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), (name, steps)


def test_a_node_as_a_run(tmp_path):
    record = sweep(tmp_path).records()[key_of("vanilla > snnl a", 1)]
    record["trial"]["baseline"] = {"name": "mfd", "kernel": {"name": "rbf", "width": 2}}
    content = node_content(record, Times(10.0, 20.0), "resnet18", "file:///nodes/k")
    assert content.params == {
        "baseline": "mfd",
        "baseline.kernel.name": "rbf",
        "baseline.kernel.width": "2",
        "backbone": "resnet18",
        "criterion": "snnl",
        "site": "conv",
        "layer": "layer4.1.conv2",
        "ratio": "0.1",
        "n": "1",
        "seed": "1",
        "prune.criterion.name": "snnl",
    }
    assert content.metrics["f1"] == 0.45
    assert content.metrics["group.dark.f1"] == pytest.approx(0.35)
    assert content.metrics["train.accuracy"] == 0.9
    assert content.metrics["fate_eodd_hardt"] == pytest.approx(
        (0.45 - 0.5) / 0.5 - (0.1 - 0.2) / 0.2
    )
    assert content.metrics["num_params"] == 1000
    assert "train.eodd_hardt" not in content.metrics
    assert "train.eodd_hardt: undefined" in content.tags["fatefront.undefined"]
    assert content.tags["fatefront.store"] == "file:///nodes/k"
    assert (content.status, content.name) == ("FINISHED", "vanilla · snnl a · seed 1")
    # started at 1.7e9 + 1 s by the worker's clock, 2.5 s + .5 s of work
    assert (content.start, content.end) == (1_700_000_001_000, 1_700_000_004_000)


def test_a_failed_node_as_a_run(tmp_path):
    folder = Folder(tmp_path)
    key = folder.failed("vanilla", 0, "baseline")
    content = node_content(folder.records()[key], Times(10.0, 20.0), "resnet18", "")
    assert (content.status, content.metrics) == ("FAILED", {})
    assert content.tags["fatefront.error"] == "TrainingError: loss is nan in epoch 1 of 2"
    assert "fatefront.store" not in content.tags
    assert (content.start, content.end) == (10_000, 20_000)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("dark", "dark"),
        ("age >= 60", "age __ 60"),
        ("I-III (light)", "I-III _light_"),
        ("a/../b", "a__._b"),
        ("", "_"),
    ],
)
def test_names_that_mlflow_takes(name, plain):
    from mlflow.utils.validation import _validate_metric_name

    assert plain_name(name) == plain
    _validate_metric_name(f"group.{plain}.f1")


def test_groups_whose_names_coincide_stay_apart():
    assert unique_names([">60", "<60", "=60", "_60-2"]) == ["_60", "_60-2", "_60-3", "_60-2-2"]


def test_flatten_keeps_every_leaf():
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {
        "a.b": 1,
        "a.c.d": [1, 2],
        "e": {},
    }


def test_sync_writes_a_parent_and_a_run_a_node(folder):
    uri = default_uri(folder)
    assert sync(folder, uri) == {"created": 11, "completed": 11, "unchanged": 0, "deleted": 0}
    runs = by_key(uri)
    assert len(runs) == 12
    parent = runs.pop("sweep")
    assert set(runs) == set(load_records(folder))
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.data.tags["fatefront.sweep_id"] == "abc123"
    assert parent.data.params["search.sampler"] == "grid"
    assert parent.data.params["seeds"] == "[0, 1]"
    states = Counter(run.info.status for run in runs.values())
    assert states == {"FINISHED": 10, "FAILED": 1}
    run = runs[key_of("vanilla > snnl a", 0)]
    assert run.data.metrics["f1"] == 0.45
    assert run.data.metrics["fate_eodd_hardt"] == pytest.approx(0.4)
    assert run.data.tags["role"] == "treatment"
    assert run.info.start_time == 1_700_000_000_000
    assert run.info.end_time - run.info.start_time == 3000
    client = client_of(uri)
    losses = client.get_metric_history(run.info.run_id, "epoch.loss")
    assert [(point.step, point.value) for point in losses] == [(1, 1.5), (2, 1.25)]
    assert (folder / "mlflow.db").exists()
    files = [path.name for path in (folder / "mlartifacts").rglob("*") if path.is_file()]
    assert files == ["sweep.yaml"]


def test_again_changes_nothing(folder):
    uri = default_uri(folder)
    sync(folder, uri, final=True, track_models="none")
    before = [(r.info.run_id, r.info.end_time, r.data.to_dictionary()) for r in all_runs(uri)]
    lines = (folder / "tracking.jsonl").read_text()
    counts = sync(folder, uri, final=True, track_models="none")
    assert counts == {
        "created": 0,
        "completed": 0,
        "unchanged": 11,
        "deleted": 0,
        "models": 0,
        "not_exported": 0,
    }
    assert [
        (r.info.run_id, r.info.end_time, r.data.to_dictionary()) for r in all_runs(uri)
    ] == before
    assert (folder / "tracking.jsonl").read_text() == lines
    check_nothing_doubled(uri, 11)


@pytest.mark.parametrize("left", ["nothing", "half a line"])
def test_runs_are_found_again_without_tracking_jsonl(folder, left):
    uri = default_uri(folder)
    sync(folder, uri)
    path = folder / "tracking.jsonl"
    path.write_bytes(b"" if left == "nothing" else path.read_bytes()[:-20])
    assert sync(folder, uri)["created"] == 0
    assert sync(folder, uri)["unchanged"] == 11
    check_nothing_doubled(uri, 11)


def test_a_reference_that_comes_late_completes_fate(tmp_path):
    made = Folder(tmp_path)
    key = made.done("vanilla > snnl a", 0, 0.45, 0.1)
    made.ledger.close()
    uri = default_uri(prepare(tmp_path, made))
    sync(tmp_path, uri)
    assert "fate_eodd_hardt" not in by_key(uri)[key].data.metrics
    append(tmp_path, lambda made: made.done("vanilla", 0, 0.5, 0.2, "baseline"))
    assert sync(tmp_path, uri) == {"created": 1, "completed": 2, "unchanged": 0, "deleted": 0}
    assert by_key(uri)[key].data.metrics["fate_eodd_hardt"] == pytest.approx(0.4)
    check_nothing_doubled(uri, 2)


def test_a_failed_node_that_is_retried_keeps_its_run(folder):
    uri = default_uri(folder)
    sync(folder, uri)
    key = key_of("vanilla > snnl d", 1)
    first = by_key(uri)[key]
    append(folder, lambda made: made.done("vanilla > snnl d", 1, 0.6, 0.1))
    assert sync(folder, uri)["completed"] == 1
    run = by_key(uri)[key]
    assert run.info.run_id == first.info.run_id
    assert (first.info.status, run.info.status) == ("FAILED", "FINISHED")
    assert run.data.metrics["f1"] == 0.6
    assert "fatefront.error" in first.data.tags
    assert "fatefront.error" not in run.data.tags
    assert "no file 'curves.json'" in run.data.tags["fatefront.curves"]


@pytest.mark.parametrize("told", ["the second", "nothing"])
def test_runs_that_a_slow_server_makes_twice_are_one(tmp_path, monkeypatch, told):
    """The client waits no longer and asks again, the server carries out both; or its answer is
    lost altogether.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    real, made = MlflowClient.create_run, Counter()

    def twice(client, experiment_id, start_time=None, tags=None, run_name=None):
        given = (experiment_id, start_time, tags, run_name)
        made[tags.get("fatefront.key", run_name)] += 1
        run = real(client, *given)
        if told == "the second":
            return real(client, *given)
        if made[tags.get("fatefront.key", run_name)] == 1:
            real(client, *given)
            raise MlflowException("Read timed out")
        return run

    nodes = Folder(tmp_path)
    nodes.done("vanilla", 0, 0.5, 0.2, "baseline")
    nodes.done("vanilla > snnl a", 0, 0.45, 0.1)
    nodes.ledger.close()
    folder = prepare(tmp_path, nodes)
    monkeypatch.setattr(MlflowClient, "create_run", twice)
    uri = default_uri(folder)
    for _ in range(6):  # the sweep, two nodes and two configurations
        with contextlib.suppress(TrackingError):
            sync(folder, uri, final=True, track_models="none")
            break
    append(folder, lambda made: made.ledger.append("finished", stopped="all done"))
    (folder / "tracking.jsonl").unlink()
    for left in ("nothing", "tracking.jsonl"):
        assert sync(folder, uri, final=True, track_models="none")["deleted"] == 0, left
        alive = [run for run in all_runs(uri) if run.info.lifecycle_stage == "active"]
        names = Counter(
            run.data.tags.get("fatefront.key") or run.data.tags.get("fatefront.configuration_key")
            for run in alive
        )
        assert (set(names.values()), len(alive)) == ({1}, len(made))
        assert len({run.data.tags.get("mlflow.parentRunId") for run in alive}) == 2
    assert len(all_runs(uri)) == 2 * len(made)
    for run in all_runs(uri):
        if run.info.lifecycle_stage == "deleted":
            assert run.data.tags["fatefront.double_of"] in {one.info.run_id for one in alive}


def test_a_run_deleted_by_somebody_stays_deleted(folder):
    uri = default_uri(folder)
    sync(folder, uri)
    key = key_of("vanilla > snnl a", 0)
    client_of(uri).delete_run(by_key(uri)[key].info.run_id)
    (folder / "tracking.jsonl").unlink()
    assert sync(folder, uri)["deleted"] == 1
    assert len(all_runs(uri)) == 12
    assert by_key(uri)[key].info.lifecycle_stage == "deleted"


def test_the_sweep_s_run_follows_the_sweep(folder):
    uri = default_uri(folder)
    states = []
    ledger = Ledger(folder).open()
    ledger.append("started", sweep="tiny")
    sync(folder, uri)
    states.append(by_key(uri)["sweep"].info.status)
    ledger.close()  # killed: the lock is free, no last word
    sync(folder, uri)
    states.append(by_key(uri)["sweep"].info.status)
    for event, stopped in (
        ("started", None),
        ("finished", None),
        ("finished", "too many failures"),
    ):
        ledger = Ledger(folder).open()
        ledger.append(event, stopped=stopped)
        sync(folder, uri)
        states.append(by_key(uri)["sweep"].info.status)
        ledger.close()
    assert states == ["RUNNING", "KILLED", "RUNNING", "FINISHED", "FAILED"]


def test_a_wider_sweep_is_logged_beside_its_first_parameters(folder):
    uri = default_uri(folder)
    sync(folder, uri)
    (folder / "sweep.yaml").write_text(tiny_spec(name="tiny", iterations=5).to_yaml())
    sync(folder, uri)
    parent = by_key(uri)["sweep"]
    assert parent.data.params["iterations"] == "1"
    assert parent.data.tags["fatefront.changed_params"] == "iterations"
    (stored,) = (folder / "mlartifacts").rglob("sweep.yaml")
    assert "iterations: 5" in stored.read_text()


def test_final_logs_the_front(folder):
    uri = default_uri(folder)
    sync(folder, uri, final=True, track_models="none")
    runs = by_key(uri)
    members = {key for key, run in runs.items() if run.data.tags.get("fatefront.front") == "true"}
    names = ("vanilla > snnl a", "vanilla > snnl c", "vanilla > none x 1")
    assert members == {key_of(name, seed) for name in names for seed in (0, 1)}
    assert runs["sweep"].data.metrics["num_members"] == 3
    files = {path.name for path in (folder / "mlartifacts").rglob("*") if path.is_file()}
    assert {"front.csv", "front.json", "front.png", "front.pdf"} <= files
    note = runs["sweep"].data.tags["mlflow.note.content"]
    assert runs["sweep"].data.tags["fatefront.headline"] in note
    assert "| vanilla · snnl a | treatment | 0.4 | 0.45 |" in note
    names_of = {run.info.run_name for run in all_runs(uri)}
    assert {"tiny", "vanilla · snnl a · 2 seeds", "vanilla · none · n=1 · seed 0"} <= names_of
    for seed in (0, 1):  # dominates a
        append(folder, lambda made, seed=seed: made.done("vanilla > snnl z", seed, 0.46, 0.05))
    sync(folder, uri, final=True, track_models="none")
    on_front = {n: r.data.metrics["on_front"] for n, r in configurations(uri).items()}
    assert on_front["vanilla > snnl z"] == 1
    assert on_front["vanilla > snnl a"] == 0
    assert runs["sweep"].data.tags["fatefront.headline"].startswith("3 of ")
    marks = {key: run.data.tags.get("fatefront.front") for key, run in by_key(uri).items()}
    assert marks[key_of("vanilla > snnl a", 0)] == "false"
    assert marks[key_of("vanilla > snnl z", 0)] == "true"


def test_two_sweeps_of_one_name_share_an_experiment_not_runs(folder, tmp_path):
    other = tmp_path / "other"
    made = sweep(other)
    made.ledger.close()
    prepare(other, made)
    manifest = json.loads((other / "manifest.json").read_text()) | {"sweep_id": "def456"}
    (other / "manifest.json").write_text(json.dumps(manifest))
    uri = default_uri(folder)
    sync(folder, uri)
    assert sync(other, uri)["created"] == 10
    assert sync(folder, uri)["unchanged"] == 11
    assert len(all_runs(uri)) == 12 + 11


def run_killer(folder: Path, uri: str, final: bool, step: int) -> int:
    command = [sys.executable, "-c", KILLER, str(folder), uri, "final" if final else "", str(step)]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, 4])
def test_sigkill_at_every_few_writes_leaves_one_run_a_node(tmp_path, step):
    made = Folder(tmp_path)
    made.done("vanilla", 0, 0.5, 0.2, "baseline")
    made.done("vanilla > snnl a", 0, 0.45, 0.1)
    made.failed("vanilla > snnl b", 0)
    made.ledger.close()
    uri = default_uri(prepare(tmp_path, made))
    kills = run_killer(tmp_path, uri, False, step)
    assert kills >= 3
    check_nothing_doubled(uri, 3)
    states = {key: run.info.status for key, run in by_key(uri).items()}
    assert Counter(states.values()) == {"FINISHED": 2, "FAILED": 1, "KILLED": 1}
    assert all(
        run.data.tags["fatefront.synced"] == "1"
        for key, run in by_key(uri).items()
        if key != "sweep"
    )
    assert by_key(uri)[key_of("vanilla", 0)].data.metrics["epoch.loss"] == 1.25


def start_follower(folder: Path, uri: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "orchestrator.tracking",
        str(folder),
        "--uri",
        uri,
        "--follow",
    ]
    return subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_sigkill_of_the_tracking_process(folder):
    """Killed while it makes the database, then in the middle of runs; then the sweep ends."""
    uri, lines = default_uri(folder), folder / "tracking.jsonl"
    ledger = Ledger(folder).open()
    ledger.append("started", sweep="tiny")
    draft = folder / ".mlflow.db.draft"
    for moment in (draft.exists, lambda: num_lines(lines) >= 2, lambda: num_lines(lines) >= 9):
        process = start_follower(folder, uri)
        wait_for(moment)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert (
        num_lines(lines) < 23
    )  # the third was killed before it was through: 11 runs, 2 lines each, and the sweep
    process = start_follower(folder, uri)
    wait_for(lambda: num_lines(lines) >= 23)
    ledger.append("finished", stopped="too many failures")
    ledger.close()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out == ""
    check_nothing_doubled(uri, 11)
    assert by_key(uri)["sweep"].info.status == "FAILED"


@pytest.mark.slow
def test_a_killed_tracking_process_has_a_successor_before_the_sweep_is_called_done(folder):
    uri, lines = default_uri(folder), folder / "tracking.jsonl"
    ledger = Ledger(folder).open()
    ledger.append("started", sweep="tiny")
    follower = Follower(folder, uri)
    follower.start()
    wait_for(lambda: num_lines(lines) >= 2)
    follower.process.kill()
    ledger.append("finished", stopped=None)
    ledger.close()
    assert follower.finish() == "done"
    check_nothing_doubled(uri, 11)
    assert by_key(uri)["sweep"].info.status == "FINISHED"


def test_the_tracking_process_ends_with_its_parent(folder):
    """The parent is killed without a word; the follower writes what is there and goes."""
    ledger = Ledger(folder).open()
    ledger.append("started", sweep="tiny")
    ledger.close()
    script = (
        "import pathlib, subprocess, sys; from orchestrator.ledger.records import Ledger; "
        "ledger = Ledger(pathlib.Path(sys.argv[4])).open(); "
        "p = subprocess.Popen(sys.argv[1:], start_new_session=True); "
        "print(p.pid, flush=True); p.wait()"
    )
    command = [
        sys.executable,
        "-m",
        "orchestrator.tracking",
        str(folder),
        "--uri",
        default_uri(folder),
        "--follow",
    ]
    log = (folder / "log").open("w")
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    follower = int(driver.stdout.readline())
    wait_for(lambda: num_lines(folder / "tracking.jsonl") >= 23)
    wait_for(lambda: by_key(default_uri(folder))["sweep"].info.status == "RUNNING")
    driver.kill()
    driver.communicate()
    wait_for(lambda: not alive(follower), 30)
    log.close()
    check_nothing_doubled(default_uri(folder), 11)
    assert by_key(default_uri(folder))["sweep"].info.status == "KILLED"


def alive(pid: int) -> bool:
    """Whether a process that is not our child still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_a_server_that_is_down_is_one_line(folder, capsys):
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError) as raised:
        sync(folder, uri)
    assert "\n" not in str(raised.value)
    assert uri in str(raised.value)
    assert main([str(folder), "--uri", uri]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_tracking_process_tries_again_and_gives_up_at_the_end(folder):
    ledger = Ledger(folder).open()
    ledger.append("started", sweep="tiny")
    process = start_follower(folder, f"http://127.0.0.1:{free_port()}")
    first = process.stderr.readline()
    assert first.startswith("tracking: MLflow at http://127.0.0.1")
    assert first.endswith("; trying again\n")
    assert process.poll() is None
    process.terminate()
    out, _ = process.communicate(timeout=60)
    ledger.close()
    assert (process.returncode, out) == (1, "")


def test_a_database_that_is_none_is_one_line(folder):
    (folder / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        sync(folder, default_uri(folder))


def test_a_folder_without_a_sweep_is_the_user_s_mistake(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err


def test_as_a_program_it_prints_its_counts_and_nothing_else(folder):
    command = [sys.executable, "-m", "orchestrator.tracking", str(folder)]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False
    )
    assert json.loads(done.stdout) == {
        "created": 11,
        "completed": 11,
        "unchanged": 0,
        "deleted": 0,
    }
    assert done.stderr == ""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A real sweep of four tiny nets, finished."""
    base = tmp_path_factory.mktemp("trained")
    run_tiny(base / "sweep", base / "cache", seeds=(0,))
    ledger = Ledger(base / "sweep").open()
    ledger.append("started")
    ledger.append("finished", stopped=None)
    ledger.close()
    return base / "sweep"


def check_model(trained: Path, uri: str, version) -> None:
    """The registered graph gives the logits that the trial stored, for any number of images."""
    import mlflow
    import torch

    from trainables.data.base import VALIDATION
    from trainables.data.load import load_dataset
    from trainables.predictions import Predictions

    mlflow.set_registry_uri(uri)
    mlflow.set_tracking_uri(uri)
    net = mlflow.pytorch.load_model(f"models:/tiny/{version.version}")
    dataset = load_dataset(tiny_spec().data, cache_dir=trained.parent / "cache")
    rows = dataset.indices(VALIDATION)
    image_NCHW = torch.from_numpy(
        dataset.images_NHWC[rows].transpose(0, 3, 1, 2).astype(np.float32) / 255
    )
    store = Store(str(trained / "store"))
    stored = Predictions.from_bytes(store.read(version.tags["key"], "validation.npz"))
    with torch.inference_mode():
        logits_NK = net(image_NCHW).numpy()
        single_NK = net(image_NCHW[:1]).numpy()
    # stored as float16: 11 bits
    np.testing.assert_allclose(
        logits_NK, stored.logits_NK.astype(np.float32), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(single_NK, logits_NK[:1], atol=1e-4)


def test_models_of_the_front_are_logged_without_pickle_and_once(trained):
    uri = default_uri(trained)
    counts = sync(trained, uri, final=True)
    members = {
        key for key, run in by_key(uri).items() if run.data.tags.get("fatefront.front") == "true"
    }
    assert counts["models"] == len(members) >= 1
    assert counts["not_exported"] == 0
    versions = client_of(uri).search_model_versions("name = 'tiny'")
    assert {version.tags["key"] for version in versions} == members
    assert {version.tags["front"] for version in versions} == {"true"}
    check_model(trained, uri, versions[0])
    names = {path.name for path in (trained / "mlartifacts").rglob("*") if path.is_file()}
    assert {"model.pt2", "weights.safetensors", "model.json"} <= names
    assert not any(name.endswith((".pkl", ".pth", ".pickle")) for name in names)
    (report,) = (trained / "mlartifacts").rglob("report.html")
    assert "<h1>Report of tiny</h1>" in report.read_text()
    assert "fatefront.report" not in by_key(uri)["sweep"].data.tags
    statuses = {run.info.status for run in all_runs(uri)}
    again = sync(trained, uri, final=True)
    assert (again["models"], again["completed"]) == (0, 0)
    assert len(client_of(uri).search_model_versions("name = 'tiny'")) == len(members)
    assert {run.info.status for run in all_runs(uri)} == statuses == {"FINISHED"}


def test_the_portable_folder_in_mlflow_loads(trained):
    from trainables.portable import load_portable

    uri = default_uri(trained)
    sync(trained, uri, final=True)
    client = client_of(uri)
    version = client.search_model_versions("name = 'tiny'")[0]
    path = client.download_artifacts(version.run_id, "model")
    assert load_portable(path).card.key == version.tags["key"]


def test_all_models_can_be_tracked_and_the_front_tag_tells_them_apart(trained, tmp_path):
    uri = f"sqlite:///{tmp_path / 'all.db'}"
    assert sync(trained, uri, final=True, track_models="all")["models"] == 4
    versions = client_of(uri).search_model_versions("name = 'tiny'")
    on_front = {
        key for key, run in by_key(uri).items() if run.data.tags.get("fatefront.front") == "true"
    }
    assert {v.tags["key"]: v.tags["front"] for v in versions} == {
        key: str(key in on_front).lower() for key in load_records(trained)
    }


@pytest.mark.slow
def test_a_net_that_cannot_be_traced_leaves_its_weights_and_says_so(tmp_path):
    from trainables.baselines.vanilla import Vanilla
    from trainables.registry import baselines

    @baselines.register("untraceable")
    class Untraceable(Vanilla):
        class Config(Vanilla.Config):
            name: Literal["untraceable"] = "untraceable"

        def logits(self, model, image_NCHW, group_N):
            scale = 1.0 if float(image_NCHW.sum()) > 0 else 2.0  # branches on data: no graph
            return super().logits(model, image_NCHW, group_N) * scale

    run_tiny(
        tmp_path / "sweep", tmp_path / "cache", seeds=(0,), baseline="untraceable", controls=()
    )
    ledger = Ledger(tmp_path / "sweep").open()
    ledger.append("finished", stopped=None)
    ledger.close()
    uri = default_uri(tmp_path / "sweep")
    counts = sync(tmp_path / "sweep", uri, final=True, track_models="all")
    assert (counts["models"], counts["not_exported"]) == (1, 3)
    tags = {run.data.tags.get("fatefront.model", "")[:16] for run in all_runs(uri)}
    assert "safetensors only" in tags
    again = sync(tmp_path / "sweep", uri, final=True, track_models="all")
    assert (again["models"], again["not_exported"]) == (0, 3)


@pytest.mark.slow
def test_sigkill_while_models_are_registered(trained, tmp_path):
    uri = f"sqlite:///{tmp_path / 'killed.db'}"
    sync(trained, uri)
    kills = run_killer(trained, uri, True, 8)
    assert kills >= 1
    client = client_of(uri)
    versions = client.search_model_versions("name = 'tiny'")
    members = {
        key for key, run in by_key(uri).items() if run.data.tags.get("fatefront.front") == "true"
    }
    assert sorted(version.tags["key"] for version in versions) == sorted(members)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    assert len(client.search_logged_models([experiment])) == len(members)
    check_nothing_doubled(uri, 4)


@pytest.mark.slow
def test_a_real_server(trained, tmp_path):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
    ]
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: accepts(port), 90)
        counts = sync(trained, uri, final=True)
        assert counts["created"] == counts["completed"] == 4
        assert counts["models"] >= 1
        again = sync(trained, uri, final=True)
        assert (again["created"], again["completed"], again["models"]) == (0, 0, 0)
        check_nothing_doubled(uri, 4)
        check_model(trained, uri, client_of(uri).search_model_versions("name = 'tiny'")[0])
        assert list((tmp_path / "artifacts").rglob("front.json"))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()
    with pytest.raises(TrackingError):
        sync(trained, uri)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
