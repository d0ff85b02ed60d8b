"""Merging sweeps run elsewhere: real trials, real ledgers, real stores."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from tiny_sweep import DATA, copy_sweep, run_tiny, tiny_spec

from orchestrator.fronts.export import export_sweep
from orchestrator.fronts.front import build_front
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import Ledger, load_records, read_events
from orchestrator.merging.merge import merge_sweeps, render_merge
from orchestrator.merging.spaces import renamed, union
from orchestrator.search.proposals import Proposal, in_space
from orchestrator.search.tree import grid
from orchestrator.status import sweep_status
from search_spaces.words import choice, one_of
from trainables.errors import UserError
from trainables.store import Store, node_text

SCHEMA = Path(__file__).resolve().parents[2] / "orchestrator/schemas/merge.json"
SNNL = {"criterion": "snnl", "ratio": choice(0.1, 0.3), "site": "conv"}
RANDOM = {"criterion": "random", "ratio": choice(0.3), "site": "conv"}


def merge(folders, into, **options):
    document = merge_sweeps(folders, into, **options)
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert f"{document['num_new']} new results" in render_merge(document)
    return document


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seed 0, seed 1, and another arm of seed 0 that shares its root and control with the
    first."""
    base = tmp_path_factory.mktemp("shards")
    run_tiny(base / "a", base / "cache", seeds=(0,), prune=SNNL)
    run_tiny(base / "b", base / "cache", seeds=(1,), prune=SNNL)
    run_tiny(base / "c", base / "cache", seeds=(0,), prune=RANDOM)
    yield base
    shutil.rmtree(base)


@pytest.fixture(autouse=True)
def _give_back_the_disk(tmp_path):
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def whole(shards):
    """What one sweep over both seeds computes."""
    run_tiny(shards / "whole", shards / "cache", seeds=(0, 1), prune=SNNL)
    return load_records(shards / "whole")


def results(records):
    return {key: record["result"] for key, record in records.items() if record["status"] == "done"}


def test_two_seed_shards_equal_one_sweep(shards, whole, tmp_path):
    document = merge([shards / "a", shards / "b"], tmp_path / "m")
    merged = load_records(tmp_path / "m")
    assert results(merged) == results(whole)
    assert {k: r["fate"] for k, r in merged.items()} == {k: r["fate"] for k, r in whole.items()}
    assert document["conflicts"] == []
    assert document["seeds"] == [0, 1]
    assert document["num_new"] == document["num_done"] == len(whole) == 8
    assert document["num_nodes_copied"] == 8
    assert read_manifest(tmp_path / "m")["sweep_id"] != read_manifest(shards / "a")["sweep_id"]
    store = Store(str(tmp_path / "m/store"))
    for key, record in merged.items():
        node = store.node(key)
        assert node["model"]["weights_sha256"] == record["result"]["model"]["weights_sha256"]
        assert all(len(store.read(key, name)) for name in node["files"])
        assert "/sealed/" in f"/{node['files']['test.npz']['path']}"


def test_a_merged_sweep_can_be_exported(shards, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(shards / "cache"))
    merge([shards / "b", shards / "a"], tmp_path / "m")
    document = export_sweep(tmp_path / "m", tmp_path / "out")
    front = build_front(whole, ("fate_eodd_hardt", "f1"))
    assert [row["f1"] for row in document["members"]] == [m.values[1] for m in front.members]
    assert all(row["num_seeds"] == row["test_num_seeds"] == 2 for row in document["members"])
    assert document["missing_models"] == []
    assert sweep_status(tmp_path / "m")["sweep"] == "tiny"


def test_merging_again_changes_nothing(shards, tmp_path):
    merge([shards / "a", shards / "b"], tmp_path / "m")
    before = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    document = merge([shards / "a", shards / "b"], tmp_path / "m")
    after = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert before == after
    assert document["num_new"] == document["num_nodes_copied"] == 0


def test_one_after_the_other_gives_the_same_records(shards, tmp_path):
    merge([shards / "a", shards / "b", shards / "c"], tmp_path / "at_once")
    for name in "abc":
        merge([shards / name], tmp_path / "in_turn")
    ours, theirs = (load_records(tmp_path / name) for name in ("at_once", "in_turn"))
    assert results(ours) == results(theirs)
    assert (tmp_path / "at_once/sweep.yaml").read_text() == (
        tmp_path / "in_turn/sweep.yaml"
    ).read_text()


def test_arms_that_differ_become_one_of_and_the_sweep_goes_on(shards, tmp_path):
    """After the merge the driver finds every node, and computes only what no shard had."""
    merge([shards / "a", shards / "b", shards / "c"], tmp_path / "m")
    spec = read_sweep(tmp_path / "m")
    assert spec.prune == one_of(SNNL, RANDOM)
    assert spec.seeds == (0, 1)
    proposals = [
        Proposal.from_event(event)
        for event in read_events(tmp_path / "m")
        if event["event"] == "proposal"
    ]
    assert [p.number for p in proposals] == [0, 1, 2]
    assert all(in_space(spec, p) for p in proposals)
    before = load_records(tmp_path / "m")
    assert len(before) == 9  # two roots, two controls, two snnl arms of two seeds, one random arm
    run_tiny(tmp_path / "m", shards / "cache", seeds=spec.seeds, prune=spec.prune)
    after = load_records(tmp_path / "m")
    new = set(after) - set(before)
    assert [(after[k]["trial"]["criterion"], after[k]["trial"]["seed"]) for k in new] == [
        ("random", 1)
    ]
    assert results(before).items() <= results(after).items()


@pytest.mark.slow
def test_without_weights_records_stay_and_children_can_be_computed(shards, tmp_path):
    document = merge([shards / "a"], tmp_path / "m", weights=False)
    assert (document["num_nodes_copied"], document["num_without_weights"]) == (0, 4)
    records = load_records(tmp_path / "m")
    assert results(records) == results(load_records(shards / "a"))
    assert not list(tmp_path.rglob("*.safetensors"))
    run_tiny(tmp_path / "m", shards / "cache", seeds=(0,), prune=SNNL, iterations=2)
    deeper = load_records(tmp_path / "m")
    assert sorted(r["trial"]["n"] for r in deeper.values()) == [0, 1, 1, 1, 2, 2, 2]
    later = merge([shards / "a"], tmp_path / "m")
    assert later["num_new"] == 0
    assert later["problems"] == []
    store = Store(str(tmp_path / "m/store"))
    assert all(store.has(key) for key in records)


def copy_of(shards, name, to):
    """A shard as it would come from another host: its folder was moved."""
    copy_sweep(shards / name, to)
    manifest = read_manifest(to)
    (to / "manifest.json").write_text(json.dumps(manifest | {"store": "/nowhere/store"}))
    return to


def rewrite(folder, change):
    lines = [change(event) for event in read_events(folder)]
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines if e))


def test_a_moved_folder_finds_its_store(shards, tmp_path):
    moved = copy_of(shards, "a", tmp_path / "moved")
    assert merge([moved], tmp_path / "m")["num_nodes_copied"] == 4


def test_conflicting_results_are_reported_with_both_hashes(shards, tmp_path):
    """As after a recomputation on another GPU: same key, other weights."""
    other = copy_of(shards, "a", tmp_path / "other")
    key = next(k for k, r in load_records(other).items() if r["trial"]["criterion"] == "snnl")

    def change(event):
        if event.get("key") == key and event["event"] == "done":
            event["result"]["model"]["weights_sha256"] = "f" * 64
            event["time"] += 1
        return event

    rewrite(other, change)
    document = merge([other, shards / "a"], tmp_path / "m")
    (conflict,) = document["conflicts"]
    first = load_records(shards / "a")[key]["result"]["model"]["weights_sha256"]
    assert conflict["key"] == key
    assert conflict["kept"] == str(shards / "a")
    assert conflict["weights_sha256"] == {str(other): "f" * 64, str(shards / "a"): first}
    assert load_records(tmp_path / "m")[key]["result"]["model"]["weights_sha256"] == first
    assert merge([other, shards / "a"], tmp_path / "m")["conflicts"][0]["kept"] == str(
        tmp_path / "m"
    )


def test_success_beats_failure_and_failures_are_kept(shards, tmp_path):
    other = copy_of(shards, "a", tmp_path / "other")
    keys = [k for k, r in load_records(other).items() if r["trial"]["criterion"] == "snnl"]

    def fail(event):
        if event.get("key") in keys and event["event"] == "done":
            error = {
                "type": "TrainingError",
                "reason": "train_loss is nan",
                "infrastructure": False,
            }
            event |= {"event": "failed", "error": error}
            del event["result"]
        return event

    rewrite(other, fail)
    document = merge([other], tmp_path / "m")
    assert document["num_failed"] == len(keys) == 2
    assert load_records(tmp_path / "m")[keys[0]]["error"]["reason"] == "train_loss is nan"
    document = merge([shards / "a"], tmp_path / "m")
    assert (document["num_failed"], document["num_new"]) == (0, 2)
    assert results(load_records(tmp_path / "m")) == results(load_records(shards / "a"))
    assert merge([other], tmp_path / "m")["num_new"] == 0


def test_openings_travel_and_come_before_what_was_computed_after(shards, tmp_path):
    other = copy_of(shards, "a", tmp_path / "other")
    keys = list(load_records(other))
    done = [event for event in read_events(other) if event["event"] == "done"]
    ledger = Ledger(other).open()
    ledger.append("test_opened", keys=keys[:1], time=done[1]["time"] + 0.0001)
    ledger.close()
    merge([other], tmp_path / "m")
    merge([other], tmp_path / "m")
    kinds = [
        e["event"] for e in read_events(tmp_path / "m") if e["event"] in ("done", "test_opened")
    ]
    assert kinds == ["done", "done", "test_opened", "done", "done"]


def test_damaged_files_are_named_and_their_records_stay(shards, tmp_path):
    other = copy_of(shards, "a", tmp_path / "other")
    key = next(iter(load_records(other)))
    store = Store(str(other / "store"))
    path = Path(store.folder(key)) / store.node(key)["files"]["weights.safetensors"]["path"]
    path.unlink()
    path.write_bytes(b"damaged")
    document = merge([other], tmp_path / "m")
    assert document["without_weights"] == [key]
    assert "damaged" in document["problems"][0]
    assert load_records(tmp_path / "m")[key]["status"] == "done"
    healed = merge([shards / "a"], tmp_path / "m")
    assert (healed["num_nodes_copied"], healed["problems"]) == (1, [])


def test_a_store_from_elsewhere_writes_nowhere_else(shards, tmp_path):
    other = copy_of(shards, "a", tmp_path / "other")
    key = next(iter(load_records(other)))
    store = Store(str(other / "store"))
    path = Path(store.folder(key)) / "node.json"
    node = json.loads(path.read_text())
    node["files"]["weights.safetensors"]["path"] = "../../../../../escaped"
    path.unlink()
    path.write_bytes(node_text(node))
    assert key in merge([other], tmp_path / "m")["problems"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DATA.model_copy(update={"num_images": 91})}, "other data "),
        ({"finetune": {"epochs": 0, "normalise": "imagenet"}}, "finetune .*epochs: 0, not 1"),
        ({"backbone": {"name": "resnet18", "weights": "imagenet"}}, "other backbone .*imagenet"),
    ],
)
def test_sweeps_that_cannot_stand_on_one_front_are_refused(shards, tmp_path, changes, message):
    other = copy_of(shards, "a", tmp_path / "other")
    spec = tiny_spec(seeds=(0,), prune=SNNL, **changes)
    (other / "sweep.yaml").write_text(spec.to_yaml())
    if "data" in changes:
        manifest = read_manifest(other)
        manifest["data"]["fingerprint"] = "0" * 64
        (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message) as caught:
        merge_sweeps([shards / "b", other], tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_mistakes(shards, tmp_path):
    with pytest.raises(UserError, match="no sweep in"):
        merge_sweeps([tmp_path / "none"], tmp_path / "m")
    with pytest.raises(UserError, match="at least one sweep folder beside"):
        merge_sweeps([shards / "a"], shards / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"neither empty nor a sweep folder \(it has thesis.tex\)"):
        merge_sweeps([shards / "a"], tmp_path / "full")
    merge([shards / "a"], tmp_path / "m")
    ledger = Ledger(tmp_path / "m").open()
    with pytest.raises(UserError, match="at work"):
        merge_sweeps([shards / "b"], tmp_path / "m")
    ledger.close()


@pytest.mark.parametrize(
    "prunes",
    [
        (SNNL, RANDOM),
        (one_of(SNNL, "none"), one_of(RANDOM, SNNL)),
        (choice("snnl", "random"), SNNL),
        (one_of("snnl"), one_of({"name": "snnl", "ratio": choice(0.2, 0.4)}, "random")),
    ],
)
def test_every_parameter_is_renamed_to_its_place_in_the_union(prunes):
    specs = [tiny_spec(prune=prune, controls=()) for prune in prunes]
    joined, renamings = union(specs)
    whole = {configuration.key for _, configuration in grid(joined)}
    for spec, renaming in zip(specs, renamings, strict=True):
        for number, (parameters, configuration) in enumerate(grid(spec)):
            event = Proposal(number, parameters, configuration, "grid").event()
            assert in_space(joined, Proposal.from_event(renamed(event, renaming)))
            assert configuration.key in whole
    assert union([joined, *specs])[0] == joined


def test_predictions_are_merged_where_the_weights_are_gone(shards, tmp_path):
    """A host that is wiped sends home what is small: records, predictions, no weights."""
    source = copy_sweep(shards / "a", tmp_path / "light")
    store = Store(str(source / "store"))
    manifest = read_manifest(source) | {"store": store.uri}
    (source / "manifest.json").write_text(json.dumps(manifest))
    weights = list((source / "store").rglob("*.safetensors"))
    for path in weights:
        path.unlink()
    done = [key for key, r in load_records(source).items() if r["status"] == "done"]
    into = tmp_path / "merged"
    document = merge([source], into)
    merged = Store(str(into / "store"))
    assert len(weights) == len(done) > 0
    assert document["problems"] == []
    assert sorted(document["without_weights"]) == sorted(done)
    for key in done:
        assert merged.read(key, "validation.npz") == store.read(key, "validation.npz")
    # with the whole store beside it, everything comes
    both = merge([source, shards / "a"], tmp_path / "both")
    assert both["without_weights"] == []
    assert (into / "images.npz").read_bytes() == (shards / "a/images.npz").read_bytes()
